//! The socket.

use std::{
    fmt::{Debug, Display},
    io,
    marker::PhantomData,
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::SocketAddr;
use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::{TimeVal, TimeValLike},
    },
};

use super::NetlinkError;

/// Room for one datagram. A PF with 256 VFs answers with some 60 KiB; pages that are never written cost nothing.
const DATAGRAM: usize = 1 << 18;
/// `struct nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG` (linux/netlink.h): the text of an extended acknowledgement.
const NLMSGERR_ATTR_MSG: u16 = 1;
/// `MSG_TRUNC` (linux/socket.h): say how long a datagram really was.
const MSG_TRUNC: i32 = 0x20;
/// A kernel answers at once; a request that waits longer is lost.
const ANSWER_SECONDS: i64 = 10;
/// How long a dump that changed under our hands is read again, and the longest pause between two tries. The first pauses
/// are shorter: most disturbances are one link that moves.
const DUMP_PATIENCE: Duration = Duration::from_secs(5);
const DUMP_PAUSE: Duration = Duration::from_millis(64);

/// A blocking socket of one netlink family whose messages are `M`.
#[derive(Debug)]
pub(crate) struct Socket<M> {
    inner: netlink_sys::Socket,
    sequence: u32,
    /// The last datagram. It is kept, since room of this size is mapped and unmapped each time that it is asked for.
    datagram: Vec<u8>,
    messages: PhantomData<fn(M) -> M>,
}

impl<M: NetlinkSerializable + NetlinkDeserializable + Clone + Debug> Socket<M> {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open(family: isize) -> Result<Self, NetlinkError> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(family)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            setsockopt(&socket.as_fd(), ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
            // Both only make errors better; kernels before 4.12 lack them.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            if family == netlink_sys::protocols::NETLINK_ROUTE {
                // Filters in dump requests are honoured, or the request is refused.
                let _ = socket.set_netlink_get_strict_chk(true);
            }
            Ok(socket)
        };
        Ok(Self {
            inner: open().map_err(|source| NetlinkError::Open { source })?,
            sequence: 0,
            datagram: Vec::new(),
            messages: PhantomData,
        })
    }

    /// Sends a request that changes something and waits for the acknowledgement.
    pub(crate) fn change(&mut self, request: &str, message: M, flags: u16) -> Result<(), NetlinkError> {
        self.send(request, message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.answers(request).map(drop)
    }

    /// Asks for one object.
    pub(crate) fn get(&mut self, request: &str, message: M) -> Result<M, NetlinkError> {
        self.send(request, message, NLM_F_REQUEST | NLM_F_ACK)?;
        let (answers, _) = self.answers(request)?;
        answers
            .into_iter()
            .next()
            .ok_or_else(|| malformed(request, "no object in it"))
    }

    /// Asks for all objects; a dump that the kernel marks as interrupted is read again.
    pub(crate) fn dump(&mut self, request: &str, message: &M) -> Result<Vec<M>, NetlinkError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut tries = 0;
        loop {
            self.send(request, message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let (answers, interrupted) = self.answers(request)?;
            if !interrupted {
                return Ok(answers);
            }
            tries += 1;
            if start.elapsed() >= DUMP_PATIENCE {
                return Err(NetlinkError::Interrupted {
                    request: request.to_owned(),
                    tries,
                });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(DUMP_PAUSE);
        }
    }

    fn send(&mut self, request: &str, message: M, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.inner
            .send(&bytes, 0)
            .map(drop)
            .map_err(|source| transfer(request, source))
    }

    /// Reads until the acknowledgement, the end of the dump or an error. Says whether the dump was interrupted.
    fn answers(&mut self, request: &str) -> Result<(Vec<M>, bool), NetlinkError> {
        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive(request)?;
            let mut rest = self.datagram.as_slice();
            while rest.len() >= HEADER {
                let length = message_length(rest).ok_or_else(|| malformed(request, "a length that is not there"))?;
                let (message, header) = parse::<M>(request, &rest[..length], self.sequence)?;
                rest = &rest[rest.len().min(length.next_multiple_of(4))..];
                let Some(message) = message else { continue };
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match message {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok((answers, interrupted)),
                            Some(_) => Err(refused(request, &error, header.flags)),
                        };
                    }
                    NetlinkPayload::Done(done) if done.code == 0 => {
                        return Ok((answers, interrupted));
                    }
                    NetlinkPayload::Done(done) => {
                        return Err(NetlinkError::Refused {
                            request: request.to_owned(),
                            errno: Errno::from_raw(done.code.saturating_abs()),
                            text: None,
                        });
                    }
                    NetlinkPayload::Overrun(_) => {
                        return Err(malformed(request, "data was lost"));
                    }
                    _ => {}
                }
            }
        }
    }

    fn receive(&mut self, request: &str) -> Result<(), NetlinkError> {
        self.datagram
            .reserve_exact(DATAGRAM.saturating_sub(self.datagram.len()));
        loop {
            self.datagram.clear();
            match self.inner.recv_from(&mut self.datagram, MSG_TRUNC) {
                Ok((length, _)) if length > DATAGRAM => {
                    return Err(malformed(request, "longer than the receive buffer"));
                }
                // Port 0 is the kernel; any process may send to our port.
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(transfer(request, source)),
            }
        }
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
    use netlink_packet_core::Parseable;
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
}

fn transfer(request: &str, source: io::Error) -> NetlinkError {
    NetlinkError::Transfer {
        request: request.to_owned(),
        source,
    }
}

fn malformed(request: &str, detail: impl Display) -> NetlinkError {
    NetlinkError::Malformed {
        request: request.to_owned(),
        detail: format!("{detail}"),
    }
}
