//! How much of a fabric the networks of a namespace may take, and what they take.
//!
//! The limits hold on each fabric by itself: blocks, VLANs and ports are the fabric's, and its ledger, in which they are given, is the
//! lock. What each network takes is written there with its block, so whoever plans on a ledger that is as it was read counts all that was
//! ever given, whoever gave it.

use std::fmt;

use railhead_crds::{Bandwidth, LedgerEntry, LedgerOwner, LedgerTakes, NetworkQuota, NetworkSlice, QuotaLimits};

use crate::ledger::{restored::is_quarantined, rests};

/// What a network takes, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Networks.
    pub networks: u64,
    /// Their pods.
    pub pods: u64,
    /// Mbit/s that they are guaranteed on all rails together.
    pub mbps: u64,
    /// VLANs.
    pub vlans: u64,
}

impl Use {
    /// What a network takes with one VLAN.
    pub fn of(takes: &LedgerTakes) -> Self {
        let pods = u64::from(takes.pods);
        let ports = pods.saturating_mul(u64::from(takes.rails));
        Self {
            networks: 1,
            pods,
            mbps: ports.saturating_mul(takes.bandwidth_per_rail.mbps()),
            vlans: 1,
        }
    }

    /// What the network of an entry takes. Its slice may have grown where no quota asked for it to be written down, and an entry
    /// of an earlier release says nothing: then it is the slice's word, or at least the block.
    pub fn of_entry(entry: &LedgerEntry, slice: Option<&NetworkSlice>) -> Self {
        let block = || {
            entry
                .intervals
                .iter()
                .map(|interval| u64::from(interval.size))
                .sum::<u64>()
        };
        let said = entry.takes.as_ref().map(Self::of);
        let has = slice.map(|slice| Self::of(&taken_by(slice)));
        let of = |amount: fn(&Self) -> u64| said.iter().chain(&has).map(amount).max();
        Self {
            networks: 1,
            pods: of(|used| used.pods).unwrap_or_else(block),
            mbps: of(|used| used.mbps).unwrap_or_default(),
            vlans: u64::from(entry.vlan.is_some()),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            networks: self.networks.saturating_add(other.networks),
            pods: self.pods.saturating_add(other.pods),
            mbps: self.mbps.saturating_add(other.mbps),
            vlans: self.vlans.saturating_add(other.vlans),
        }
    }

    /// The larger of the two, in everything.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        Self {
            networks: self.networks.max(other.networks),
            pods: self.pods.max(other.pods),
            mbps: self.mbps.max(other.mbps),
            vlans: self.vlans.max(other.vlans),
        }
    }
}

/// What the network of a slice takes.
pub fn taken_by(slice: &NetworkSlice) -> LedgerTakes {
    let spec = &slice.spec;
    let rails = u32::try_from(spec.rails.len()).unwrap_or(u32::MAX);
    LedgerTakes::new(spec.pods, rails, spec.qos.guaranteed)
}

/// Whether an entry counts as use: what was given back is nobody's use any more, and what is quarantined is no network's.
pub fn counts(entry: &LedgerEntry) -> bool {
    !rests(entry) && !is_quarantined(entry)
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Networks.
    Networks,
    /// Pods of all of them.
    Pods,
    /// What all of them are guaranteed.
    Bandwidth,
    /// VLANs.
    Vlans,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Networks, Self::Pods, Self::Bandwidth, Self::Vlans];

    /// Its field in `spec.hard`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Pods => "pods",
            Self::Bandwidth => "bandwidth",
            Self::Vlans => "vlans",
        }
    }

    /// What is allowed of it, if it is limited.
    pub fn limit(self, hard: &QuotaLimits) -> Option<u64> {
        match self {
            Self::Networks => hard.networks.map(u64::from),
            Self::Pods => hard.pods.map(u64::from),
            Self::Bandwidth => hard.bandwidth.map(Bandwidth::mbps),
            Self::Vlans => hard.vlans.map(u64::from),
        }
    }

    /// How much of it is used.
    pub fn of(self, used: &Use) -> u64 {
        match self {
            Self::Networks => used.networks,
            Self::Pods => used.pods,
            Self::Bandwidth => used.mbps,
            Self::Vlans => used.vlans,
        }
    }

    /// An amount as people read it.
    pub fn text(self, amount: u64) -> String {
        match self {
            Self::Bandwidth => Bandwidth::from_mbps(amount).to_string(),
            Self::Networks | Self::Pods | Self::Vlans => amount.to_string(),
        }
    }
}

/// A quota on the fabric at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose use it limits.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The limits.
    pub hard: QuotaLimits,
}

/// Whether a quota limits what is taken of a fabric.
pub fn is_on(quota: &NetworkQuota, fabric: &str) -> bool {
    quota.spec.fabric_name.as_deref().is_none_or(|name| name == fabric)
}

/// Those of the quotas that limit what is taken of a fabric, by namespace and name.
pub fn on<'a>(quotas: impl IntoIterator<Item = &'a NetworkQuota>, fabric: &str) -> Vec<Quota> {
    let quotas = quotas.into_iter().filter(|quota| is_on(quota, fabric));
    let mut quotas: Vec<Quota> = quotas
        .map(|quota| Quota {
            namespace: quota.metadata.namespace.clone().unwrap_or_default(),
            name: quota.metadata.name.clone().unwrap_or_default(),
            hard: quota.spec.hard.clone(),
        })
        .collect();
    quotas.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    quotas
}

/// A network that asks for a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The network.
    pub owner: LedgerOwner,
    /// What it would take.
    pub takes: LedgerTakes,
}

/// What bounds the reservations on a fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Quotas of all namespaces.
    pub quotas: Vec<Quota>,
    /// Networks without a reservation, the oldest first: those that ask now, and those that a quota turned away before.
    pub waiting: Vec<Waits>,
}

/// A limit in somebody's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Name of the quota.
    pub quota: String,
    /// Of what it allows less.
    pub measure: Measure,
    /// What is asked.
    pub asked: u64,
    /// What others use.
    pub used: u64,
    /// What is allowed.
    pub hard: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |amount| self.measure.text(amount);
        write!(
            f,
            "NetworkQuota {}, spec.hard.{}: {} asked, {} used by other networks, {} allowed",
            self.quota,
            self.measure.field(),
            text(self.asked),
            text(self.used),
            text(self.hard)
        )
    }
}

/// The limits that stand in the way of `asked` where others of the namespace use `used`.
pub fn excess<'a>(quotas: impl IntoIterator<Item = &'a Quota>, used: Use, asked: Use) -> Vec<Excess> {
    let mut found = Vec::new();
    let together = used.plus(asked);
    for quota in quotas {
        for measure in Measure::ALL {
            let hard = measure.limit(&quota.hard);
            if let Some(hard) = hard.filter(|hard| measure.of(&together) > *hard) {
                found.push(Excess {
                    quota: quota.name.clone(),
                    measure,
                    asked: measure.of(&asked),
                    used: measure.of(&used),
                    hard,
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
