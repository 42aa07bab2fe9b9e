//! The requests.

use std::os::fd::{AsFd, AsRawFd};

use netlink_sys::protocols::NETLINK_RDMA;
use nix::errno::Errno;
use thiserror::Error;

use super::message::{Command, RdmaMessage, attribute};
use crate::{
    InterfaceName, Netns,
    netlink::{NetlinkError, Socket},
};

/// `IB_PORT_ACTIVE` (rdma/ib_verbs.h, `enum ib_port_state`).
const PORT_ACTIVE: u8 = 4;

/// An RDMA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaDevice {
    /// Number, unique on the host.
    pub index: u32,
    /// Name, for example `mlx5_10`.
    pub name: String,
}

/// A port of an RDMA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdmaPort {
    /// Number, from 1.
    pub port: u32,
    /// Whether it is in state ACTIVE.
    pub active: bool,
    /// Number of its link; only seen in the link's namespace.
    pub link: Option<u32>,
    /// Name of its link; only seen in the link's namespace.
    pub link_name: Option<String>,
}

/// Who sees an RDMA device. Chosen at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetnsMode {
    /// All namespaces see all devices; the GID table belongs to the link's namespace.
    Shared,
    /// A device belongs to one namespace and has to be moved.
    Exclusive,
}

impl RdmaDevice {
    /// The device that an answer names.
    pub(super) fn of(answer: &RdmaMessage) -> Option<Self> {
        Some(Self {
            index: answer.u32(attribute::DEV_INDEX)?,
            name: answer.text(attribute::DEV_NAME)?,
        })
    }
}

impl RdmaPort {
    /// The port that an answer describes.
    pub(super) fn of(answer: &RdmaMessage) -> Option<Self> {
        Some(Self {
            port: answer.u32(attribute::PORT_INDEX)?,
            active: answer.u8(attribute::PORT_STATE) == Some(PORT_ACTIVE),
            link: answer.u32(attribute::NDEV_INDEX),
            link_name: answer.text(attribute::NDEV_NAME),
        })
    }
}

impl NetnsMode {
    /// `RDMA_NLDEV_SYS_ATTR_NETNS_MODE`: 1 is shared, 0 exclusive (`ib_devices_shared_netns`).
    pub(super) fn of(answer: &RdmaMessage) -> Self {
        match answer.u8(attribute::NETNS_MODE) {
            Some(0) => Self::Exclusive,
            _ => Self::Shared,
        }
    }
}

/// Why an RDMA request failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RdmaError {
    /// The kernel has no RDMA core.
    #[error("this kernel has no RDMA subsystem; load the module ib_core (for soft-RoCE: rdma_rxe)")]
    NoSubsystem,
    /// Anything else.
    #[error(transparent)]
    Netlink(NetlinkError),
}

impl RdmaError {
    /// Whether the device of the request does not exist (any more).
    pub fn is_gone(&self) -> bool {
        match self {
            Self::NoSubsystem => true,
            Self::Netlink(error) => error.is_gone(),
        }
    }
}

/// How often devices are listed until two lists are alike.
const LISTS: usize = 8;

/// Lists until two lists in a row are alike, or until one is `enough`.
///
/// The kernel answers with one device at a time and finds the next one by its place in the list (`ib_enum_all_devs`,
/// drivers/infiniband/core/device.c; `_nldev_get_dumpit`, nldev.c): when one before it goes meanwhile, the next one is left out.
/// The one that went is in the list that lacks another, so the list after it is a different one.
fn steady<T: PartialEq, E>(
    mut list: impl FnMut() -> Result<Vec<T>, E>,
    enough: impl Fn(&[T]) -> bool,
) -> Result<Vec<T>, E> {
    let mut known = list()?;
    for _ in 1..LISTS {
        if enough(&known) {
            break;
        }
        let next = list()?;
        if next == known {
            break;
        }
        known = next;
    }
    Ok(known)
}

/// A socket for RDMA requests; it stays in the namespace in which it was opened.
#[derive(Debug)]
pub struct RdmaSocket {
    pub(super) socket: Socket<RdmaMessage>,
}

