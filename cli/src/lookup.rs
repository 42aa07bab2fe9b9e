//! What belongs to what, found at once: there are tens of thousands of pods and attachments.

use std::collections::HashMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use railhead_crds::{
    NetworkAttachment, NetworkSlice, NodeNetwork, TrainingNetwork,
    names::{self, NETWORK_LABEL},
};

use crate::{
    cluster::{Cluster, Node, Pod, ReadError, key},
    similar::similar,
};

/// Namespace and name.
type Key<'a> = (&'a str, &'a str);

/// The objects of a cluster by what others say of them.
pub(crate) struct Lookup<'a> {
    pub(crate) cluster: &'a Cluster,
    networks: HashMap<Key<'a>, &'a TrainingNetwork>,
    /// By the UID of their network.
    slices: HashMap<&'a str, &'a NetworkSlice>,
    /// By namespace and slice.
    attachments: HashMap<Key<'a>, Vec<&'a NetworkAttachment>>,
    /// By namespace and network.
    pods: HashMap<Key<'a>, Vec<&'a Pod>>,
    pods_by_uid: HashMap<&'a str, &'a Pod>,
    /// By the UID of their pod.
    attachments_by_pod: HashMap<&'a str, &'a NetworkAttachment>,
    nodes: HashMap<&'a str, &'a Node>,
    node_networks: HashMap<&'a str, &'a NodeNetwork>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        let mut attachments: HashMap<Key<'a>, Vec<&NetworkAttachment>> = HashMap::new();
        for attachment in &cluster.attachments {
            let slice = (key(&attachment.metadata).0, attachment.spec.slice_name.as_str());
            attachments.entry(slice).or_default().push(attachment);
        }
        for of_slice in attachments.values_mut() {
            of_slice.sort_by_key(|attachment| attachment.spec.index);
        }
        let mut pods: HashMap<Key<'a>, Vec<&Pod>> = HashMap::new();
        for pod in &cluster.pods {
            let network = (key(&pod.metadata).0, network_of(pod).unwrap_or_default());
            pods.entry(network).or_default().push(pod);
        }
        Self {
            cluster,
            networks: cluster
                .networks
                .iter()
                .map(|network| (key(&network.metadata), network))
                .collect(),
            slices: cluster
                .slices
                .iter()
                .map(|slice| (slice.spec.network.uid.as_str(), slice))
                .collect(),
            attachments,
            pods,
            pods_by_uid: cluster
                .pods
                .iter()
                .filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pod)))
                .collect(),
            attachments_by_pod: cluster
                .attachments
                .iter()
                .map(|attachment| (attachment.spec.pod_uid.as_str(), attachment))
                .collect(),
            nodes: cluster.nodes.iter().map(|node| (key(&node.metadata).1, node)).collect(),
            node_networks: cluster
                .node_networks
                .iter()
                .map(|node| (key(&node.metadata).1, node))
                .collect(),
        }
    }

    pub(crate) fn network(&self, namespace: &str, name: &str) -> Option<&'a TrainingNetwork> {
        self.networks.get(&(namespace, name)).copied()
    }

    /// The slice of a network.
    pub(crate) fn slice(&self, network: &TrainingNetwork) -> Option<&'a NetworkSlice> {
        self.slices.get(network.metadata.uid.as_deref()?).copied()
    }

    /// The attachments of a slice, by index.
    pub(crate) fn attachments<'s>(&'s self, slice: &'s NetworkSlice) -> &'s [&'a NetworkAttachment] {
        self.attachments.get(&key(&slice.metadata)).map_or(&[], Vec::as_slice)
    }

    /// The pods with the label of a network.
    pub(crate) fn pods<'s>(&'s self, network: &'s TrainingNetwork) -> &'s [&'a Pod] {
        self.pods.get(&key(&network.metadata)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn pod_by_uid(&self, uid: &str) -> Option<&'a Pod> {
        self.pods_by_uid.get(uid).copied()
    }

    /// The attachment of a pod.
    pub(crate) fn attachment_of(&self, pod: &Pod) -> Option<&'a NetworkAttachment> {
        self.attachments_by_pod.get(pod.metadata.uid.as_deref()?).copied()
    }

    /// That a node is lost, and since when, if it is. Unknown where Nodes were not read.
    pub(crate) fn lost(&self, name: &str) -> Option<Lost> {
        let lost = |how, since| {
            Some(Lost {
                node: name.to_owned(),
                how,
                since,
            })
        };
        let Some(node) = self.node(name) else {
            return self.cluster.lacks_node(name).then(|| lost(How::Gone, None))?;
        };
        if node.is_out_of_service() {
            return lost(How::OutOfService, None);
        }
        let ready = node.not_ready()?;
        lost(How::NotReady, ready.last_transition_time.as_ref().map(|time| time.0))
    }

    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        self.nodes.get(name).copied()
    }

    pub(crate) fn node_network(&self, name: &str) -> Option<&'a NodeNetwork> {
        self.node_networks.get(name).copied()
    }
}

