//! Pods, Nodes and Namespaces with what is read of them and nothing else. There are tens of thousands, and Kubernetes' own types take kilobytes
//! each before anything is in them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{self, NodeAddress, PodCondition, PodResourceClaimStatus, Taint},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::{Deserialize, Serialize};

use crate::lost_nodes::is_out_of_service;

/// A pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = v1::Pod)]
pub(crate) struct Pod {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spec: Option<PodSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<PodStatus>,
}

/// Where a pod is to run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<String>,
}

/// How far a pod is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conditions: Option<Vec<PodCondition>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
}

/// A Node.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = v1::Node)]
#[serde(from = "NodeAsRead")]
pub(crate) struct Node {
    /// Without its labels.
    pub(crate) metadata: ObjectMeta,
    pub(crate) labels: Labels,
    pub(crate) spec: Option<NodeSpec>,
    pub(crate) status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeAsRead {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

impl From<NodeAsRead> for Node {
    fn from(mut read: NodeAsRead) -> Self {
        if let Some(spec) = &mut read.spec {
            spec.taints.retain(is_out_of_service);
            spec.taints.shrink_to_fit();
        }
        Self {
            labels: Labels::of(&read.metadata.labels.take().unwrap_or_default()),
            metadata: read.metadata,
            spec: read.spec,
            status: read.status,
        }
    }
}

impl Node {
    /// Whether somebody said that nothing runs on it any more.
    pub(crate) fn is_out_of_service(&self) -> bool {
        self.spec
            .as_ref()
            .is_some_and(|spec| spec.taints.iter().any(is_out_of_service))
    }
}

/// A Namespace: whom its labels let use what.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = v1::Namespace)]
#[serde(from = "NamespaceAsRead")]
pub(crate) struct Namespace {
    /// Without its labels.
    pub(crate) metadata: ObjectMeta,
    pub(crate) labels: Labels,
}

#[derive(Deserialize)]
struct NamespaceAsRead {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl From<NamespaceAsRead> for Namespace {
    fn from(mut read: NamespaceAsRead) -> Self {
        Self {
            labels: Labels::of(&read.metadata.labels.take().unwrap_or_default()),
            metadata: read.metadata,
        }
    }
}

/// Labels in one piece, a line each: a map of the dozens that clouds and feature discovery give to a Node takes three times as much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Labels(Box<str>);

impl Labels {
    fn of(map: &BTreeMap<String, String>) -> Self {
        // Kubernetes allows neither `=` nor a line's end in them.
        let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self(lines.join("\n").into())
    }

    /// The value of a label.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Which addresses the pods of a Node have, and whether there are any.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub(crate) pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub(crate) pod_cidrs: Option<Vec<String>>,
    /// Of these only the one that says that nothing runs there any more.
    #[serde(default)]
    taints: Vec<Taint>,
}

/// Which addresses a Node has.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) addresses: Option<Vec<NodeAddress>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_labels_of_a_node_are_found_by_their_whole_names() {
        let labels = json!({"gpu": "h100", "gpu.count": "8", "example.com/rails": "", "u": "x"});
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "node1", "labels": labels}})).unwrap();
        let found = ["gpu", "gpu.count", "example.com/rails", "u", "gp", "pu", "h100"].map(|key| node.labels.get(key));
        assert_eq!(found, [Some("h100"), Some("8"), Some(""), Some("x"), None, None, None]);
        assert_eq!(node.metadata.labels, None, "not twice");
        let bare: Node = serde_json::from_value(json!({"metadata": {"name": "node1"}})).unwrap();
        assert_eq!(bare.labels.get(""), None);
    }
}
