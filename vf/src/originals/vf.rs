//! How a VF was.

use railhead_host::{LinkSettings, PciAddress, VfSettings};
use railhead_plan::Versioned;
use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::LinkState;

/// How a VF was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfOriginal {
    /// Format version.
    pub version: u32,
    /// The boot in which it was seen; a reboot makes VFs anew.
    pub boot_id: String,
    /// PCI address of the VF.
    pub pci_address: PciAddress,
    /// PCI address of its PF.
    pub pf_pci_address: PciAddress,
    /// Number on the PF.
    pub index: u32,
    /// Its driver. A record of release 0.1 does not say it.
    #[serde(default)]
    pub driver: Option<String>,
    /// Its link.
    #[serde(flatten)]
    pub link: LinkState,
    /// What its holder may set on it beside that. A record of the release before does not say it, nor one of a VF that no pod
    /// has had yet.
    #[serde(default)]
    pub settings: Option<LinkSettings>,
    /// What the PF enforced; its `mac` is the administrative one.
    pub enforced: VfSettings,
    /// The port refused to give the rate back: what it shows is a pod's and not the VF's own.
    #[serde(default)]
    pub rate_owed: bool,
}

impl Versioned for VfOriginal {
    const WHAT: &'static str = "the original state of a VF";
    const VERSION: u32 = VERSION;
}

impl VfOriginal {
    /// Takes the rate from an earlier record where the port owes it.
    pub(super) fn keep_owed_rate(&mut self, known: &Self) {
        if known.rate_owed {
            self.enforced.min_rate_mbps = known.enforced.min_rate_mbps;
            self.enforced.max_rate_mbps = known.enforced.max_rate_mbps;
            self.rate_owed = true;
        }
    }

    /// Whether the VF has a MAC address as Railhead gives them to pods, which begin with 02, beside those that it is known
    /// to have had. Then nobody gave it back, for example because its plan was damaged.
    pub(super) fn has_a_pods_mac(&self, known: &Self) -> bool {
        let known = [known.link.mac, known.enforced.mac];
        let mut now = [self.link.mac, self.enforced.mac].into_iter().flatten();
        now.any(|mac| mac.bytes()[0] == 0x02 && !known.contains(&Some(mac)))
    }

    /// Whether the VF itself differs, apart from what is known of it. What one of the two does not tell, as a record of the
    /// release before, is not compared.
    pub fn differs_from(&self, other: &Self) -> bool {
        let same = Self {
            version: self.version,
            rate_owed: self.rate_owed,
            driver: self.driver.clone(),
            link: LinkState {
                promiscuous: told(self.link.promiscuous, other.link.promiscuous),
                all_multicast: told(self.link.all_multicast, other.link.all_multicast),
                tx_queue_len: told(self.link.tx_queue_len, other.link.tx_queue_len),
                ..other.link.clone()
            },
            settings: told(self.settings.clone(), other.settings.clone()),
            enforced: VfSettings {
                mac: told(self.enforced.mac, other.enforced.mac),
                link_state: told(self.enforced.link_state, other.enforced.link_state),
                ..other.enforced.clone()
            },
            ..other.clone()
        };
        *self != same
    }
}

/// The other's where both tell it, else the own.
fn told<T>(own: Option<T>, other: Option<T>) -> Option<T> {
    if own.is_some() && other.is_some() { other } else { own }
}

#[cfg(test)]
mod tests {
    use railhead_host::{MacAddress, VfLinkState};
    use railhead_plan::Layout;

    use super::*;
    use crate::Originals;

    /// As release 0.1 wrote it: it knew neither drivers nor flags nor link states.
    const OF_0_1: &str = r#"{
        "version": 1, "bootId": "boot-1", "pciAddress": "0000:18:00.3", "pfPciAddress": "0000:18:00.0", "index": 2,
        "name": "ens1f0v2", "mac": "5e:00:00:00:00:09", "mtu": 1500, "up": false, "altnames": ["enp24s0f0v2"], "alias": null,
        "enforced": {"mac": "00:00:00:00:00:00", "vlan": null, "minRateMbps": 0, "maxRateMbps": 0, "spoofCheck": true,
            "trust": false}
    }"#;

    /// The VF of that record as this release reads it.
    fn now() -> VfOriginal {
        let then: VfOriginal = serde_json::from_str(OF_0_1).unwrap();
        VfOriginal {
            driver: Some("iavf".to_owned()),
            link: LinkState {
                promiscuous: Some(true),
                all_multicast: Some(false),
                tx_queue_len: Some(1000),
                ..then.link
            },
            settings: Some(LinkSettings::default()),
            enforced: VfSettings {
                link_state: Some(VfLinkState::Auto),
                ..then.enforced
            },
            ..then
        }
    }

    #[test]
    fn a_record_of_release_0_1_says_nothing_of_what_it_does_not_know() {
        let then: VfOriginal = serde_json::from_str(OF_0_1).unwrap();
        assert!(!now().differs_from(&then));
        assert!(!then.differs_from(&now()));
        let changes: [fn(&mut VfOriginal); 4] = [
            |vf| vf.link.mtu = 9000,
            |vf| vf.link.mac = Some(MacAddress::new([2; 6])),
            |vf| vf.enforced.trust = true,
            |vf| vf.enforced.mac = Some(MacAddress::new([2; 6])),
        ];
        for change in changes {
            let mut other = now();
            change(&mut other);
            assert!(other.differs_from(&then), "{other:?}");
        }
    }

    #[test]
    fn what_both_tell_is_compared() {
        let changes: [fn(&mut VfOriginal); 4] = [
            |vf| vf.link.promiscuous = Some(false),
            |vf| vf.link.tx_queue_len = Some(7),
            |vf| vf.enforced.link_state = Some(VfLinkState::Disable),
            |vf| vf.settings.as_mut().unwrap().filter_rules = Some(1),
        ];
        for change in changes {
            let mut other = now();
            change(&mut other);
            assert!(other.differs_from(&now()), "{other:?}");
        }
    }

    #[test]
    fn records_of_this_version_and_its_neighbours_are_read_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        std::fs::create_dir_all(layout.originals()).unwrap();
        let originals = Originals::new(&layout, "boot-1");
        let vf = now().pci_address;
        for (version, read) in [(0, false), (1, true), (2, true), (3, false)] {
            let text = OF_0_1.replace(r#""version": 1"#, &format!(r#""version": {version}, "ofTheFuture": 7"#));
            std::fs::write(layout.originals().join("function-0000:18:00.3.json"), text).unwrap();
            assert_eq!(originals.vf(&vf).unwrap().is_some(), read, "version {version}");
        }
    }

    #[test]
    fn a_rate_that_the_port_owes_is_not_taken_for_the_vfs_own() {
        let of = |rate| {
            let mut vf = now();
            vf.enforced.max_rate_mbps = rate;
            vf
        };
        let root = tempfile::tempdir().unwrap();
        let originals = Originals::new(&Layout::under(root.path()), "boot-1");
        // A pod had 400; its port was down when it ended.
        originals.owe_rate(&of(0), true).unwrap();
        let known = originals.vf(&of(0).pci_address).unwrap().unwrap();
        assert!(known.rate_owed);
        assert_eq!(originals.owed().unwrap(), std::slice::from_ref(&known));
        let mut now = of(400);
        assert!(now.differs_from(&known));
        now.keep_owed_rate(&known);
        assert!(!now.differs_from(&known));
        assert_eq!(now.enforced.max_rate_mbps, 0);
    }
}
