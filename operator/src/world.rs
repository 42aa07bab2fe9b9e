//! What every replica knows of the cluster: one store per kind, filled by watches, read by the controllers.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    resource::v1::{ResourceClaim, ResourceSlice},
};
use kube::{
    Resource, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork, names::NETWORK_LABEL,
};

/// The stores.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) fabrics: Store<Fabric>,
    pub(crate) classes: Store<QosClass>,
    pub(crate) networks: Store<TrainingNetwork>,
    pub(crate) slices: Store<NetworkSlice>,
    pub(crate) attachments: Store<NetworkAttachment>,
    pub(crate) node_networks: Store<NodeNetwork>,
    pub(crate) ledgers: Store<FabricLedger>,
    pub(crate) nodes: Store<PartialObjectMeta<Node>>,
    pub(crate) pods: Store<Pod>,
    pub(crate) ports: Store<ResourceSlice>,
    pub(crate) claims: Store<ResourceClaim>,
}

impl World {
    /// The network of that name.
    pub(crate) fn network(&self, namespace: &str, name: &str) -> Option<Arc<TrainingNetwork>> {
        self.networks.get(&ObjectRef::new(name).within(namespace))
    }

    /// The slice of that name.
    pub(crate) fn slice(&self, namespace: &str, name: &str) -> Option<Arc<NetworkSlice>> {
        self.slices.get(&ObjectRef::new(name).within(namespace))
    }

    /// The fabric of that name.
    pub(crate) fn fabric(&self, name: &str) -> Option<Arc<Fabric>> {
        self.fabrics.get(&ObjectRef::new(name))
    }

    /// The attachments of a slice.
    pub(crate) fn attachments_of(&self, namespace: &str, slice: &str) -> Vec<Arc<NetworkAttachment>> {
        self.attachments.state_filter(|attachment| {
            attachment.namespace().as_deref() == Some(namespace) && attachment.spec.slice_name == slice
        })
    }

    /// The pods that carry a network's label.
    pub(crate) fn pods_of(&self, namespace: &str, network: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| {
            pod.namespace().as_deref() == Some(namespace) && label(pod, NETWORK_LABEL) == Some(network)
        })
    }

    /// Copies of all objects of a store, for the planner's functions over slices of objects.
    pub(crate) fn copies<K>(store: &Store<K>) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        store.state().iter().map(|object| (**object).clone()).collect()
    }
}

/// The value of a label.
pub(crate) fn label<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(key).map(String::as_str)
}
