//! Links, addresses, routes and rules of one network namespace.

mod address;
#[cfg(feature = "testing")]
mod answer;
mod change;
mod function_link;
#[cfg(test)]
mod hostile_answers;
mod link;
mod link_watch;
mod neighbour;
mod options;
mod route;
mod rule;
mod vf;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;

pub use address::Address;
#[cfg(feature = "testing")]
pub use answer::RouteAnswer;
pub use change::{LinkChange, OffloadSizes};
pub use link::Link;
pub use link_watch::LinkWatch;
pub use options::{LinkOptions, XdpMode};
pub use route::Route;
pub use rule::Rule;
pub use vf::{VfError, VfKnob, VfLinkState, VfSettings, VfState};

use crate::{
    Netns,
    netlink::{NetlinkError, Socket},
};

/// A routing socket. It stays in the namespace in which it was opened, whatever thread uses it.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket<RouteNetlinkMessage>,
}

impl RouteSocket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(NETLINK_ROUTE).map(|socket| Self { socket })
    }

    /// Opens a socket in `netns`.
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        netns.run(Self::open).map_err(NetlinkError::Netns)?
    }
}
