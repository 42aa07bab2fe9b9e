//! RDMA netlink messages. No crate knows this family, so the wire format is here: a command and flat attributes.

use std::convert::Infallible;

use netlink_packet_core::{
    DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Nla, NlasIterator, parse_string,
    parse_u8, parse_u32,
};

/// `RDMA_NL_NLDEV` (rdma/rdma_netlink.h): the client whose commands these are; it is the upper part of the type.
const RDMA_NL_NLDEV: u16 = 5;
/// Bits below the client in a message type (`RDMA_NL_GET_TYPE`, rdma/rdma_netlink.h).
const CLIENT_SHIFT: u16 = 10;

/// `enum rdma_nldev_command` (rdma/rdma_netlink.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command(pub(super) u16);

impl Command {
    pub(super) const GET: Self = Self(1);
    pub(super) const SET: Self = Self(2);
    pub(super) const NEWLINK: Self = Self(3);
    pub(super) const DELLINK: Self = Self(4);
    pub(super) const PORT_GET: Self = Self(5);
    pub(super) const SYS_GET: Self = Self(6);
}

/// `enum rdma_nldev_attr` (rdma/rdma_netlink.h).
pub(super) mod attribute {
    pub(in crate::rdma) const DEV_INDEX: u16 = 1;
    pub(in crate::rdma) const DEV_NAME: u16 = 2;
    pub(in crate::rdma) const PORT_INDEX: u16 = 3;
    pub(in crate::rdma) const PORT_STATE: u16 = 12;
    pub(in crate::rdma) const NDEV_INDEX: u16 = 50;
    pub(in crate::rdma) const NDEV_NAME: u16 = 51;
    pub(in crate::rdma) const LINK_TYPE: u16 = 65;
    pub(in crate::rdma) const NETNS_MODE: u16 = 66;
    pub(in crate::rdma) const NET_NS_FD: u16 = 68;
}

/// One message. Attributes keep their bytes; those that nobody asks for are never looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RdmaMessage {
    command: Command,
    attributes: Vec<DefaultNla>,
}

impl RdmaMessage {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            attributes: Vec::new(),
        }
    }

    pub(super) fn with_u32(mut self, kind: u16, value: u32) -> Self {
        self.attributes
            .push(DefaultNla::new(kind, value.to_ne_bytes().to_vec()));
        self
    }

    pub(super) fn with_text(mut self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attributes.push(DefaultNla::new(kind, bytes));
        self
    }

    pub(super) fn u8(&self, kind: u16) -> Option<u8> {
        parse_u8(&self.value(kind)?).ok()
    }

    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        parse_u32(&self.value(kind)?).ok()
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        parse_string(&self.value(kind)?).ok()
    }

    pub(super) fn value(&self, kind: u16) -> Option<Vec<u8>> {
        let attribute = self.attributes.iter().find(|attribute| attribute.kind() == kind)?;
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        Some(value)
    }
}

impl NetlinkSerializable for RdmaMessage {
    fn message_type(&self) -> u16 {
        (RDMA_NL_NLDEV << CLIENT_SHIFT) + self.command.0
    }

    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl NetlinkDeserializable for RdmaMessage {
    type Error = Infallible;

    /// Takes what is readable: an attribute that is cut off ends the list, and what is missing is missed by its reader.
    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self {
            command: Command(header.message_type & ((1 << CLIENT_SHIFT) - 1)),
            attributes: NlasIterator::new(payload)
                .map_while(Result::ok)
                .map(|attribute| DefaultNla::new(attribute.kind(), attribute.value().to_vec()))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use proptest::prelude::*;

    use super::*;

    fn bytes(message: RdmaMessage) -> Vec<u8> {
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    /// `strace -e trace=sendmsg,sendto rdma link add rxe0 type rxe netdev eth0` sends the same attributes.
    #[test]
    fn a_soft_roce_request_has_the_layout_of_the_uapi_header() {
        let message = RdmaMessage::new(Command::NEWLINK)
            .with_text(attribute::DEV_NAME, "rxe0")
            .with_text(attribute::LINK_TYPE, "rxe")
            .with_text(attribute::NDEV_NAME, "eth0");
        #[rustfmt::skip]
        let expected = [
            48, 0, 0, 0,  3, 20, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
            9, 0, 2, 0,  b'r', b'x', b'e', b'0',  0, 0, 0, 0,
            8, 0, 65, 0,  b'r', b'x', b'e', 0,
            9, 0, 51, 0,  b'e', b't', b'h', b'0',  0, 0, 0, 0,
        ];
        assert_eq!(bytes(message), expected);
    }

    #[test]
    fn a_message_survives_the_wire() {
        let message = RdmaMessage::new(Command::PORT_GET)
            .with_u32(attribute::DEV_INDEX, 7)
            .with_text(attribute::NDEV_NAME, "rail0");
        let parsed = NetlinkMessage::<RdmaMessage>::deserialize(&bytes(message.clone())).unwrap();
        assert_eq!(parsed.payload, NetlinkPayload::InnerMessage(message));
    }

    proptest! {
        #[test]
        fn no_payload_makes_the_parser_panic(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut header = NetlinkHeader::default();
            header.message_type = (RDMA_NL_NLDEV << CLIENT_SHIFT) + Command::GET.0;
            let Ok(message) = RdmaMessage::deserialize(&header, &payload);
            for kind in 0..70 {
                let _ = (message.u8(kind), message.u32(kind), message.text(kind));
            }
        }
    }
}
