//! `FabricLedger`: the lock of reservations.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::Bandwidth;

/// A FabricLedger, named as its Fabric, holds every reservation of address blocks and VLANs. It is written by the operator
/// with the resourceVersion that it read, so that two operators that both think they lead cannot give one block away twice.
/// What a later release has written into it is kept, and a ledger of a later version is not written at all.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "FabricLedger",
    plural = "fabricledgers",
    shortname = "fledger",
    category = "railhead",
    derive = "PartialEq",
    doc = "Every reservation of address blocks and VLANs of a Fabric. Written by Railhead only.",
    printcolumn(name = "Sequence", type_ = "integer", json_path = ".spec.sequence"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct FabricLedgerSpec {
    /// Version of this format. It is the lowest that can say what the ledger says, so that the release before can read it:
    /// 1 as long as every entry has one interval and a VLAN and is Held, else 2.
    pub version: u32,
    /// Counts up with every change.
    pub sequence: u64,
    /// One entry per reserved network, by base.
    #[serde(default)]
    #[schemars(with = "Vec<EntryAsWritten>", length(max = 4094))]
    pub entries: Vec<LedgerEntry>,
    /// Which slots the pools have that somebody holds a part of: they keep them whatever becomes of the Fabric's list of pools.
    /// A release that does not write this finds it again from the slices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4094))]
    pub pools: Vec<LedgerPool>,
    /// There since the ledger was found to be older than what nodes have: every node is asked what its pods hold, and until all
    /// have answered nothing new is given. It goes with the last quarantined entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recount: Option<LedgerRecount>,
    /// Fields of a later release.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

/// Why and under which name nodes are asked what their pods hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRecount {
    /// When it began; a node that has answered repeats it.
    #[schemars(length(max = 64))]
    pub id: String,
    /// By what the ledger was found to be old.
    #[schemars(length(max = 1024))]
    pub why: String,
    /// Whether all nodes have answered. New ones, and those whose NodeNetwork was lost, are asked all the same: before they have
    /// answered too, nobody can tell whether the pods that have what is quarantined have ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answered: bool,
}

/// Pools of the same slots: one of every rail, all of one prefix length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerPool {
    /// Slot of their first address.
    pub base: u32,
    /// By rail.
    #[schemars(length(min = 1, max = 64))]
    pub rails: Vec<LedgerPoolRail>,
}

/// The pool of one rail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerPoolRail {
    /// Rail id.
    pub id: u32,
    /// Its prefix, for example 10.0.0.0/16.
    #[schemars(length(max = 43))]
    pub cidr: String,
}

/// One reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "EntryAsWritten", into = "EntryAsWritten")]
pub struct LedgerEntry {
    /// Aligned intervals of the fabric's slot space; there is at least one.
    pub intervals: Vec<LedgerInterval>,
    /// VLAN id; none where the fabric has no VLANs.
    pub vlan: Option<u16>,
    /// The network that holds it.
    pub owner: LedgerOwner,
    /// What the network takes of the limits of its namespace; none where an earlier release made the entry.
    pub takes: Option<LedgerTakes>,
    /// The ledger's sequence when the entry was made.
    pub sequence: u64,
    /// Whatever it is, the entry holds its slots and its VLAN.
    pub state: LedgerState,
    /// When a resting entry goes.
    pub rests_until: Option<Time>,
    /// The node for whose word it was quarantined.
    pub node: Option<String>,
    /// Fields of a later release.
    pub unknown: BTreeMap<String, Value>,
}

/// A number of slots one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct LedgerInterval {
    /// First slot. Slot s is the s-th address of every rail's pools.
    pub base: u32,
    /// Number of slots, a power of two.
    pub size: u32,
    /// Fields of a later release.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

impl LedgerInterval {
    /// `size` slots from `base`.
    pub fn new(base: u32, size: u32) -> Self {
        Self {
            base,
            size,
            unknown: BTreeMap::new(),
        }
    }
}

/// Who holds a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct LedgerOwner {
    /// Namespace of the TrainingNetwork.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: what counts.
    pub uid: String,
    /// Fields of a later release.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

impl LedgerOwner {
    /// The network of that UID.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, uid: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            unknown: BTreeMap::new(),
        }
    }
}

