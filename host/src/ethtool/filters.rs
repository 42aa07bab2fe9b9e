//! How many rules steer or drop the frames of a link (`ethtool -N`). They are not in netlink, so this asks the older way.
#![allow(unsafe_code)] // An ioctl takes a pointer. No crate wraps this one.

use std::{
    io,
    mem::offset_of,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use thiserror::Error;

use crate::InterfaceName;

/// `SIOCETHTOOL` (linux/sockios.h), `ETHTOOL_GRXCLSRLCNT` (linux/ethtool.h).
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GET_RULE_COUNT: u32 = 0x2e;

/// `struct ethtool_rxnfc` (linux/ethtool.h) as far as this command uses it.
#[repr(C, align(8))]
struct RuleCount {
    command: u32,
    between: [u32; 45],
    rules: u32,
    padding: u32,
}

const _: () = assert!(size_of::<RuleCount>() == 192 && offset_of!(RuleCount, rules) == 184);

/// The number of filter rules could not be read.
#[derive(Debug, Error)]
#[error("read the number of filter rules of {interface}: {source}")]
pub struct FilterError {
    /// Which link.
    pub interface: InterfaceName,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// A socket that says in which namespace links are meant.
#[derive(Debug)]
pub(crate) struct FilterSocket {
    socket: OwnedFd,
}

impl FilterSocket {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// How many rules a link has; `None` where its driver has none to set.
    pub(crate) fn rules(&self, interface: &InterfaceName) -> Result<Option<u32>, FilterError> {
        let mut count = RuleCount {
            command: GET_RULE_COUNT,
            between: [0; 45],
            rules: 0,
            padding: 0,
        };
        let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
        // An interface name has at most 15 bytes, all ASCII, so the last byte stays zero.
        for (to, from) in name.iter_mut().zip(interface.as_str().bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from.cast_signed();
        }
        let mut request = libc::ifreq {
            ifr_name: name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut count).cast(),
            },
        };
        // SAFETY: the kernel reads an `ifreq` and, behind its pointer, reads and writes an `ethtool_rxnfc` of 192 bytes. Both
        // live until after the call, and both have the size and the alignment that the kernel takes for granted.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
        match Errno::result(answer) {
            Ok(_) => Ok(Some(count.rules)),
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(None),
            Err(errno) => Err(FilterError {
                interface: interface.clone(),
                source: errno.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers differ, so the kernel read the name that was meant.
    #[test]
    fn a_link_without_rules_is_told_from_one_that_is_not_there() {
        let socket = FilterSocket::open().unwrap();
        assert_eq!(socket.rules(&"lo".parse().unwrap()).unwrap(), None);
        let error = socket.rules(&"fifteen-letters".parse().unwrap()).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::ENODEV as i32), "{error}");
    }
}
