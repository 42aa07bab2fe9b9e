//! One message of a generic family.

use std::convert::Infallible;

use netlink_packet_core::{Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};

use crate::netlink::Attributes;

/// `struct genlmsghdr` (linux/genetlink.h): command, version, two reserved bytes.
const HEADER: usize = 4;

/// A command with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GenericMessage {
    pub(super) family: u16,
    pub(super) command: u8,
    pub(super) version: u8,
    pub(crate) attributes: Attributes,
}

impl NetlinkSerializable for GenericMessage {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(HEADER);
        header.copy_from_slice(&[self.command, self.version, 0, 0]);
        self.attributes.emit(attributes);
    }
}

impl NetlinkDeserializable for GenericMessage {
    type Error = Infallible;

    /// A message without a header has command 0, which no family uses, and no attributes.
    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        let byte = |place: usize| payload.get(place).copied().unwrap_or_default();
        Ok(Self {
            family: header.message_type,
            command: byte(0),
            version: byte(1),
            attributes: Attributes::parse(payload.get(HEADER..).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};

    use super::*;

    /// `strace -e trace=sendmsg -e write=all devlink dev show` (iproute2 6.1) asks for its family with these bytes, the
    /// sequence number apart.
    #[test]
    fn a_request_for_a_family_has_the_layout_of_the_uapi_header() {
        let message = GenericMessage {
            family: 16,
            command: 3,
            version: 1,
            attributes: Attributes::default().with_text(2, "devlink"),
        };
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message.clone()));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        #[rustfmt::skip]
        let expected = [
            32, 0, 0, 0,  16, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            3, 1, 0, 0,
            12, 0, 2, 0,  b'd', b'e', b'v', b'l', b'i', b'n', b'k', 0,
        ];
        assert_eq!(bytes, expected);
        let parsed = NetlinkMessage::<GenericMessage>::deserialize(&bytes).unwrap();
        assert_eq!(parsed.payload, NetlinkPayload::InnerMessage(message));
    }
}
