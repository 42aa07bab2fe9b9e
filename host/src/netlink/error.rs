//! What can go wrong between us and the kernel.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

use crate::NetnsError;

/// Why a netlink request failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The namespace of the socket could not be visited.
    #[error(transparent)]
    Netns(NetnsError),
    /// No socket of this family.
    #[error("open a netlink socket: {source}")]
    Open {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The request could not be sent or its answer not be received.
    #[error("{request}: netlink socket: {source}")]
    Transfer {
        /// What was asked for.
        request: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel said no.
    #[error("{request}: {errno}{}", text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was asked for.
        request: String,
        /// The error number.
        errno: Errno,
        /// The kernel's own words (extended acknowledgement), if it had any.
        text: Option<String>,
    },
    /// The answer makes no sense.
    #[error("{request}: the kernel's answer cannot be read: {detail}")]
    Malformed {
        /// What was asked for.
        request: String,
        /// What was wrong.
        detail: String,
    },
    /// A dump changed under our hands every time it was tried.
    #[error("{request}: interrupted {tries} times by changes on the host")]
    Interrupted {
        /// What was asked for.
        request: String,
        /// How often it was tried.
        tries: u32,
    },
}

impl NetlinkError {
    /// The error number, when the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the object of the request does not exist (any more).
    pub fn is_gone(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO)
        )
    }

    /// Whether the driver or the kernel was busy with something that passes: a VF that is being reset (iavf answers EBUSY, ice
    /// EAGAIN), another change of the same object (EBUSY), a dump that changed under our hands. The same request may work a
    /// little later.
    pub fn is_busy(&self) -> bool {
        matches!(self.errno(), Some(Errno::EBUSY | Errno::EAGAIN | Errno::EINTR))
            || matches!(self, Self::Interrupted { .. })
    }

    /// Whether the object of the request exists already.
    pub fn is_already_there(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}
