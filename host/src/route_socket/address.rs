//! IP addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
};

use super::RouteSocket;
use crate::netlink::NetlinkError;

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Number of the link.
    pub link: u32,
    /// Address with the prefix length on the link.
    pub net: IpNet,
}

impl RouteSocket {
    /// All addresses of a link, also those that the kernel made.
    pub fn addresses(&mut self, link: u32) -> Result<Vec<Address>, NetlinkError> {
        let mut addresses = self.dump_addresses(&format!("list the addresses of link {link}"), link)?;
        addresses.retain(|address| address.link == link);
        Ok(addresses)
    }

    /// The addresses of all links.
    pub fn all_addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        self.dump_addresses("list all addresses", 0)
    }

    fn dump_addresses(&mut self, what: &str, link: u32) -> Result<Vec<Address>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = link;
        let answers = self.socket.dump(what, &RouteNetlinkMessage::GetAddress(message))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) => from_message(&message),
                _ => None,
            })
            .collect())
    }

    /// Adds an address; the kernel adds the prefix route to the main table. IPv6 addresses are usable at once: they are
    /// unique by construction, so duplicate detection would only cost a second.
    pub fn add_address(&mut self, link: u32, net: IpNet) -> Result<(), NetlinkError> {
        let mut message = to_message(link, net);
        if net.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.socket.change(
            &format!("add {net} to link {link}"),
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Removes an address.
    pub fn remove_address(&mut self, link: u32, net: IpNet) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("remove {net} from link {link}"),
            RouteNetlinkMessage::DelAddress(to_message(link, net)),
            0,
        )
    }
}

pub(super) fn to_message(link: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.prefix_len = net.prefix_len();
    message.header.family = match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    if let IpNet::V4(net) = net
        && net.prefix_len() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
    }
    message
}

pub(super) fn from_message(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // IFA_ADDRESS is the peer on a point-to-point link; IPv6 sends no IFA_LOCAL.
    let ip: IpAddr = local.or(address)?;
    Some(Address {
        link: message.header.index,
        net: IpNet::new(ip, message.header.prefix_len).ok()?,
    })
}