/// What a network takes of the limits of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct LedgerTakes {
    /// Its pods.
    pub pods: u32,
    /// Rails of each of them.
    pub rails: u32,
    /// What each of them is guaranteed on every rail, as 10G.
    // Without the rule for what people write: it would be asked of every entry whenever one is written.
    #[schemars(with = "String", length(max = 16))]
    pub bandwidth_per_rail: Bandwidth,
    /// Fields of a later release.
    #[serde(flatten)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, Value>,
}

impl LedgerTakes {
    /// So many pods with so much on each of so many rails.
    pub fn new(pods: u32, rails: u32, bandwidth_per_rail: Bandwidth) -> Self {
        Self {
            pods,
            rails,
            bandwidth_per_rail,
            unknown: BTreeMap::new(),
        }
    }
}

/// State of a reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LedgerState {
    /// In use or reserved for use.
    #[default]
    Held,
    /// Given back, and given to nobody until it has rested.
    Resting,
    /// Nobody was given it, or not any more, by a ledger that was restored from a backup; pods on nodes have it all the same. It is
    /// nobody's, and given to nobody before the last of them has ended.
    Quarantined,
    /// One that a later release knows. The entry is held, and stays as it is.
    #[serde(untagged)]
    Unknown(String),
}

/// An entry as the API server has it. One interval is written as the first release wrote it.
#[derive(KubeSchema, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(
    description = "One reservation: aligned intervals of the fabric's slot space and a VLAN.",
    extend("x-kubernetes-preserve-unknown-fields" = true)
)]
#[x_kube(
    validation = Rule::new("has(self.intervals) ? !has(self.base) && !has(self.size) : has(self.base) && has(self.size)")
        .message("an entry of a ledger has base and size, or intervals where it has several")
)]
struct EntryAsWritten {
    /// First slot of its only interval. Slot s is the s-th address of every rail's pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u32>,
    /// Number of slots of its only interval, a power of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
    /// In place of base and size, where there are several intervals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    intervals: Vec<LedgerInterval>,
    /// VLAN id; absent where the fabric has no VLANs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    vlan: Option<u16>,
    /// The network that holds it.
    owner: LedgerOwner,
    /// What the network takes of the limits of its namespace (NetworkQuota). Absent where an earlier release made the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    takes: Option<LedgerTakes>,
    /// The ledger's sequence when the entry was made.
    sequence: u64,
    /// Held until the network's slice is gone, then Resting. Quarantined: pods have it of which the ledger does not know. Other
    /// states are of later releases, and hold too.
    #[schemars(with = "String")]
    state: LedgerState,
    /// Of a resting entry: when it goes, and its slots and its VLAN may be another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rests_until: Option<Time>,
    /// Of an entry that was quarantined: the node that said first that pods have it. Others may say so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    node: Option<String>,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: BTreeMap<String, Value>,
}

/// An entry of a ledger that says not, or twice, which slots it holds.
#[derive(Debug, Error)]
#[error("the entry of {namespace}/{name} has neither base and size nor intervals, or both")]
pub struct NoIntervals {
    namespace: String,
    name: String,
}

impl TryFrom<EntryAsWritten> for LedgerEntry {
    type Error = NoIntervals;

    fn try_from(written: EntryAsWritten) -> Result<Self, NoIntervals> {
        let intervals = match (written.base, written.size, written.intervals) {
            (Some(base), Some(size), none) if none.is_empty() => vec![LedgerInterval::new(base, size)],
            (None, None, several) if !several.is_empty() => several,
            _ => {
                return Err(NoIntervals {
                    namespace: written.owner.namespace,
                    name: written.owner.name,
                });
            }
        };
        Ok(Self {
            intervals,
            vlan: written.vlan,
            owner: written.owner,
            takes: written.takes,
            sequence: written.sequence,
            state: written.state,
            rests_until: written.rests_until,
            node: written.node,
            unknown: written.unknown,
        })
    }
}

impl From<LedgerEntry> for EntryAsWritten {
    fn from(entry: LedgerEntry) -> Self {
        let only = match &entry.intervals[..] {
            [only] if only.unknown.is_empty() => Some((only.base, only.size)),
            _ => None,
        };
        Self {
            base: only.map(|(base, _)| base),
            size: only.map(|(_, size)| size),
            intervals: if only.is_some() { Vec::new() } else { entry.intervals },
            vlan: entry.vlan,
            owner: entry.owner,
            takes: entry.takes,
            sequence: entry.sequence,
            state: entry.state,
            rests_until: entry.rests_until,
            node: entry.node,
            unknown: entry.unknown,
        }
    }
}
