//! What the link of a VF is like: observed before the first change, compared and put back after the last.

use std::fmt;

use railhead_host::{InterfaceName, Link, LinkChange, MacAddress, NetlinkError, PciAddress, RouteSocket};
use serde::{Deserialize, Serialize};

use crate::HostError;

/// A VF's link as it was found. MAC addresses of VFs are often random at creation, so nobody else remembers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkState {
    /// Name.
    pub name: InterfaceName,
    /// The VF's own MAC address.
    pub mac: Option<MacAddress>,
    /// Bytes.
    pub mtu: u32,
    /// Whether it was up. A journal of release 0.1 does not say it.
    #[serde(default)]
    pub up: bool,
    /// Alternative names.
    pub altnames: Vec<String>,
    /// The free text that `ip link set alias` sets.
    #[serde(default)]
    pub alias: Option<String>,
    /// It took frames for every hardware address. Release 0.1 does not say it: then it did not.
    #[serde(default)]
    pub promiscuous: Option<bool>,
    /// It took all multicast frames. Release 0.1 does not say it: then it did not.
    #[serde(default)]
    pub all_multicast: Option<bool>,
    /// Frames that wait for the driver. Release 0.1 does not say it.
    #[serde(default)]
    pub tx_queue_len: Option<u32>,
}

/// One thing about a link that is not as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Its name.
    Name {
        /// As it is.
        found: String,
        /// As it was.
        wanted: InterfaceName,
    },
    /// Its own MAC address.
    Mac,
    /// Its MTU.
    Mtu {
        /// As it is.
        found: u32,
        /// As it was.
        wanted: u32,
    },
    /// It has alternative names that it had not.
    Altnames,
    /// It lacks alternative names that it had: somebody else has them by now.
    AltnamesTaken,
    /// Its alias.
    Alias,
    /// Which frames it takes, or how many of them wait.
    Frames,
}

impl Difference {
    /// Whether only names are in others' hands, which is no reason to hold a VF back.
    pub fn is_a_taken_name(&self) -> bool {
        matches!(self, Self::Name { .. } | Self::AltnamesTaken)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { found, wanted } => write!(f, "name is {found}, was {wanted}"),
            Self::Mac => f.write_str("own MAC address"),
            Self::Mtu { found, wanted } => write!(f, "MTU is {found}, was {wanted}"),
            Self::Altnames => f.write_str("alternative names"),
            Self::AltnamesTaken => f.write_str("alternative names that others have by now"),
            Self::Alias => f.write_str("alias"),
            Self::Frames => f.write_str("promiscuous mode, all multicast or queue length"),
        }
    }
}

impl LinkState {
    /// The link of `vf` as it is now.
    pub fn of(vf: &PciAddress, link: Link) -> Result<Self, HostError> {
        Ok(Self {
            name: link
                .name
                .parse()
                .map_err(|source| HostError::Name { vf: vf.clone(), source })?,
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            altnames: link.altnames,
            alias: link.alias,
            promiscuous: Some(link.promiscuous),
            all_multicast: Some(link.all_multicast),
            tx_queue_len: Some(link.tx_queue_len),
        })
    }

    /// What is not as it was found, except whether it is up.
    pub fn differences(&self, link: &Link) -> Vec<Difference> {
        let lacks = |names: &[String], wanted: &[String]| wanted.iter().any(|name| !names.contains(name));
        let name = || Difference::Name {
            found: link.name.clone(),
            wanted: self.name.clone(),
        };
        let mtu = || Difference::Mtu {
            found: link.mtu,
            wanted: self.mtu,
        };
        [
            (link.name != self.name.as_str()).then(name),
            (link.mac != self.mac).then_some(Difference::Mac),
            (link.mtu != self.mtu).then(mtu),
            lacks(&self.altnames, &link.altnames).then_some(Difference::Altnames),
            lacks(&link.altnames, &self.altnames).then_some(Difference::AltnamesTaken),
            (link.alias.as_deref().unwrap_or_default() != self.alias.as_deref().unwrap_or_default())
                .then_some(Difference::Alias),
            self.frames(link).is_some().then_some(Difference::Frames),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What puts the handling of frames back. A link keeps it when it moves to another namespace, so what a pod set would meet
    /// the next one.
    fn frames(&self, link: &Link) -> Option<LinkChange<'_>> {
        let promiscuous = self.promiscuous.unwrap_or_default();
        let all_multicast = self.all_multicast.unwrap_or_default();
        let change = LinkChange {
            promiscuous: (link.promiscuous != promiscuous).then_some(promiscuous),
            all_multicast: (link.all_multicast != all_multicast).then_some(all_multicast),
            tx_queue_len: self.tx_queue_len.filter(|length| *length != link.tx_queue_len),
            ..LinkChange::default()
        };
        let differs = change.promiscuous.is_some() || change.all_multicast.is_some() || change.tx_queue_len.is_some();
        differs.then_some(change)
    }

    /// Makes a link that is down what it was. A value that the driver refuses, or a name that somebody else has by now, does
    /// not keep the rest from being put back; returns what was refused, in the kernel's words.
    pub fn put_back(&self, socket: &mut RouteSocket, vf: &PciAddress, link: &Link) -> Vec<NetlinkError> {
        let index = link.index;
        let mut done = Vec::new();
        if let Some(mac) = self.mac.filter(|mac| link.mac != Some(*mac)) {
            done.push(socket.set_mac(index, mac));
        }
        if link.mtu != self.mtu {
            done.push(socket.set_mtu(index, self.mtu));
        }
        if let Some(change) = self.frames(link) {
            done.push(socket.change_link(index, &change));
        }
        let alias = self.alias.as_deref().unwrap_or_default();
        if link.alias.as_deref().unwrap_or_default() != alias {
            done.push(socket.set_alias(index, alias));
        }
        for extra in link.altnames.iter().filter(|name| !self.altnames.contains(name)) {
            done.push(socket.remove_altname(index, extra));
        }
        if link.name != self.name.as_str() {
            let renamed = socket.rename(index, &self.name);
            // Somebody else has the name by now. One that a pod chose must not stay on the host.
            if renamed.is_err() {
                done.push(socket.rename(index, &InterfaceName::temporary(vf)));
            }
            done.push(renamed);
        }
        for missing in self.altnames.iter().filter(|name| !link.altnames.contains(name)) {
            done.push(socket.add_altname(index, missing));
        }
        done.into_iter().filter_map(Result::err).collect()
    }
}
