//! Flags and lengths of a link, and the XDP programs on it.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp},
};
use serde::{Deserialize, Serialize};

use super::{
    OffloadSizes, RouteSocket,
    link::{link_message, query},
};
use crate::netlink::NetlinkError;

/// `IFF_DEBUG`, `IFF_NOTRAILERS`, `IFF_NOARP`, `IFF_MULTICAST`, `IFF_PORTSEL`, `IFF_AUTOMEDIA`, `IFF_DYNAMIC` (linux/if.h): what
/// a request can set beside up, promiscuous and all-multicast mode (`__dev_change_flags`, net/core/dev.c).
pub(super) const SETTABLE: u32 = 1 << 2 | 1 << 5 | 1 << 7 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15;

/// What `ip link set` changes on a link beside name, address and MTU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkOptions {
    /// Somebody set promiscuous mode (`IFF_PROMISC`). Programs that listen to a link do not count here, only in
    /// [`crate::Link::promiscuity`].
    pub promiscuous: bool,
    /// Somebody asked for all multicast frames (`IFF_ALLMULTI`).
    pub all_multicast: bool,
    /// The other flags that `ip link set` can change, as the kernel numbers them: a link with `IFF_NOARP` finds no neighbour.
    pub flags: u32,
    /// Frames that wait for the driver.
    pub tx_queue_len: u32,
    /// Sizes of what is cut up and put together in software.
    pub offload_sizes: OffloadSizes,
    /// XDP programs, each where it runs.
    pub xdp: Vec<XdpMode>,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum XdpMode {
    /// In the kernel's own path, for any driver.
    Generic,
    /// In the driver.
    Driver,
    /// In the hardware.
    Hardware,
}

impl LinkOptions {
    /// The [`flags`](Self::flags) of a link of Ethernet as its driver makes it: `IFF_MULTICAST` (`ether_setup`).
    pub const FRESH: u32 = 1 << 12;
}

impl XdpMode {
    /// `XDP_FLAGS_SKB_MODE`, `_DRV_MODE`, `_HW_MODE` (linux/if_link.h).
    fn flag(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Driver => 1 << 2,
            Self::Hardware => 1 << 3,
        }
    }
}

impl RouteSocket {
    /// Name and options of the link with this number, if there is one.
    pub fn link_options(&mut self, index: u32) -> Result<Option<(String, LinkOptions)>, NetlinkError> {
        let mut message = query();
        message.header.index = index;
        let request = format!("read the options of link {index}");
        match self.socket.get(&request, RouteNetlinkMessage::GetLink(message)) {
            Ok(answer) => Ok(link_message(answer).map(options)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes XDP programs off. One that a `bpf_link` put there is refused (EBUSY or EINVAL): it goes with its file
    /// descriptor, or with the link.
    pub fn detach_xdp(&mut self, index: u32, modes: &[XdpMode]) -> Result<(), NetlinkError> {
        modes.iter().try_for_each(|mode| {
            self.set_attribute(
                &format!("take the XDP program off link {index} ({mode:?})"),
                index,
                LinkAttribute::Xdp(vec![LinkXdp::Fd(-1), LinkXdp::Flags(mode.flag())]),
            )
        })
    }
}

pub(super) fn options(message: LinkMessage) -> (String, LinkOptions) {
    let mut name = String::new();
    let mut options = LinkOptions {
        promiscuous: message.header.flags.contains(LinkFlags::Promisc),
        all_multicast: message.header.flags.contains(LinkFlags::Allmulti),
        flags: message.header.flags.bits() & SETTABLE,
        ..LinkOptions::default()
    };
    let sizes = &mut options.offload_sizes;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::TxQueueLen(length) => options.tx_queue_len = length,
            LinkAttribute::GsoMaxSize(size) => sizes.gso_max_size = size,
            LinkAttribute::GsoMaxSegs(count) => sizes.gso_max_segs = count,
            LinkAttribute::GroMaxSize(size) => sizes.gro_max_size = Some(size),
            LinkAttribute::GsoIpv4MaxSize(size) => sizes.gso_ipv4_max_size = Some(size),
            LinkAttribute::GroIpv4MaxSize(size) => sizes.gro_ipv4_max_size = Some(size),
            LinkAttribute::Xdp(parts) => {
                options.xdp = parts
                    .iter()
                    .filter_map(|part| match part {
                        LinkXdp::SkbProgId(_) => Some(XdpMode::Generic),
                        LinkXdp::DrvProgId(_) => Some(XdpMode::Driver),
                        LinkXdp::HwProgId(_) => Some(XdpMode::Hardware),
                        _ => None,
                    })
                    .collect();
            }
            _ => {}
        }
    }
    (name, options)
}
