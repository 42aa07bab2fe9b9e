//! `FabricLedger`: the lock of reservations.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A FabricLedger, named as its Fabric, holds every reservation of address blocks and VLANs. It is written by the operator
/// with the resourceVersion that it read, so that two operators that both think they lead cannot give one block away twice.
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
pub struct FabricLedgerSpec {
    /// Version of this format.
    pub version: u32,
    /// Counts up with every change.
    pub sequence: u64,
    /// One entry per reserved network, by base.
    #[serde(default)]
    #[schemars(length(max = 4094))]
    pub entries: Vec<LedgerEntry>,
}

/// One reservation: an aligned interval of the fabric's slot space and a VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// First slot. Slot s is the s-th address of every rail's pools.
    pub base: u32,
    /// Number of slots, a power of two.
    pub size: u32,
    /// VLAN id.
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: u16,
    /// The network that holds it.
    pub owner: LedgerOwner,
    /// The ledger's sequence when the entry was made.
    pub sequence: u64,
    /// Held until the network's slice is gone.
    pub state: LedgerState,
}

/// Who holds a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerOwner {
    /// Namespace of the TrainingNetwork.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: what counts.
    pub uid: String,
}

/// State of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LedgerState {
    /// In use or reserved for use.
    #[default]
    Held,
}
