//! What whoever has a link may set on it beside what an attachment sets: it stays on the link when it moves.
//!
//! A move takes away addresses, routes and filters of hardware addresses (`__dev_change_net_namespace`, net/core/dev.c), and
//! leaves flags, lengths, offloads, queues, filter rules, XDP programs and those at the tc hooks. The next pod would inherit them.

use std::{collections::BTreeSet, fmt, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    EthtoolSettings, EthtoolSocket, FilterError, InterfaceName, LinkChange, LinkOptions, NetlinkError, RouteSocket,
    ethtool::FilterSocket, tc_programs::tc_programs,
};

/// All of it. Two values are equal if the link is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkSettings {
    /// Flags and lengths.
    pub options: LinkOptions,
    /// Offloads and queues; empty on a kernel without ethtool netlink (before 5.6).
    pub ethtool: EthtoolSettings,
    /// How many rules steer or drop frames; `None` where the driver has none.
    pub filter_rules: Option<u32>,
    /// How many BPF programs are at the tc hooks; `None` on kernels that have none of their own (before 6.6).
    pub tc_programs: Option<u32>,
}

/// One thing that may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LinkSetting {
    /// Promiscuous mode.
    Promiscuous,
    /// All multicast frames.
    AllMulticast,
    /// Other flags of the link.
    Flags,
    /// Length of the transmit queue.
    TxQueueLen,
    /// Sizes of GSO and GRO.
    OffloadSizes,
    /// XDP programs.
    Xdp,
    /// Offloads.
    Features,
    /// Flags of the driver.
    PrivateFlags,
    /// Numbers of queues.
    Channels,
    /// Lengths of rings.
    Rings,
    /// Interrupt moderation.
    Coalesce,
    /// Which queue a received frame goes to.
    Steering,
    /// Filter rules.
    FilterRules,
    /// BPF programs at the tc hooks.
    TcPrograms,
}

impl LinkSetting {
    /// Whether the next holder of the link would lose frames, or others would see his, by what a former one left.
    pub fn harms(self) -> bool {
        use LinkSetting::{AllMulticast, FilterRules, Flags, Promiscuous, TcPrograms, Xdp};
        matches!(
            self,
            Promiscuous | AllMulticast | Flags | Xdp | FilterRules | TcPrograms
        )
    }
}

