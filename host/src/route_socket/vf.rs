//! What a PF enforces on its VFs: read back, and set where it differs.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        self, LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac, VfInfoRate,
        VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan,
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
    /// Whether the function's link follows the port's. The kernel reports `Auto` where a driver does not know it.
    #[serde(default)]
    pub link_state: VfLinkState,
}

/// The link of a VF as its PF shows it to the VF (`IFLA_VF_LINK_STATE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VfLinkState {
    /// As the port's.
    #[default]
    Auto,
    /// Up, whatever the port's is.
    Enable,
    /// Down: the VF has no carrier.
    Disable,
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
    /// `None` leaves it as it is; few drivers know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<VfLinkState>,
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
    /// Whether the VF's link follows the port's.
    LinkState,
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

impl VfError {
    /// Whether the same request may work a little later ([`NetlinkError::is_busy`]).
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Unsupported { source, .. } | Self::Netlink { source, .. } => source.is_busy(),
            Self::NoSuchVf { .. } => false,
        }
    }
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
            (
                wanted.link_state.is_some_and(|state| state != self.link_state),
                VfKnob::LinkState,
            ),
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
            VfKnob::LinkState => self.link_state = wanted.link_state.unwrap_or(self.link_state),
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
            link_state: Some(self.link_state),
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
            link_state: VfLinkState::Auto,
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
                VfInfo::LinkState(value) => state.link_state = link_state(value.state),
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
        Ok(link_message(answer).map(states).unwrap_or_default())
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

    /// Sets several settings of a VF in one request. The kernel sets them in the order MAC, VLAN, rate, spoof check, link state,
    /// trust (`do_setvfinfo`, net/core/rtnetlink.c) and stops at the first that the driver refuses, without saying which.
    ///
    /// That order is as good as any other. ice and i40e keep what the PF set and set it up again after each of the resets that
    /// a MAC address, a VLAN and trust cause (`ice_vf_rebuild_host_cfg`, drivers/net/ethernet/intel/ice/ice_vf_lib.c;
    /// `i40e_alloc_vsi_res`, drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c), and wait for the last one before the next
    /// setting. mlx5 resets nothing and wants a MAC address before the spoof check (`mlx5_eswitch_set_vport_spoofchk`,
    /// drivers/net/ethernet/mellanox/mlx5/core/esw/legacy.c). igb keeps flags.
    pub fn set_vf_knobs(
        &mut self,
        pf: &str,
        pf_index: u32,
        vf: u32,
        knobs: &[VfKnob],
        wanted: &VfSettings,
    ) -> Result<(), VfError> {
        let Some(list) = entry(vf, knobs, wanted) else {
            return Ok(());
        };
        let set = self.set_attribute(&format!("set {knobs:?} of VF {vf}"), pf_index, list);
        set.map_err(|source| match knobs {
            [knob] if is_refusal(&source) => VfError::Unsupported {
                pf: pf.to_owned(),
                vf,
                knob: *knob,
                source,
            },
            _ => VfError::Netlink {
                pf: pf.to_owned(),
                vf,
                source,
            },
        })
    }

    /// Sets one setting of a VF, so that an error names it. Drivers differ in what they can: igb has no minimum rate and no
    /// link state.
    pub fn set_vf(
        &mut self,
        pf: &str,
        pf_index: u32,
        vf: u32,
        knob: VfKnob,
        wanted: &VfSettings,
    ) -> Result<(), VfError> {
        self.set_vf_knobs(pf, pf_index, vf, &[knob], wanted)
    }
}

/// The VFs in a PF's answer.
pub(super) fn states(message: LinkMessage) -> Vec<VfState> {
    let lists = message.attributes.into_iter().filter_map(|attribute| match attribute {
        LinkAttribute::VfInfoList(infos) => Some(infos),
        _ => None,
    });
    lists.flatten().filter_map(VfState::from_info).collect()
}

/// Whether the driver lacks a setting or refuses its value.
fn is_refusal(error: &NetlinkError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPROTONOSUPPORT | Errno::ERANGE)
    )
}

/// Settings of a VF as the one entry of the list that a request carries; `None` if there is nothing to set.
fn entry(vf: u32, knobs: &[VfKnob], wanted: &VfSettings) -> Option<LinkAttribute> {
    let infos: Vec<VfInfo> = knobs.iter().filter_map(|knob| info(vf, *knob, wanted)).collect();
    (!infos.is_empty()).then(|| LinkAttribute::VfInfoList(vec![LinkVfInfo(infos)]))
}