impl RdmaSocket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self, RdmaError> {
        match Socket::open(NETLINK_RDMA) {
            Ok(socket) => Ok(Self { socket }),
            Err(NetlinkError::Open { source }) if source.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32) => {
                Err(RdmaError::NoSubsystem)
            }
            Err(error) => Err(RdmaError::Netlink(error)),
        }
    }

    /// Opens a socket in `netns`.
    pub fn open_in(netns: &Netns) -> Result<Self, RdmaError> {
        netns
            .run(Self::open)
            .map_err(|error| RdmaError::Netlink(NetlinkError::Netns(error)))?
    }

    /// Whether devices are shared between namespaces.
    pub fn netns_mode(&mut self) -> Result<NetnsMode, RdmaError> {
        let answer = self
            .socket
            .get("read the RDMA netns mode", RdmaMessage::new(Command::SYS_GET))
            .map_err(RdmaError::Netlink)?;
        Ok(NetnsMode::of(&answer))
    }

    /// All devices that the namespace sees.
    pub fn devices(&mut self) -> Result<Vec<RdmaDevice>, RdmaError> {
        steady(|| self.list(), |_| false)
    }

    fn list(&mut self) -> Result<Vec<RdmaDevice>, RdmaError> {
        let answers = self
            .socket
            .dump("list RDMA devices", &RdmaMessage::new(Command::GET))
            .map_err(RdmaError::Netlink)?;
        Ok(answers.iter().filter_map(RdmaDevice::of).collect())
    }

    /// The device with this name, if the namespace sees one.
    pub fn device_named(&mut self, name: &str) -> Result<Option<RdmaDevice>, RdmaError> {
        let is_it = |device: &RdmaDevice| device.name == name;
        let devices = steady(|| self.list(), |found| found.iter().any(is_it))?;
        Ok(devices.into_iter().find(is_it))
    }

    /// The ports of a device.
    pub fn ports(&mut self, device: &RdmaDevice) -> Result<Vec<RdmaPort>, RdmaError> {
        let request = RdmaMessage::new(Command::PORT_GET).with_u32(attribute::DEV_INDEX, device.index);
        let answers = self
            .socket
            .dump(&format!("list the ports of RDMA device {}", device.name), &request)
            .map_err(RdmaError::Netlink)?;
        Ok(answers.iter().filter_map(RdmaPort::of).collect())
    }

    /// Makes a soft-RoCE device on a link of this socket's namespace (kernel 7.1 or newer for traffic inside a namespace).
    pub fn add_soft_roce(&mut self, name: &str, link: &InterfaceName) -> Result<(), RdmaError> {
        let message = RdmaMessage::new(Command::NEWLINK)
            .with_text(attribute::DEV_NAME, name)
            .with_text(attribute::LINK_TYPE, "rxe")
            .with_text(attribute::NDEV_NAME, link.as_str());
        self.socket
            .change(&format!("make soft-RoCE device {name} on {link}"), message, 0)
            .map_err(RdmaError::Netlink)
    }

    /// Removes a soft device. A device of hardware is refused by the kernel.
    pub fn remove_soft(&mut self, device: &RdmaDevice) -> Result<(), RdmaError> {
        let message = RdmaMessage::new(Command::DELLINK).with_u32(attribute::DEV_INDEX, device.index);
        self.socket
            .change(&format!("remove RDMA device {}", device.name), message, 0)
            .map_err(RdmaError::Netlink)
    }

    /// Moves a device to another namespace; only in exclusive mode, and not for soft devices.
    pub fn move_to(&mut self, device: &RdmaDevice, target: &Netns) -> Result<(), RdmaError> {
        let request = format!("move RDMA device {} to {}", device.name, target.path().display());
        // The attribute is a u32 that holds a file descriptor, which is never negative.
        let fd = target.as_fd().as_raw_fd().unsigned_abs();
        let message = RdmaMessage::new(Command::SET)
            .with_u32(attribute::DEV_INDEX, device.index)
            .with_u32(attribute::NET_NS_FD, fd);
        self.socket.change(&request, message, 0).map_err(RdmaError::Netlink)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The kernel's way: one at a time, by place; the first one goes when it has been told.
    fn kernel(devices: &mut Vec<&'static str>, goes: &mut Vec<&'static str>) -> Vec<&'static str> {
        let mut told = Vec::new();
        while let Some(next) = devices.get(told.len()).copied() {
            told.push(next);
            if goes.first() == Some(&next) {
                goes.remove(0);
                devices.retain(|device| *device != next);
            }
        }
        told
    }

    #[test]
    fn a_device_is_found_whatever_goes_while_devices_are_listed() {
        let list = |goes: &[&'static str], wanted: &str| {
            let (mut devices, mut goes) = (vec!["rxe0", "rxe1", "mlx5_0", "mlx5_1"], goes.to_vec());
            let mut lists = 0;
            let found = steady(
                || {
                    lists += 1;
                    Ok::<_, Infallible>(kernel(&mut devices, &mut goes))
                },
                |found| found.contains(&wanted),
            );
            (found.unwrap().contains(&wanted), lists)
        };
        assert_eq!(list(&[], "rxe1"), (true, 1));
        assert_eq!(list(&["rxe0"], "rxe1"), (true, 2), "the kernel left it out");
        assert_eq!(
            list(&["rxe0", "rxe1"], "mlx5_0"),
            (true, 1),
            "its place was one further on"
        );
        assert_eq!(list(&[], "rxe7"), (false, 2), "what is not there is looked for twice");
        assert_eq!(list(&["rxe0"], "rxe0"), (true, 1));
    }
}
