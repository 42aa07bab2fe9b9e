//! The socket of one family.

use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

use super::GenericMessage;
use crate::netlink::{Attributes, NetlinkError, Socket};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME` (linux/genetlink.h).
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// A socket for the requests of one family; it stays in the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct GenericSocket {
    socket: Socket<GenericMessage>,
    family: u16,
}

impl GenericSocket {
    /// Opens a socket in the namespace of the calling thread; `None` if the kernel has no such family.
    pub(crate) fn open(family: &str) -> Result<Option<Self>, NetlinkError> {
        let mut socket = Socket::open(NETLINK_GENERIC)?;
        let request = format!("look up the netlink family {family}");
        let answer = socket.get(
            &request,
            GenericMessage {
                family: CONTROLLER,
                command: GET_FAMILY,
                version: 1,
                attributes: Attributes::default().with_text(FAMILY_NAME, family),
            },
        );
        match answer {
            Ok(answer) => match answer.attributes.u16(FAMILY_ID) {
                Some(family) => Ok(Some(Self { socket, family })),
                None => Err(NetlinkError::Malformed {
                    request,
                    detail: "no number of the family in it".to_owned(),
                }),
            },
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for one object.
    pub(crate) fn get(
        &mut self,
        request: &str,
        command: u8,
        attributes: Attributes,
    ) -> Result<Attributes, NetlinkError> {
        let message = self.message(command, attributes);
        self.socket.get(request, message).map(|answer| answer.attributes)
    }

    /// Sends a request that changes something and waits for the acknowledgement.
    pub(crate) fn change(&mut self, request: &str, command: u8, attributes: Attributes) -> Result<(), NetlinkError> {
        let message = self.message(command, attributes);
        self.socket.change(request, message, 0)
    }

    fn message(&self, command: u8, attributes: Attributes) -> GenericMessage {
        GenericMessage {
            family: self.family,
            command,
            version: 1,
            attributes,
        }
    }
}
