//! `NetworkAttachment`: the lock of an index, and the record of the pod that holds it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A NetworkAttachment, named `<slice>-<index>`, says which pod holds an index of a network and how it is wired. Its
/// existence is the lock of the index. Written by the agent of the pod's node only.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "NetworkAttachment",
    plural = "networkattachments",
    shortname = "natt",
    category = "railhead",
    derive = "PartialEq",
    doc = "The lock of one index of a network, and the record of how its pod is wired. Written by Railhead only.",
    namespaced,
    status = "NetworkAttachmentStatus",
    printcolumn(
        name = "Network",
        type_ = "string",
        json_path = ".metadata.labels.railhead\\.dev/network"
    ),
    printcolumn(name = "Index", type_ = "integer", json_path = ".spec.index"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.podName"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Rails", type_ = "string", json_path = ".status.summary"),
    printcolumn(
        name = "Wired",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Wired')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Wired')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".status.rails[*].addresses[0]",
        priority = 1
    ),
    printcolumn(
        name = "RDMA",
        type_ = "string",
        json_path = ".status.rails[*].rdmaDevice",
        priority = 1
    ),
    printcolumn(
        name = "GID",
        type_ = "string",
        json_path = ".status.rails[*].gidIndex",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("the spec of a NetworkAttachment never changes; it is deleted and made anew"))]
pub struct NetworkAttachmentSpec {
    /// The slice.
    pub slice_name: String,
    /// The index that this object locks.
    pub index: u32,
    /// The pod that holds it.
    pub pod_name: String,
    /// UID of that pod.
    #[serde(rename = "podUID")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9-]{1,128}$"))]
    pub pod_uid: String,
    /// UID of the pod's ResourceClaim.
    #[serde(rename = "claimUID")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9-]{1,128}$"))]
    pub claim_uid: String,
    /// The node it runs on.
    pub node_name: String,
}

/// How the pod is wired, as read back from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAttachmentStatus {
    /// Generation of the attachment that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the node last prepared the pod's claim. Each time it is written anew, so that no deletion that was asked for
    /// before it can still take the index from the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub prepared_at: Option<String>,
    /// Wired rails, of those planned: 8/8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// One entry per rail, by ascending id.
    #[serde(default)]
    pub rails: Vec<AttachedRail>,
    /// Wired, Degraded (ClaimShared, RailDown, Drifted, MemlockLow, QosNotEnforced, NcclOverridden).
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}

/// One rail of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachedRail {
    /// Rail id.
    pub id: u32,
    /// PCI address of the virtual function.
    pub vf: String,
    /// Addresses of the interface.
    pub addresses: Vec<String>,
    /// MAC address of the interface.
    pub mac: String,
    /// VLAN id on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// RDMA device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma_device: Option<String>,
    /// Index of the RoCE v2 GID of the first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid_index: Option<u32>,
    /// Prepared (the pod's sandbox is not wired yet) or Wired.
    pub state: AttachmentState,
}

/// How far a rail is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttachmentState {
    /// Function and index are taken.
    #[default]
    Prepared,
    /// Interface, addresses, routes and GID are in the pod.
    Wired,
}
