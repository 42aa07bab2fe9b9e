//! What is kept of an object of each kind, and where.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    api::{
        core::v1 as core,
        resource::v1::{ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt as _};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkQuota, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork,
    names::{DRIVER, NETWORK_LABEL},
};
use railhead_planner::{
    bandwidth::{self, Held, NodePorts},
    claim, index,
};
use serde::de::DeserializeOwned;

use super::{Claim, Cluster, Event, Kind, Node, Pod, Ports, Unread, Wanted};

/// A kind that is read.
pub(super) trait Kept: Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static {
    /// What is kept of an object.
    type As: Send + 'static;
    /// Which it is.
    const KIND: Kind;

    /// The object with what is used of it; none if that is nothing.
    fn keep(self, wanted: &Wanted) -> Option<Self::As>;

    /// Where they are.
    fn list(cluster: &mut Cluster) -> &mut Vec<Self::As>;
}

/// Who wrote which field is of no interest, and takes most of a small object's room.
fn metadata<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// A kind that is kept as it is.
macro_rules! whole {
    ($($type:ty => $kind:ident, $list:ident);* $(;)?) => {$(
        impl Kept for $type {
            type As = Self;
            const KIND: Kind = Kind::$kind;

            fn keep(mut self, _: &Wanted) -> Option<Self> {
                metadata(&mut self);
                Some(self)
            }

            fn list(cluster: &mut Cluster) -> &mut Vec<Self> {
                &mut cluster.$list
            }
        }
    )*};
}

whole! {
    Fabric => Fabrics, fabrics;
    FabricLedger => Ledgers, ledgers;
    QosClass => Classes, classes;
    NetworkQuota => Quotas, quotas;
    TrainingNetwork => Networks, networks;
    NetworkSlice => Slices, slices;
    NodeNetwork => NodeNetworks, node_networks;
}

impl Kept for NetworkAttachment {
    type As = Self;
    const KIND: Kind = Kind::Attachments;

    fn keep(mut self, wanted: &Wanted) -> Option<Self> {
        metadata(&mut self);
        if let Some(status) = &mut self.status
            && !wanted.keeps_rails()
        {
            status.rails = Vec::new();
        }
        Some(self)
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Self> {
        &mut cluster.attachments
    }
}

impl Kept for Pod {
    type As = Self;
    const KIND: Kind = Kind::Pods;

    fn keep(mut self, wanted: &Wanted) -> Option<Self> {
        let is_read = |key: &String| key == NETWORK_LABEL || index::READ.contains(&key.as_str());
        if !self.labels().contains_key(NETWORK_LABEL) && wanted.named_pod() != self.metadata.name.as_deref() {
            return None;
        }
        metadata(&mut self);
        self.labels_mut().retain(|key, _| is_read(key));
        self.annotations_mut()
            .retain(|key, _| is_read(key) || key.starts_with("railhead.dev/"));
        self.status
            .conditions
            .retain(|condition| condition.type_ == "PodScheduled" || condition.status != "True");
        Some(self)
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Self> {
        &mut cluster.pods
    }
}

impl Kept for Node {
    type As = Self;
    const KIND: Kind = Kind::Nodes;

    fn keep(mut self, _: &Wanted) -> Option<Self> {
        metadata(&mut self);
        self.metadata.annotations = None;
        self.status.conditions.retain(|condition| condition.type_ == "Ready");
        Some(self)
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Self> {
        &mut cluster.nodes
    }
}

impl Kept for core::Namespace {
    type As = ObjectMeta;
    const KIND: Kind = Kind::Namespaces;

    fn keep(mut self, _: &Wanted) -> Option<Self::As> {
        metadata(&mut self);
        self.metadata.annotations = None;
        Some(self.metadata)
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Self::As> {
        &mut cluster.namespaces
    }
}

impl Kept for ResourceClaim {
    type As = Claim;
    const KIND: Kind = Kind::Claims;

    fn keep(mut self, _: &Wanted) -> Option<Claim> {
        let network = claim::network_of(&self).ok();
        let held = Held::by(&self);
        if network.is_none() && held.is_none() {
            return None;
        }
        metadata(&mut self);
        let status = self.status.unwrap_or_default();
        let results = status
            .allocation
            .and_then(|allocation| allocation.devices)
            .and_then(|devices| devices.results)
            .unwrap_or_default();
        Some(Claim {
            metadata: self.metadata,
            network,
            held,
            reserved_for: status
                .reserved_for
                .unwrap_or_default()
                .into_iter()
                .map(|consumer| (consumer.name, consumer.uid))
                .collect(),
            allocated: results
                .into_iter()
                .filter(|result| result.driver == DRIVER)
                .map(|result| {
                    let mbps = bandwidth::bandwidth(&result).map_or(0, railhead_crds::Bandwidth::mbps);
                    (result.pool, result.device, mbps)
                })
                .collect(),
        })
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Claim> {
        &mut cluster.claims
    }
}

impl Kept for ResourceClaimTemplate {
    type As = Self;
    const KIND: Kind = Kind::Templates;

    fn keep(mut self, _: &Wanted) -> Option<Self> {
        let is_named = railhead_crds::names::network_of_claim_template(&self.name_any()).is_some();
        if !is_named && claim::network_of_template(&self).is_none() {
            return None;
        }
        metadata(&mut self);
        Some(self)
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Self> {
        &mut cluster.templates
    }
}

impl Kept for ResourceSlice {
    type As = Ports;
    const KIND: Kind = Kind::Ports;

    fn keep(mut self, _: &Wanted) -> Option<Ports> {
        let ports = NodePorts::of(&self)?;
        metadata(&mut self);
        let mut taints: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for device in self.spec.devices.unwrap_or_default() {
            for taint in device.taints.unwrap_or_default() {
                let of_device = taints.entry(device.name.clone()).or_default();
                of_device.push((taint.key, taint.effect));
            }
        }
        Some(Ports {
            metadata: self.metadata,
            node: self.spec.pool.name,
            of_node: ports,
            taints,
        })
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Ports> {
        &mut cluster.ports
    }
}

impl Kept for core::Event {
    type As = Event;
    const KIND: Kind = Kind::Events;

    fn keep(self, _: &Wanted) -> Option<Event> {
        Some(self.into())
    }

    fn list(cluster: &mut Cluster) -> &mut Vec<Event> {
        &mut cluster.events
    }
}

/// An object that this release does not understand: of a later one, or edited by hand.
pub(super) fn not_understood<K: Kept>(metadata: &ObjectMeta, error: &serde_json::Error) -> Unread {
    let name = metadata.name.as_deref().unwrap_or("without a name");
    let place = metadata
        .namespace
        .as_deref()
        .map(|namespace| format!(" in namespace {namespace}"));
    Unread {
        kind: K::KIND,
        why: format!(
            "{} {name}{} is not understood, and left out ({error}): it is of a later release, or was edited by hand",
            K::kind(&()),
            place.unwrap_or_default()
        ),
    }
}
