//! What a PF enforces on its VFs: read back, and set where it differs.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfInfoMac, VfInfoRate, VfInfoSpoofCheck,
        VfInfoTrust, VfInfoVlan,
    },
};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{RouteSocket, link::link_message};
use crate::{MacAddress, Vlan, netlink::NetlinkError};

/// One VF as its PF reports it. A driver that lacks a setting reports it as off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfState {
    /// Number on the PF.
    pub index: u32,
    /// The MAC address that the PF set; all zero when it set none.
    pub mac: MacAddress,
    /// The VLAN that the PF puts on the function's frames.
    pub vlan: Option<Vlan>,
    /// Mbit/s; 0 is none.
    pub min_rate_mbps: u32,
    /// Mbit/s; 0 is none.
    pub max_rate_mbps: u32,
    /// Frames with a foreign source MAC are dropped.
    pub spoof_check: bool,
    /// The function may change its own MAC and filters.
    pub trust: bool,
}

/// What the PF shall enforce. Everything is compared; only what differs is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfSettings {
    /// The MAC address to set; `None` leaves it as it is.
    pub mac: Option<MacAddress>,
    /// `None` is untagged.
    pub vlan: Option<Vlan>,
    /// Mbit/s; 0 is none.
    pub min_rate_mbps: u32,
    /// Mbit/s; 0 is none.
    pub max_rate_mbps: u32,
    /// Frames with a foreign source MAC are dropped.
    pub spoof_check: bool,
    /// The function may change its own MAC and filters.
    pub trust: bool,
}

/// One thing that a PF can set on a VF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum VfKnob {
    /// The MAC address.
    Mac,
    /// VLAN and priority code point.
    Vlan,
    /// Minimum and maximum transmit rate.
    Rate,
    /// The spoof check.
    SpoofCheck,
    /// Trust.
    Trust,
}

/// Why a VF was not set or read through its PF.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VfError {
    /// The PF has no such VF.
    #[error("PF {pf} has no VF {vf}; are its VFs still there (sriov_numvfs)?")]
    NoSuchVf {
        /// Name of the PF's link.
        pf: String,
        /// Number of the VF.
        vf: u32,
    },
    /// The driver lacks the setting or refuses the value.
    #[error("PF {pf}: the driver cannot set {knob:?} of VF {vf}: {source}")]
    Unsupported {
        /// Name of the PF's link.
        pf: String,
        /// Number of the VF.
        vf: u32,
        /// Which setting.
        knob: VfKnob,
        /// What the kernel said.
        #[source]
        source: NetlinkError,
    },
    /// Any other failure.
    #[error("PF {pf}, VF {vf}: {source}")]
    Netlink {
        /// Name of the PF's link.
        pf: String,
        /// Number of the VF.
        vf: u32,
        /// What happened.
        #[source]
        source: NetlinkError,
    },
}

impl VfState {
    /// What would have to be set for the VF to be as `wanted`.
    pub fn differences(&self, wanted: &VfSettings) -> Vec<VfKnob> {
        let rate = (self.min_rate_mbps, self.max_rate_mbps);
        [
            (wanted.mac.is_some_and(|mac| mac != self.mac), VfKnob::Mac),
            (wanted.vlan != self.vlan, VfKnob::Vlan),
            (rate != (wanted.min_rate_mbps, wanted.max_rate_mbps), VfKnob::Rate),
            (wanted.spoof_check != self.spoof_check, VfKnob::SpoofCheck),
            (wanted.trust != self.trust, VfKnob::Trust),
        ]
        .into_iter()
        .filter_map(|(differs, knob)| differs.then_some(knob))
        .collect()
    }

    /// Takes one setting over, as a PF that keeps what it is told.
    pub fn set(&mut self, knob: VfKnob, wanted: &VfSettings) {
        match knob {
            VfKnob::Mac => self.mac = wanted.mac.unwrap_or(self.mac),
            VfKnob::Vlan => self.vlan = wanted.vlan,
            VfKnob::Rate => {
                self.min_rate_mbps = wanted.min_rate_mbps;
                self.max_rate_mbps = wanted.max_rate_mbps;
            }
            VfKnob::SpoofCheck => self.spoof_check = wanted.spoof_check,
            VfKnob::Trust => self.trust = wanted.trust,
        }
    }

    /// These settings, to be restored later.
    pub fn settings(&self) -> VfSettings {
        VfSettings {
            mac: Some(self.mac),
            vlan: self.vlan,
            min_rate_mbps: self.min_rate_mbps,
            max_rate_mbps: self.max_rate_mbps,
            spoof_check: self.spoof_check,
            trust: self.trust,
        }
    }

