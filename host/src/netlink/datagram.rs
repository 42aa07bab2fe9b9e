//! What a kernel's answers say, datagram by datagram: pure, so that it can be tried with any bytes.

use std::fmt::Display;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlasIterator, Parseable,
};
use nix::errno::Errno;

use super::NetlinkError;

/// `struct nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG` (linux/netlink.h): the text of an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What has been read of the answer to one request.
#[derive(Debug)]
pub(crate) struct Answers<'a, M> {
    request: &'a str,
    sequence: u32,
    /// The objects in it.
    pub(crate) messages: Vec<M>,
    /// The kernel says that what it listed changed meanwhile.
    pub(crate) interrupted: bool,
}

impl<'a, M: NetlinkDeserializable> Answers<'a, M> {
    /// Nothing yet of the answer to the request with this sequence number; `request` is what errors call it.
    pub(crate) fn new(request: &'a str, sequence: u32) -> Self {
        Self {
            request,
            sequence,
            messages: Vec::new(),
            interrupted: false,
        }
    }

    /// Reads one datagram. Says whether the answer ends with it: an acknowledgement, or the end of a dump.
    pub(crate) fn take(&mut self, datagram: &[u8]) -> Result<bool, NetlinkError> {
        let request = self.request;
        let mut rest = datagram;
        while rest.len() >= HEADER {
            let length = message_length(rest).ok_or_else(|| malformed(request, "a length that is not there"))?;
            let (message, header) = parse::<M>(request, &rest[..length], self.sequence)?;
            rest = &rest[rest.len().min(length.next_multiple_of(4))..];
            let Some(message) = message else { continue };
            self.interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match message {
                NetlinkPayload::InnerMessage(answer) => self.messages.push(answer),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        None => Ok(true),
                        Some(_) => Err(refused(request, &error, header.flags)),
                    };
                }
                NetlinkPayload::Done(done) if done.code == 0 => return Ok(true),
                NetlinkPayload::Done(done) => {
                    return Err(NetlinkError::Refused {
                        request: request.to_owned(),
                        errno: Errno::from_raw(done.code.saturating_abs()),
                        text: None,
                    });
                }
                NetlinkPayload::Overrun(_) => return Err(malformed(request, "data was lost")),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The length that the first message of `bytes` claims, if that many bytes are there.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (HEADER..=bytes.len()).contains(&length).then_some(length)
}

/// Parses one message; `None` when it answers an earlier request of this socket.
#[allow(clippy::type_complexity)] // A pair of what the caller matches on.
fn parse<M: NetlinkDeserializable>(
    request: &str,
    bytes: &[u8],
    sequence: u32,
) -> Result<(Option<NetlinkPayload<M>>, NetlinkHeader), NetlinkError> {
    let buffer = NetlinkBuffer::new_checked(&bytes).map_err(|error| malformed(request, error))?;
    let header = NetlinkHeader::parse(&buffer).map_err(|error| malformed(request, error))?;
    if header.sequence_number != sequence {
        return Ok((None, header));
    }
    NetlinkMessage::<M>::deserialize(bytes)
        .map(|message| (Some(message.payload), header))
        .map_err(|error| malformed(request, error))
}

fn refused(request: &str, error: &ErrorMessage, flags: u16) -> NetlinkError {
    NetlinkError::Refused {
        request: request.to_owned(),
        errno: Errno::from_raw(error.raw_code().saturating_abs()),
        text: kernel_text(&error.header, flags),
    }
}

/// The kernel's own words behind a refusal: attributes after our own header (and our own payload, unless it was capped).
fn kernel_text(answer: &[u8], flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let start = if flags & NLM_F_CAPPED == 0 {
        message_length(answer)?.next_multiple_of(4)
    } else {
        HEADER
    };
    NlasIterator::new(answer.get(start..)?)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .and_then(|attribute| netlink_packet_core::parse_string(attribute.value()).ok())
        .map(|text| cut(&text))
}

/// An answer that makes no sense.
pub(super) fn malformed(request: &str, detail: impl Display) -> NetlinkError {
    NetlinkError::Malformed {
        request: request.to_owned(),
        detail: cut(&detail.to_string()),
    }
}

/// What is to be read in a message: errors of the parser quote the bytes that they met, all of them.
fn cut(text: &str) -> String {
    text.chars().take(256).collect()
}