/// A node of which nobody hears, or that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    node: String,
    pub(crate) how: How,
    pub(crate) since: Option<Timestamp>,
}

/// In which way a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// There is no such Node any more.
    Gone,
    /// Somebody said that nothing runs on it any more.
    OutOfService,
    /// Its kubelet is silent, or says that it is not ready: it may still run its pods.
    NotReady,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.how {
            How::Gone => "is gone",
            How::OutOfService => "is out of service",
            How::NotReady => "is not Ready",
        };
        write!(f, "node {}, which {how}", self.node)
    }
}

/// The network that a pod's label names.
pub(crate) fn network_of(pod: &Pod) -> Option<&str> {
    pod.labels().get(NETWORK_LABEL).map(String::as_str)
}

/// Whether a pod runs no more.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

/// The condition of that type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is True.
pub(crate) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    condition(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// What an object's status says, of an object that has one.
pub(crate) trait Conditions {
    fn conditions(&self) -> &[Condition];
}

/// Kinds whose status has conditions.
macro_rules! with_conditions {
    ($($kind:ty),*) => {$(
        impl Conditions for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
    )*};
}

with_conditions!(
    TrainingNetwork,
    NetworkSlice,
    NetworkAttachment,
    NodeNetwork,
    railhead_crds::Fabric,
    railhead_crds::QosClass,
    railhead_crds::NetworkQuota
);

/// `TrainingNetwork team-a/llama`, or `Fabric backend`.
pub(crate) fn named(kind: &str, metadata: &ObjectMeta) -> String {
    match key(metadata) {
        ("", name) => format!("{kind} {name}"),
        (namespace, name) => format!("{kind} {namespace}/{name}"),
    }
}

/// The network of that name in the namespace that was asked for, or a sentence that there is none, with the name that was meant.
pub(crate) fn found_network<'a>(cluster: &'a Cluster, name: &str) -> Result<&'a TrainingNetwork, ReadError> {
    let namespace = cluster.namespace.as_deref().unwrap_or_default();
    let of_namespace = || {
        cluster
            .networks
            .iter()
            .filter(|network| key(&network.metadata).0 == namespace)
    };
    if let Some(network) = of_namespace().find(|network| key(&network.metadata).1 == name) {
        return Ok(network);
    }
    let names = of_namespace().map(|network| key(&network.metadata).1);
    Err(ReadError::NotFound {
        kind: "TrainingNetwork",
        namespace: Some(namespace.to_owned()),
        name: name.to_owned(),
        similar: similar(name, names).map(str::to_owned),
    })
}

/// A name that may become part of a request.
pub(crate) fn object_name(name: &str) -> Result<&str, ReadError> {
    if names::is_object_name(name) {
        return Ok(name);
    }
    let text = format!("{name:?} is no name that an object of Kubernetes can have");
    Err(ReadError::Usage(text))
}
