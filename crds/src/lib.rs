//! The resources of `railhead.dev/v1alpha1`, as they are written in YAML.
//!
//! One module per kind. The doc comments of the fields are the manual that `kubectl explain` prints; the CEL rules beside
//! them are what the API server refuses. No client and no runtime in here.

// KubeSchema re-emits the structs inside a private scope, where the lint takes them for unreachable.
#![allow(unreachable_pub)]
// clippy reads the keys of several printcolumn(..) as one attribute given twice.
#![allow(clippy::duplicated_attributes)]

mod bandwidth;
mod fabric;
mod fabric_ledger;
mod meta;
pub mod names;
mod namespaces;
mod network_attachment;
mod network_quota;
mod network_slice;
mod node_network;
mod qos_class;
pub mod reasons;
pub mod reference;
pub mod schema;
mod training_network;
pub mod yaml;

pub use bandwidth::{Bandwidth, BandwidthError};
pub use fabric::{
    Addressing, AddressingMode, Fabric, FabricSpec, FabricStatus, LinkType, Management, NodeSelector, Pool, PoolStatus,
    Port, Rail, SoftRoce, VfManagement, VlanMode, VlanPolicy, VlanRange,
};
pub use fabric_ledger::{
    FabricLedger, FabricLedgerSpec, LedgerEntry, LedgerInterval, LedgerOwner, LedgerPool, LedgerPoolRail,
    LedgerRecount, LedgerState, LedgerTakes, NoIntervals,
};
pub use namespaces::NamespaceSelector;
pub use network_attachment::{
    AttachedRail, AttachmentState, NetworkAttachment, NetworkAttachmentSpec, NetworkAttachmentStatus,
};
pub use network_quota::{NetworkQuota, NetworkQuotaSpec, NetworkQuotaStatus, QuotaLimits, QuotaSummary, QuotaUse};
pub use network_slice::{
    NetworkSlice, NetworkSliceSpec, NetworkSliceStatus, NoPrefix, SliceFabric, SliceNetwork, SlicePrefix, SliceQos,
    SliceRail,
};
pub use node_network::{
    ChainStatus, NodeHolding, NodeNetwork, NodeNetworkSpec, NodeNetworkStatus, NodePort, NodeRail, NodeSummary,
    PortHealth, PortVfs,
};
pub use qos_class::{ClassBandwidth, ClassVf, QosClass, QosClassSpec, QosClassStatus};
pub use training_network::{
    Nccl, NcclInject, NetworkRails, NetworkRole, NetworkSummary, Stability, TrainingNetwork, TrainingNetworkSpec,
    TrainingNetworkStatus,
};

/// The API group.
pub const GROUP: &str = "railhead.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";

/// Every CustomResourceDefinition of the group, in the order in which they are installed.
pub fn all() -> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    let mut all = vec![
        Fabric::crd(),
        QosClass::crd(),
        TrainingNetwork::crd(),
        NetworkQuota::crd(),
        FabricLedger::crd(),
        NetworkSlice::crd(),
        NetworkAttachment::crd(),
        NodeNetwork::crd(),
    ];
    all.iter_mut().for_each(meta::without_unsigned_formats);
    all.iter_mut().for_each(meta::not_ready_at_first);
    all
}
