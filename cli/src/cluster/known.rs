//! Kubernetes' own kinds with what is read of them. There are thousands, and their own types take kilobytes each.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{self, PodCondition, PodResourceClaimStatus, Taint},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::Resource;
use railhead_planner::bandwidth::{Held, NodePorts};
use serde::Deserialize;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = v1::Pod)]
pub(crate) struct Pod {
    /// With the labels and annotations that say of which network and workload it is.
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

/// Where a pod is to run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) host_network: bool,
}

/// How far a pod is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) conditions: Vec<PodCondition>,
    pub(crate) init_container_statuses: Vec<Container>,
    pub(crate) container_statuses: Vec<Container>,
    pub(crate) resource_claim_statuses: Vec<PodResourceClaimStatus>,
}

impl Pod {
    /// What the scheduler says of it, if it has said anything.
    pub(crate) fn scheduled(&self) -> Option<&PodCondition> {
        let mut conditions = self.status.conditions.iter();
        conditions.find(|said| said.type_ == "PodScheduled")
    }
}

/// How far a container is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) restart_count: i32,
    pub(crate) state: ContainerState,
}

/// What a container does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerState {
    pub(crate) waiting: Option<Waiting>,
}

/// For what a container waits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Waiting {
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

/// A Node.
#[derive(Clone, Debug, Default, Deserialize, Resource)]
#[resource(inherit = v1::Node)]
pub(crate) struct Node {
    /// With its labels.
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: NodeSpec,
    #[serde(default)]
    pub(crate) status: NodeStatus,
}

/// Whether pods may run on a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeSpec {
    pub(crate) unschedulable: bool,
    pub(crate) taints: Vec<Taint>,
}

/// How a Node is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    /// Only `Ready`.
    pub(crate) conditions: Vec<NodeCondition>,
}

/// A condition of a Node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeCondition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) last_transition_time: Option<Time>,
    pub(crate) message: Option<String>,
}

impl Node {
    /// Since when its kubelet is silent or not ready, if that is so, with what is said of it.
    pub(crate) fn not_ready(&self) -> Option<&NodeCondition> {
        let ready = self.status.conditions.iter().find(|said| said.type_ == "Ready")?;
        (ready.status != "True").then_some(ready)
    }

    /// Whether somebody said that nothing runs on it any more.
    pub(crate) fn is_out_of_service(&self) -> bool {
        let mut taints = self.spec.taints.iter();
        taints.any(|taint| taint.key == "node.kubernetes.io/out-of-service")
    }
}

/// A ResourceClaim that asks for rails or holds some.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) metadata: ObjectMeta,
    /// Name and UID of the network, as the claim says; none where it names none.
    pub(crate) network: Option<(String, String)>,
    /// Name and UID of the pods that it is reserved for.
    pub(crate) reserved_for: Vec<(String, String)>,
    /// What it holds of ports.
    pub(crate) held: Option<Held>,
    /// What it was allocated of Railhead's devices: pool (the node), device, Mbit/s.
    pub(crate) allocated: Vec<(String, String, u64)>,
}

/// A ResourceSlice of Railhead's driver.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    pub(crate) metadata: ObjectMeta,
    /// The node.
    pub(crate) node: String,
    /// Ports with their capacities, for [`railhead_planner::bandwidth::free`].
    pub(crate) of_node: NodePorts,
    /// By device: key and effect of each taint.
    pub(crate) taints: BTreeMap<String, Vec<(String, String)>>,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) about: Happened,
    /// Whether it is a warning.
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Who says it.
    pub(crate) reporter: String,
    pub(crate) count: u32,
    pub(crate) first: Option<Timestamp>,
    pub(crate) last: Option<Timestamp>,
}

/// To what something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl From<v1::Event> for Event {
    fn from(event: v1::Event) -> Self {
        let about = event.involved_object;
        let series = event.series;
        let first = event
            .first_timestamp
            .map(|time| time.0)
            .or_else(|| event.event_time.as_ref().map(|time| time.0));
        let last = series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
            .or_else(|| event.last_timestamp.map(|time| time.0))
            .or(first)
            .or_else(|| event.metadata.creation_timestamp.map(|time| time.0));
        let count = series.and_then(|series| series.count).or(event.count).unwrap_or(1);
        Self {
            about: Happened {
                kind: about.kind.unwrap_or_default(),
                namespace: about.namespace.unwrap_or_default(),
                name: about.name.unwrap_or_default(),
                uid: about.uid.unwrap_or_default(),
            },
            warning: event.type_.as_deref() == Some("Warning"),
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
            reporter: event
                .reporting_component
                .filter(|reporter| !reporter.is_empty())
                .or_else(|| event.source.and_then(|source| source.component))
                .unwrap_or_default(),
            count: u32::try_from(count).unwrap_or(1),
            first,
            last,
        }
    }
}
