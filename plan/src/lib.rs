//! What the agent and the CNI binary tell each other through files on a node.
//!
//! The agent writes an [`AttachmentPlan`] in `NodePrepareResources`; the CNI binary carries it out in ADD and writes an
//! [`AttachmentRecord`] of what it made, which the agent reports. Neither calls the other, so a pod can be wired and
//! unwired while the API server, the operator and the agent are down.
//!
//! Serde types, and what both conclude from them: no I/O, no clock, no Kubernetes types.

mod attachment_plan;
mod attachment_record;
mod gid_index;
mod journal_head;
mod layout;
mod version;
mod wrong_nccl;

pub use attachment_plan::{
    AttachmentPlan, BlockRef, ContainerVariable, NcclSetting, NetworkRef, PLAN_VERSION, PodRef, RailPlan, RdmaPlan,
    TrafficClass, VfPlan,
};
pub use attachment_record::{AttachmentRecord, RECORD_VERSION, RailRecord, RdmaRecord};
pub use gid_index::GidIndex;
pub use journal_head::{JOURNAL_VERSION, JournalHead};
pub use layout::{Layout, NCCL_CONF, PEERS_FILE, POD_FOLDER};
pub use railhead_nic::{InterfaceName, MacAddress, PciAddress, RdmaName, Vlan};
pub use version::{FormatError, Versioned, parser_says};
pub use wrong_nccl::{NCCL_CONF_FILE, NCCL_IB_GID_INDEX, NCCL_IB_HCA, WrongNccl, wrong_nccl};
