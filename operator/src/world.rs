//! What every replica knows of the cluster: one store per kind, filled by watches, read by the controllers.

use std::sync::Arc;

use k8s_openapi::api::{networking::v1::ServiceCIDR, resource::v1::ResourceClaimTemplate};
use kube::{
    Resource,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork, names::NETWORK_LABEL,
};
use railhead_planner::bandwidth::{Held, NodePorts};

use railhead_planner::{
    ledger,
    pools::{self, Laid, Outside, Written},
};

use crate::{
    contested::Contested,
    fabric::others,
    grouped::Grouped,
    kept::Kept,
    known::{Namespace, Node, Pod},
    observe::{Named, named},
    quota::Quotas,
    recount::Words,
    schemas::Schemas,
    surroundings::Surroundings,
};

/// The stores.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) fabrics: Store<Fabric>,
    pub(crate) classes: Store<QosClass>,
    pub(crate) networks: Store<TrainingNetwork>,
    /// By network.
    pub(crate) slices: Grouped<NetworkSlice>,
    /// By slice.
    pub(crate) attachments: Grouped<NetworkAttachment>,
    pub(crate) node_networks: Store<NodeNetwork>,
    pub(crate) ledgers: Store<FabricLedger>,
    pub(crate) nodes: Store<Node>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) quotas: Quotas,
    /// By network.
    pub(crate) pods: Grouped<Pod>,
    /// The ports of each node.
    pub(crate) ports: Kept<NodePorts>,
    /// What claims hold of them.
    pub(crate) claims: Kept<Held>,
    pub(crate) templates: Store<ResourceClaimTemplate>,
    pub(crate) services: Store<ServiceCIDR>,
    pub(crate) contested: Contested,
    pub(crate) surroundings: Surroundings,
    pub(crate) words: Words,
    /// How the cluster's definitions are.
    pub(crate) schemas: Schemas,
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

    /// A namespace with its labels, once it is known.
    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(&ObjectRef::new(name))
    }

    /// Whether anything is for some namespaces only.
    pub(crate) fn has_allow_lists(&self) -> bool {
        let fabric = |fabric: &Fabric| fabric.spec.allowed_namespaces.is_some();
        let class = |class: &QosClass| class.spec.allowed_namespaces.is_some();
        self.fabrics.find(fabric).is_some() || self.classes.find(class).is_some()
    }

    /// What a Fabric says of pools and VLANs, beside what is known outside of it.
    pub(crate) fn written(&self, fabric: &Fabric) -> Written {
        let mut outside = others::overlaps(self, fabric);
        for pool in fabric.spec.rails.iter().flat_map(|rail| &rail.pools) {
            let met = pool.cidr.parse().ok().and_then(|net| self.surroundings.meets(net));
            outside.extend(met.map(|(other, advice)| Outside {
                cidr: pool.cidr.clone(),
                other,
                advice,
            }));
        }
        Written::of_fabric(fabric, outside)
    }

    /// Where its pools lie, as far as is known here.
    pub(crate) fn lay_out(&self, fabric: &str, written: &Written) -> Laid {
        let mut slices = self.slices.state();
        slices.retain(|slice| slice.spec.fabric.name == fabric);
        let empty = ledger::empty();
        let ledger = self.ledgers.get(&ObjectRef::new(fabric));
        pools::lay_out(written, ledger.as_ref().map_or(&empty, |ledger| &ledger.spec), &slices)
    }

    /// The attachments of a slice.
    pub(crate) fn attachments_of(&self, namespace: &str, slice: &str) -> Vec<Arc<NetworkAttachment>> {
        self.attachments.members(&Named::within(namespace, slice))
    }

    /// The pods that carry a network's label.
    pub(crate) fn pods_of(&self, namespace: &str, network: &str) -> Vec<Arc<Pod>> {
        self.pods.members(&Named::within(namespace, network))
    }
}

/// The network that a pod's label names.
pub(crate) fn network_of_pod(pod: &Pod) -> Named {
    named(pod).beside(label(pod, NETWORK_LABEL).unwrap_or_default().to_owned())
}

/// The network that a slice is of.
pub(crate) fn network_of_slice(slice: &NetworkSlice) -> Named {
    named(slice).beside(slice.spec.network.name.clone())
}

/// The slice that a pod is attached to.
pub(crate) fn slice_of_attachment(attachment: &NetworkAttachment) -> Named {
    named(attachment).beside(attachment.spec.slice_name.clone())
}

/// The value of a label.
pub(crate) fn label<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
pub(crate) mod tests {
    use kube::runtime::reflector::store;

    use super::*;

    /// A cluster without anything. Tests put in stores of their own.
    pub(crate) fn empty() -> World {
        World {
            fabrics: store().0,
            classes: store().0,
            networks: store().0,
            slices: Grouped::new(store().0, network_of_slice),
            attachments: Grouped::new(store().0, slice_of_attachment),
            node_networks: store().0,
            ledgers: store().0,
            nodes: store().0,
            namespaces: store().0,
            quotas: Quotas::new(store().0),
            pods: Grouped::new(store().0, network_of_pod),
            ports: Kept::default(),
            claims: Kept::default(),
            templates: store().0,
            services: store().0,
            contested: Contested::default(),
            surroundings: Surroundings::default(),
            words: Words::default(),
            schemas: Schemas::default(),
        }
    }
}