    fn from_info(info: LinkVfInfo) -> Option<Self> {
        let mut state = Self {
            index: 0,
            mac: MacAddress::new([0; 6]),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 0,
            spoof_check: false,
            trust: false,
        };
        let mut index = None;
        for attribute in info.0 {
            match attribute {
                VfInfo::Mac(value) => {
                    index = Some(value.vf_id);
                    state.mac = value.mac.get(..6)?.try_into().ok()?;
                }
                VfInfo::Vlan(value) if value.vlan_id != 0 => {
                    let (id, pcp) = (value.vlan_id.try_into().ok()?, value.qos.try_into().ok()?);
                    state.vlan = Some(Vlan::new(id, pcp).ok()?);
                }
                VfInfo::Rate(value) => {
                    state.min_rate_mbps = value.min_tx_rate;
                    state.max_rate_mbps = value.max_tx_rate;
                }
                VfInfo::SpoofCheck(value) => state.spoof_check = value.enabled,
                VfInfo::Trust(value) => state.trust = value.enabled,
                _ => {}
            }
        }
        state.index = index?;
        Some(state)
    }
}

impl RouteSocket {
    /// All VFs of the PF with this link number, as the PF reports them.
    pub fn vfs(&mut self, pf_index: u32) -> Result<Vec<VfState>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = pf_index;
        message.attributes.push(LinkAttribute::ExtMask(vec![
            LinkExtentMask::Vf,
            LinkExtentMask::SkipStats,
        ]));
        let answer = self.socket.get(
            &format!("read the VFs of link {pf_index}"),
            RouteNetlinkMessage::GetLink(message),
        )?;
        let infos = link_message(answer)
            .map(|message| message.attributes)
            .unwrap_or_default()
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::VfInfoList(infos) => Some(infos),
                _ => None,
            });
        Ok(infos
            .unwrap_or_default()
            .into_iter()
            .filter_map(VfState::from_info)
            .collect())
    }

    /// One VF.
    pub fn vf(&mut self, pf: &str, pf_index: u32, vf: u32) -> Result<VfState, VfError> {
        self.vfs(pf_index)
            .map_err(|source| VfError::Netlink {
                pf: pf.to_owned(),
                vf,
                source,
            })?
            .into_iter()
            .find(|state| state.index == vf)
            .ok_or_else(|| VfError::NoSuchVf { pf: pf.to_owned(), vf })
    }

    /// Reads a VF and sets what differs from `wanted`, one request per setting. Returns what was set.
    pub fn apply_vf(&mut self, pf: &str, pf_index: u32, vf: u32, wanted: &VfSettings) -> Result<Vec<VfKnob>, VfError> {
        let differences = self.vf(pf, pf_index, vf)?.differences(wanted);
        for knob in &differences {
            self.set_vf(pf, pf_index, vf, *knob, wanted)?;
        }
        Ok(differences)
    }

    /// Sets one setting of a VF. Drivers differ in what they can: igb has no minimum rate and no link state.
    pub fn set_vf(
        &mut self,
        pf: &str,
        pf_index: u32,
        vf: u32,
        knob: VfKnob,
        wanted: &VfSettings,
    ) -> Result<(), VfError> {
        let info = match knob {
            VfKnob::Mac => match wanted.mac {
                Some(mac) => VfInfo::Mac(VfInfoMac::new(vf, &mac.bytes())),
                None => return Ok(()),
            },
            VfKnob::Vlan => {
                let (id, pcp) = wanted.vlan.map_or((0, 0), |vlan| (vlan.id(), vlan.pcp()));
                VfInfo::Vlan(VfInfoVlan::new(vf, id.into(), pcp.into()))
            }
            VfKnob::Rate => VfInfo::Rate(VfInfoRate::new(vf, wanted.min_rate_mbps, wanted.max_rate_mbps)),
            VfKnob::SpoofCheck => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, wanted.spoof_check)),
            VfKnob::Trust => VfInfo::Trust(VfInfoTrust::new(vf, wanted.trust)),
        };
        self.set_attribute(
            &format!("set {knob:?} of VF {vf}"),
            pf_index,
            LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![info])]),
        )
        .map_err(|source| {
            let pf = pf.to_owned();
            match source.errno() {
                Some(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPROTONOSUPPORT | Errno::ERANGE) => {
                    VfError::Unsupported { pf, vf, knob, source }
                }
                _ => VfError::Netlink { pf, vf, source },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> VfState {
        VfState {
            index: 1,
            mac: "02:00:00:00:00:01".parse().unwrap(),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 0,
            spoof_check: true,
            trust: false,
        }
    }

    #[test]
    fn only_what_differs_is_to_be_set() {
        let mut wanted = state().settings();
        assert_eq!(state().differences(&wanted), []);
        wanted.vlan = Some(Vlan::new(100, 3).unwrap());
        wanted.max_rate_mbps = 400;
        assert_eq!(state().differences(&wanted), [VfKnob::Vlan, VfKnob::Rate]);
        wanted.mac = None;
        wanted.trust = true;
        wanted.spoof_check = false;
        assert_eq!(
            state().differences(&wanted),
            [VfKnob::Vlan, VfKnob::Rate, VfKnob::SpoofCheck, VfKnob::Trust]
        );
    }
}