/// The attribute of one setting; `None` for what `wanted` leaves as it is.
pub(super) fn info(vf: u32, knob: VfKnob, wanted: &VfSettings) -> Option<VfInfo> {
    Some(match knob {
        VfKnob::Mac => VfInfo::Mac(VfInfoMac::new(vf, &wanted.mac?.bytes())),
        VfKnob::Vlan => {
            let (id, pcp) = wanted.vlan.map_or((0, 0), |vlan| (vlan.id(), vlan.pcp()));
            VfInfo::Vlan(VfInfoVlan::new(vf, id.into(), pcp.into()))
        }
        VfKnob::Rate => VfInfo::Rate(VfInfoRate::new(vf, wanted.min_rate_mbps, wanted.max_rate_mbps)),
        VfKnob::SpoofCheck => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, wanted.spoof_check)),
        VfKnob::Trust => VfInfo::Trust(VfInfoTrust::new(vf, wanted.trust)),
        VfKnob::LinkState => VfInfo::LinkState(VfInfoLinkState::new(
            vf,
            match wanted.link_state? {
                VfLinkState::Auto => link::VfLinkState::Auto,
                VfLinkState::Enable => link::VfLinkState::Enable,
                VfLinkState::Disable => link::VfLinkState::Disable,
            },
        )),
    })
}

fn link_state(state: link::VfLinkState) -> VfLinkState {
    match state {
        link::VfLinkState::Enable => VfLinkState::Enable,
        link::VfLinkState::Disable => VfLinkState::Disable,
        _ => VfLinkState::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [VfKnob; 6] = [
        VfKnob::Mac,
        VfKnob::Vlan,
        VfKnob::SpoofCheck,
        VfKnob::LinkState,
        VfKnob::Trust,
        VfKnob::Rate,
    ];

    fn wanted() -> VfSettings {
        let mut wanted = state().settings();
        wanted.vlan = Some(Vlan::new(100, 3).unwrap());
        wanted.max_rate_mbps = 400;
        wanted.link_state = Some(VfLinkState::Enable);
        wanted
    }

    fn state() -> VfState {
        VfState {
            index: 1,
            mac: "02:00:00:00:00:01".parse().unwrap(),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 0,
            spoof_check: true,
            trust: false,
            link_state: VfLinkState::Auto,
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

    #[test]
    fn a_link_state_is_compared_where_one_is_wanted() {
        let mut found = state();
        found.link_state = VfLinkState::Disable;
        let mut wanted = found.settings();
        wanted.link_state = None;
        assert_eq!(found.differences(&wanted), []);
        wanted.link_state = Some(VfLinkState::Auto);
        assert_eq!(found.differences(&wanted), [VfKnob::LinkState]);
    }

    /// `strace -e trace=sendmsg -e write=all ip link set eth1 vf 2 mac 02:00:00:00:00:01 vlan 100 qos 3 min_tx_rate 0
    /// max_tx_rate 400 spoofchk on state enable trust off` (iproute2 6.1) sends these bytes.
    #[test]
    fn all_settings_of_a_vf_are_one_entry_of_the_list() {
        use netlink_packet_core::{Emitable, Nla};
        let attribute = entry(2, &ALL, &wanted()).unwrap();
        let mut bytes = vec![0; attribute.value_len()];
        attribute.emit_value(&mut bytes);
        assert_eq!(attribute.kind(), 22); // IFLA_VFINFO_LIST
        #[rustfmt::skip]
        let expected = [
            0x70, 0, 1, 0,
            0x28, 0, 1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0x10, 0, 2, 0, 2, 0, 0, 0, 100, 0, 0, 0, 3, 0, 0, 0,
            0x0c, 0, 4, 0, 2, 0, 0, 0, 1, 0, 0, 0,
            0x0c, 0, 5, 0, 2, 0, 0, 0, 1, 0, 0, 0,
            0x0c, 0, 9, 0, 2, 0, 0, 0, 0, 0, 0, 0,
            0x10, 0, 6, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x90, 1, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(attribute.buffer_len(), 4 + bytes.len());
    }
}
