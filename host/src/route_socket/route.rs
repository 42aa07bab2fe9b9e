//! Routes of any table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::RouteSocket;
use crate::netlink::NetlinkError;

/// A unicast route over one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` is the default route.
    pub destination: IpNet,
    /// Next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Source address of packets that have none yet.
    pub source: Option<IpAddr>,
    /// Number of the link.
    pub link: u32,
    /// Routing table; 254 is the main table.
    pub table: u32,
}

impl Route {
    /// Number of the main table (`RT_TABLE_MAIN`, linux/rtnetlink.h).
    pub const MAIN_TABLE: u32 = 254;
}

impl RouteSocket {
    /// The unicast routes of a table (both families) that use one link each.
    pub fn routes(&mut self, table: u32) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.kind = RouteType::Unicast;
            message.attributes.push(RouteAttribute::Table(table));
            let answers = match self.socket.dump(
                &format!("list the routes of table {table}"),
                &RouteNetlinkMessage::GetRoute(message),
            ) {
                Ok(answers) => answers,
                // A table without a single route does not exist.
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error),
            };
            routes.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => from_message(&message),
                _ => None,
            }));
        }
        routes.retain(|route| route.table == table);
        Ok(routes)
    }

    /// Adds a route, or replaces the one with the same destination in the same table.
    pub fn replace_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("add {}", describe(route)),
            RouteNetlinkMessage::NewRoute(to_message(route)),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// Removes a route.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.socket.change(
            &format!("remove {}", describe(route)),
            RouteNetlinkMessage::DelRoute(to_message(route)),
            0,
        )
    }
}

fn describe(route: &Route) -> String {
    let gateway = route
        .gateway
        .map(|gateway| format!(" via {gateway}"))
        .unwrap_or_default();
    format!(
        "route {}{gateway} on link {} in table {}",
        route.destination, route.link, route.table
    )
}

pub(super) fn to_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match route.destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (route.gateway, route.destination) {
        (None, IpNet::V4(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    attributes.push(RouteAttribute::Oif(route.link));
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(RouteAddress::from(
            route.destination.network(),
        )));
    }
    if let Some(gateway) = route.gateway {
        attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(RouteAddress::from(source)));
    }
    message
}

pub(super) fn from_message(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut gateway, mut source, mut link) = (None, None, None);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    Some(Route {
        destination: IpNet::new(destination, message.header.destination_prefix_length).ok()?,
        gateway,
        source,
        link: link?,
        table,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
