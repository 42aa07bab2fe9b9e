//! Word of links that change, so that one who waits for a signal need not ask again and again.

use std::{io, os::fd::AsFd, time::Duration};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::{
    socket::{MsgFlags, recv, setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike},
};

use crate::{Netns, netlink::NetlinkError};

/// `RTNLGRP_LINK` (linux/rtnetlink.h).
const RTNLGRP_LINK: u32 = 1;

/// A socket that gets a message whenever a link of its namespace changes. Open it before the change that is waited for.
#[derive(Debug)]
pub struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    /// For the namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(RTNLGRP_LINK)?;
            Ok(socket)
        };
        open()
            .map(|socket| Self { socket })
            .map_err(|source| NetlinkError::Open { source })
    }

    /// For `netns`.
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        netns.run(Self::open).map_err(NetlinkError::Netns)?
    }

    /// Waits until some link changed since the last call, or `patience` is over. What changed has to be looked at: a busy
    /// kernel drops messages, and says only that it did.
    pub fn wait(&self, patience: Duration) -> Result<(), NetlinkError> {
        use std::os::fd::AsRawFd;
        // Zero would be without limit.
        let patience = TimeVal::microseconds(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX).max(1));
        let failed = |source: io::Error| NetlinkError::Transfer {
            request: "wait for a link".to_owned(),
            source,
        };
        setsockopt(&self.socket.as_fd(), ReceiveTimeout, &patience).map_err(|errno| failed(errno.into()))?;
        let mut message = [0; 1];
        let mut flags = MsgFlags::empty();
        loop {
            match recv(self.socket.as_raw_fd(), &mut message, flags) {
                // Whatever else is there is old by the time that somebody looks.
                Ok(_) => flags = MsgFlags::MSG_DONTWAIT,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ENOBUFS) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
}
