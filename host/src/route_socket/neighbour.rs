//! Neighbours learn at once that an address has a new owner.

use std::net::Ipv4Addr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
};

use super::RouteSocket;
use crate::netlink::NetlinkError;

impl RouteSocket {
    /// Has the kernel broadcast gratuitous ARP requests (RFC 5227, section 3) for an address of the link: one now, and two
    /// more a second apart, for those that miss the first.
    ///
    /// The kernel is asked to look for the owner of the address (`NTF_USE`, net/core/neighbour.c), which is this very link: so
    /// it asks with the address for the address (`arp_solicit`, net/ipv4/arp.c), given `arp_announce=2` and that no earlier
    /// address of the link is in the same prefix. A packet socket would do as well, but closing one waits until no processor
    /// can be using it any more (`synchronize_net` in `packet_release`, net/packet/af_packet.c): 20 ms here, half of an ADD.
    ///
    /// What is left is an entry of the address in state FAILED, which nobody uses: the address is the namespace's own.
    pub fn announce(&mut self, link: u32, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = link;
        message.header.flags = NeighbourFlags::Use;
        message
            .attributes
            .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
        self.socket.change(
            &format!("announce {address} on link {link}"),
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE,
        )
    }
}
