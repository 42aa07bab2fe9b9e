//! Several changes of one link in one request.
//!
//! Every request takes the kernel's lock of all links, which other pods and drivers want too, so what can go together does.
//! The kernel makes the changes in an order of its own (`do_setlink`, net/core/rtnetlink.c, 6.18) and stops at the first that
//! fails: namespace, hardware address, MTU, name, alias, flags, lengths. Two things follow. A hardware address that comes with
//! `up: false` is set while the link is still up, which many drivers refuse with EBUSY: take it down before. A move takes a
//! link down by itself, so everything that comes with a move meets a link that is down.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};

use super::{RouteSocket, options::SETTABLE};
#[cfg(doc)]
use crate::LinkOptions;
use crate::{InterfaceName, MacAddress, Netns, netlink::NetlinkError};

/// What one request changes on a link; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Where it goes. It arrives down and without addresses, perhaps with another number.
    pub netns: Option<&'a Netns>,
    /// Hardware address.
    pub mac: Option<MacAddress>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Name; in the new namespace, if it moves. Where the move has been made and the name turns out to be taken, the answer is
    /// EEXIST and the link stays in the new namespace under the old name.
    pub name: Option<&'a InterfaceName>,
    /// The free text; an empty one removes it.
    pub alias: Option<&'a str>,
    /// Administratively up or down.
    pub up: Option<bool>,
    /// Takes frames for every hardware address (`IFF_PROMISC`).
    pub promiscuous: Option<bool>,
    /// Takes all multicast frames (`IFF_ALLMULTI`).
    pub all_multicast: Option<bool>,
    /// Other flags that anybody may set on a link ([`LinkOptions::flags`]), all of them.
    pub flags: Option<u32>,
    /// Frames that wait for the driver.
    pub tx_queue_len: Option<u32>,
    /// Sizes of what is cut up and put together in software.
    pub offload_sizes: Option<OffloadSizes>,
}

/// How large packets are made before they are cut up (GSO), and put together from small ones (GRO).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OffloadSizes {
    /// Bytes; `gso_max_size`.
    pub gso_max_size: u32,
    /// Packets; `gso_max_segs`.
    pub gso_max_segs: u32,
    /// Bytes; `gro_max_size`, kernel 5.19 and newer.
    pub gro_max_size: Option<u32>,
    /// Bytes; `gso_ipv4_max_size`, kernel 6.3 and newer.
    pub gso_ipv4_max_size: Option<u32>,
    /// Bytes; `gro_ipv4_max_size`, kernel 6.3 and newer.
    pub gro_ipv4_max_size: Option<u32>,
}

impl RouteSocket {
    /// Makes all changes in one request.
    pub fn change_link(&mut self, index: u32, change: &LinkChange) -> Result<(), NetlinkError> {
        self.socket.change(
            &describe(index, change),
            RouteNetlinkMessage::SetLink(message(index, change)),
            0,
        )
    }
}

fn message(index: u32, change: &LinkChange) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let flags = [
        (change.up, LinkFlags::Up),
        (change.promiscuous, LinkFlags::Promisc),
        (change.all_multicast, LinkFlags::Allmulti),
    ];
    for (wanted, flag) in flags {
        if let Some(wanted) = wanted {
            message.header.change_mask |= flag;
            message.header.flags.set(flag, wanted);
        }
    }
    if let Some(wanted) = change.flags {
        message.header.change_mask |= LinkFlags::from_bits_retain(SETTABLE);
        message.header.flags |= LinkFlags::from_bits_retain(wanted & SETTABLE);
    }
    let sizes = change.offload_sizes;
    message.attributes.extend(
        [
            change
                .netns
                .map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())),
            change.mac.map(|mac| LinkAttribute::Address(mac.bytes().to_vec())),
            change.mtu.map(LinkAttribute::Mtu),
            change.name.map(|name| LinkAttribute::IfName(name.to_string())),
            change.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())),
            change.tx_queue_len.map(LinkAttribute::TxQueueLen),
            sizes.map(|sizes| LinkAttribute::GsoMaxSize(sizes.gso_max_size)),
            sizes.map(|sizes| LinkAttribute::GsoMaxSegs(sizes.gso_max_segs)),
            sizes
                .and_then(|sizes| sizes.gro_max_size)
                .map(LinkAttribute::GroMaxSize),
            // After the sizes of both families, which would set those of IPv4 as well.
            sizes
                .and_then(|sizes| sizes.gso_ipv4_max_size)
                .map(LinkAttribute::GsoIpv4MaxSize),
            sizes
                .and_then(|sizes| sizes.gro_ipv4_max_size)
                .map(LinkAttribute::GroIpv4MaxSize),
        ]
        .into_iter()
        .flatten(),
    );
    message
}

fn describe(index: u32, change: &LinkChange) -> String {
    let switch = |on: Option<bool>, text: &str| on.map(|on| format!("{text} {}", if on { "on" } else { "off" }));
    let parts: Vec<String> = [
        change
            .netns
            .map(|netns| format!("namespace {}", netns.path().display())),
        change.mac.map(|mac| format!("MAC address {mac}")),
        change.mtu.map(|mtu| format!("MTU {mtu}")),
        change.name.map(|name| format!("name {name}")),
        change.alias.map(|alias| format!("alias {alias:?}")),
        change.up.map(|up| (if up { "up" } else { "down" }).to_owned()),
        switch(change.promiscuous, "promiscuous mode"),
        switch(change.all_multicast, "all multicast"),
        change.flags.map(|flags| format!("flags {flags:#x}")),
        change.tx_queue_len.map(|length| format!("queue length {length}")),
        change.offload_sizes.map(|sizes| format!("{sizes:?}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("set of link {index}: {}", parts.join(", "))
}