/// Why the settings of a link could not be read or set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkSettingsError {
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The number of filter rules.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The number of programs at the tc hooks.
    #[error("ask for the BPF programs at the tc hooks of link {link}: {source}")]
    TcPrograms {
        /// Number of the link.
        link: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No socket.
    #[error("open a socket: {0}")]
    Open(#[source] io::Error),
}

/// The sockets that it takes; they stay in the namespace in which they were opened, in which their user has to be.
#[derive(Debug)]
pub struct LinkSettingsSocket {
    route: RouteSocket,
    ethtool: Option<EthtoolSocket>,
    filters: FilterSocket,
}

impl LinkSettings {
    /// In what a link that reads `self` differs from `wanted`.
    pub fn differences(&self, wanted: &Self) -> BTreeSet<LinkSetting> {
        let (is, was) = (&self.options, &wanted.options);
        let (now, then) = (&self.ethtool, &wanted.ethtool);
        [
            (is.promiscuous != was.promiscuous, LinkSetting::Promiscuous),
            (is.all_multicast != was.all_multicast, LinkSetting::AllMulticast),
            (is.flags != was.flags, LinkSetting::Flags),
            (is.tx_queue_len != was.tx_queue_len, LinkSetting::TxQueueLen),
            (is.offload_sizes != was.offload_sizes, LinkSetting::OffloadSizes),
            (is.xdp != was.xdp, LinkSetting::Xdp),
            (now.features != then.features, LinkSetting::Features),
            (now.private_flags != then.private_flags, LinkSetting::PrivateFlags),
            (now.channels != then.channels, LinkSetting::Channels),
            (now.rings != then.rings, LinkSetting::Rings),
            (now.coalesce != then.coalesce, LinkSetting::Coalesce),
            (now.steering != then.steering, LinkSetting::Steering),
            // Some drivers tell no numbers while their link is down; what is not told is nothing to take off.
            (
                count(self.filter_rules) != count(wanted.filter_rules),
                LinkSetting::FilterRules,
            ),
            (
                count(self.tc_programs) != count(wanted.tc_programs),
                LinkSetting::TcPrograms,
            ),
        ]
        .into_iter()
        .filter_map(|(differs, setting)| differs.then_some(setting))
        .collect()
    }
}

fn count(told: Option<u32>) -> u32 {
    told.unwrap_or_default()
}

impl LinkSettingsSocket {
    /// Opens the sockets in the namespace of the calling thread.
    pub fn open() -> Result<Self, LinkSettingsError> {
        Ok(Self {
            route: RouteSocket::open()?,
            ethtool: EthtoolSocket::open()?,
            filters: FilterSocket::open().map_err(LinkSettingsError::Open)?,
        })
    }

    /// The settings of the link with this number, if there is one.
    pub fn read(&mut self, link: u32) -> Result<Option<LinkSettings>, LinkSettingsError> {
        let Some((name, options)) = self.route.link_options(link)? else {
            return Ok(None);
        };
        let ethtool = match &mut self.ethtool {
            Some(socket) => socket.settings(link)?,
            None => EthtoolSettings::default(),
        };
        // A name that is none of ours cannot be asked for, nor can it be a VF's.
        let filter_rules = match name.parse::<InterfaceName>() {
            Ok(name) => self.filters.rules(&name)?,
            Err(_) => None,
        };
        let tc_programs = tc_programs(link).map_err(|source| LinkSettingsError::TcPrograms { link, source })?;
        Ok(Some(LinkSettings {
            options,
            ethtool,
            filter_rules,
            tc_programs,
        }))
    }

    /// Sets what differs from `wanted` and reads it again. Returns what still differs: what a driver refuses, filter rules,
    /// programs at the tc hooks, and an XDP program that a file descriptor somewhere holds. Binding the driver again takes all of it away.
    pub fn restore(&mut self, link: u32, wanted: &LinkSettings) -> Result<BTreeSet<LinkSetting>, LinkSettingsError> {
        let Some(found) = self.read(link)? else {
            return Ok(BTreeSet::new());
        };
        let differences = found.differences(wanted);
        if differences.is_empty() {
            return Ok(differences);
        }
        if !found.options.xdp.is_empty() && wanted.options.xdp.is_empty() {
            // Refused for a program of a bpf_link, which the second reading shows.
            let _ = self.route.detach_xdp(link, &found.options.xdp);
        }
        let was = &wanted.options;
        let change = LinkChange {
            promiscuous: (found.options.promiscuous != was.promiscuous).then_some(was.promiscuous),
            all_multicast: (found.options.all_multicast != was.all_multicast).then_some(was.all_multicast),
            flags: (found.options.flags != was.flags).then_some(was.flags),
            tx_queue_len: (found.options.tx_queue_len != was.tx_queue_len).then_some(was.tx_queue_len),
            offload_sizes: (found.options.offload_sizes != was.offload_sizes).then_some(was.offload_sizes),
            ..LinkChange::default()
        };
        let flags = LinkChange {
            tx_queue_len: None,
            offload_sizes: None,
            ..change
        };
        // Flags alone if the whole is refused: they are what a neighbour would notice.
        if self.route.change_link(link, &change).is_err() {
            let _ = self.route.change_link(link, &flags);
        }
        if let Some(socket) = &mut self.ethtool {
            let _ = socket.restore(link, &found.ethtool, &wanted.ethtool);
        }
        let after = self.read(link)?;
        Ok(after.map(|after| after.differences(wanted)).unwrap_or_default())
    }
}

impl fmt::Display for LinkSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promiscuous => "promiscuous mode",
            Self::AllMulticast => "all multicast",
            Self::Flags => "flags of the link (arp, multicast, dynamic, debug)",
            Self::TxQueueLen => "length of the transmit queue",
            Self::OffloadSizes => "sizes of GSO and GRO",
            Self::Xdp => "XDP program",
            Self::Features => "offloads",
            Self::PrivateFlags => "flags of the driver",
            Self::Channels => "numbers of queues",
            Self::Rings => "lengths of rings",
            Self::Coalesce => "interrupt moderation",
            Self::Steering => "spreading of received frames over queues",
            Self::FilterRules => "filter rules",
            Self::TcPrograms => "BPF programs at the tc hooks",
        })
    }
}
