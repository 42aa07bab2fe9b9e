//! Devlink: what only it tells of a port. Generic netlink with one family, so the little of the wire format that is needed is
//! here (linux/genetlink.h, linux/devlink.h).

use std::convert::Infallible;

use netlink_packet_core::{
    DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Nla, NlasIterator, parse_u16,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

use crate::{
    PciAddress,
    netlink::{NetlinkError, Socket},
};

/// `GENL_ID_CTRL`: the family that knows the numbers of the others.
const CONTROL: u16 = 0x10;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME`.
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `DEVLINK_GENL_NAME`.
const DEVLINK: &str = "devlink";
/// `DEVLINK_CMD_ESWITCH_GET`.
const ESWITCH_GET: u8 = 29;
/// `DEVLINK_ATTR_BUS_NAME`, `DEVLINK_ATTR_DEV_NAME`, `DEVLINK_ATTR_ESWITCH_MODE`.
const BUS_NAME: u16 = 1;
const DEV_NAME: u16 = 2;
const ESWITCH_MODE: u16 = 25;
/// `DEVLINK_ESWITCH_MODE_LEGACY`; the others are forms of switchdev.
const LEGACY: u16 = 0;
/// `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// Who decides what a port does with the frames of its VFs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EswitchMode {
    /// The PF's settings of its VFs.
    Legacy,
    /// A switch in software, through representors.
    Switchdev,
    /// The host may not ask. mlx5 says so of a port whose eswitch belongs to the DPU that it is on (`mlx5_eswitch_check`,
    /// drivers/net/ethernet/mellanox/mlx5/core/eswitch.c). Some kernels answer EOPNOTSUPP there, as for a driver without
    /// eswitch; then the first setting of a VF is refused with EPERM (`mlx5_esw_allowed`).
    NotOurs,
}

/// A socket for devlink requests.
#[derive(Debug)]
pub struct DevlinkSocket {
    socket: Socket<GenericMessage>,
    family: u16,
}

impl DevlinkSocket {
    /// Opens a socket in the namespace of the calling thread; `None` where the kernel has no devlink.
    pub fn open() -> Result<Option<Self>, NetlinkError> {
        let mut socket = Socket::open(NETLINK_GENERIC)?;
        let question = GenericMessage::new(CONTROL, GET_FAMILY).with_text(FAMILY_NAME, DEVLINK);
        let answer = match socket.get("look for the devlink family", question) {
            Ok(answer) => answer,
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(answer.u16(FAMILY_ID).map(|family| Self { socket, family }))
    }

    /// The mode of a port's eswitch; `None` where its driver has none to speak of.
    pub fn eswitch_mode(&mut self, port: &PciAddress) -> Result<Option<EswitchMode>, NetlinkError> {
        let question = GenericMessage::new(self.family, ESWITCH_GET)
            .with_text(BUS_NAME, "pci")
            .with_text(DEV_NAME, port.as_str());
        match self.socket.get(&format!("read the eswitch mode of {port}"), question) {
            Ok(answer) => Ok(answer.u16(ESWITCH_MODE).map(|mode| match mode {
                LEGACY => EswitchMode::Legacy,
                _ => EswitchMode::Switchdev,
            })),
            Err(error) if error.errno() == Some(Errno::EPERM) => Ok(Some(EswitchMode::NotOurs)),
            // No devlink device; no eswitch; mlx5 while it has no VFs.
            Err(error) if error.is_gone() || matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::EINVAL)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// One message of any generic family.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GenericMessage {
    family: u16,
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl GenericMessage {
    fn new(family: u16, command: u8) -> Self {
        Self {
            family,
            command,
            attributes: Vec::new(),
        }
    }

    fn with_text(mut self, kind: u16, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attributes.push(DefaultNla::new(kind, bytes));
        self
    }

    fn u16(&self, kind: u16) -> Option<u16> {
        let attribute = self.attributes.iter().find(|attribute| attribute.kind() == kind)?;
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        parse_u16(&value).ok()
    }
}

impl NetlinkSerializable for GenericMessage {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        GENERIC_HEADER + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // Version 1 of both families.
        buffer[..GENERIC_HEADER].copy_from_slice(&[self.command, 1, 0, 0]);
        self.attributes.as_slice().emit(&mut buffer[GENERIC_HEADER..]);
    }
}

impl NetlinkDeserializable for GenericMessage {
    type Error = Infallible;

    /// Takes what is readable, and what is missing is missed by its reader.
    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        use netlink_packet_core::Parseable;
        let attributes = payload.get(GENERIC_HEADER..).unwrap_or_default();
        Ok(Self {
            family: header.message_type,
            command: payload.first().copied().unwrap_or_default(),
            attributes: NlasIterator::new(attributes)
                .map_while(Result::ok)
                .filter_map(|attribute| DefaultNla::parse(&attribute).ok())
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generic header, bus, device, mode switchdev; the layout of linux/netlink.h with the numbers of linux/devlink.h.
    #[test]
    fn an_answer_is_read_as_the_kernel_lays_it_out() {
        let mut answer = vec![ESWITCH_GET, 1, 0, 0];
        answer.extend(*b"\x08\x00\x01\x00pci\0");
        answer.extend(*b"\x11\x00\x02\x000000:18:00.0\0\0\0\0");
        answer.extend([6, 0, 25, 0, 1, 0, 0, 0]);
        let message = GenericMessage::deserialize(&NetlinkHeader::default(), &answer).unwrap();
        assert_eq!(message.u16(ESWITCH_MODE), Some(1));
        assert_eq!(message.u16(99), None);
        let cut = GenericMessage::deserialize(&NetlinkHeader::default(), &answer[..answer.len() - 6]).unwrap();
        assert_eq!(cut.u16(ESWITCH_MODE), None);
        assert_eq!(
            GenericMessage::deserialize(&NetlinkHeader::default(), &[])
                .unwrap()
                .command,
            0
        );
    }

    #[test]
    fn a_question_has_the_generic_header_in_front_of_its_attributes() {
        let message = GenericMessage::new(20, ESWITCH_GET).with_text(BUS_NAME, "pci");
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        assert_eq!(bytes, *b"\x1d\x01\x00\x00\x08\x00\x01\x00pci\0");
    }

    /// This kernel, whatever it has.
    #[test]
    fn a_device_that_devlink_does_not_know_has_no_mode() {
        if let Some(mut devlink) = DevlinkSocket::open().unwrap() {
            let nobody = "ffff:ff:1f.7".parse().unwrap();
            let mode = devlink.eswitch_mode(&nobody);
            let root = nix::unistd::Uid::effective().is_root();
            assert!(matches!(mode, Ok(None)) || !root, "{mode:?}");
        }
    }
}
