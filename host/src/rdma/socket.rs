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
        let answers = self
            .socket
            .dump("list RDMA devices", &RdmaMessage::new(Command::GET))
            .map_err(RdmaError::Netlink)?;
        Ok(answers.iter().filter_map(RdmaDevice::of).collect())
    }

    /// The device with this name, if the namespace sees one.
    pub fn device_named(&mut self, name: &str) -> Result<Option<RdmaDevice>, RdmaError> {
        Ok(self.devices()?.into_iter().find(|device| device.name == name))
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
