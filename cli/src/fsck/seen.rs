//! What belongs to what, for the checks.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use railhead_crds::{
    Fabric, FabricLedger, FabricLedgerSpec, LedgerEntry, NetworkAttachment, NetworkSlice, NodeNetwork, TrainingNetwork,
};
use railhead_planner::ledger;

use crate::{
    cluster::{Cluster, Node, Pod, key},
    lookup::{has_ended, network_of},
};

/// A cluster, and who is who in it.
pub(super) struct Seen<'a> {
    pub(super) cluster: &'a Cluster,
    /// By UID.
    networks: HashMap<&'a str, &'a TrainingNetwork>,
    fabrics: HashMap<&'a str, &'a Fabric>,
    ledgers: HashMap<&'a str, &'a FabricLedger>,
    /// By namespace and name.
    slices: HashMap<(&'a str, &'a str), &'a NetworkSlice>,
    /// By the UID of their network.
    slices_of: HashMap<&'a str, &'a NetworkSlice>,
    /// By namespace and slice.
    attachments: HashMap<(&'a str, &'a str), Vec<&'a NetworkAttachment>>,
    pods: HashMap<&'a str, &'a Pod>,
    /// By namespace and network: those that have a node and have not ended.
    running: HashMap<(&'a str, &'a str), Vec<&'a Pod>>,
    /// By namespace and name.
    templates: HashMap<(&'a str, &'a str), &'a ResourceClaimTemplate>,
    nodes: HashMap<&'a str, &'a Node>,
    node_networks: HashMap<&'a str, &'a NodeNetwork>,
    /// UIDs of networks that others contradict, or that contradict themselves.
    contested: HashSet<String>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let mut attachments: HashMap<_, Vec<_>> = HashMap::new();
        for attachment in &cluster.attachments {
            let slice = (key(&attachment.metadata).0, attachment.spec.slice_name.as_str());
            attachments.entry(slice).or_default().push(attachment);
        }
        let mut running: HashMap<_, Vec<_>> = HashMap::new();
        for pod in cluster
            .pods
            .iter()
            .filter(|pod| pod.spec.node_name.is_some() && !has_ended(pod))
        {
            let network = (key(&pod.metadata).0, network_of(pod).unwrap_or_default());
            running.entry(network).or_default().push(pod);
        }
        let uid = |uid: &'a Option<String>| uid.as_deref();
        let mut seen = Self {
            cluster,
            networks: cluster
                .networks
                .iter()
                .filter_map(|network| Some((uid(&network.metadata.uid)?, network)))
                .collect(),
            fabrics: cluster
                .fabrics
                .iter()
                .map(|fabric| (key(&fabric.metadata).1, fabric))
                .collect(),
            ledgers: cluster
                .ledgers
                .iter()
                .map(|ledger| (key(&ledger.metadata).1, ledger))
                .collect(),
            slices: cluster
                .slices
                .iter()
                .map(|slice| (key(&slice.metadata), slice))
                .collect(),
            slices_of: cluster
                .slices
                .iter()
                .map(|slice| (slice.spec.network.uid.as_str(), slice))
                .collect(),
            attachments,
            pods: cluster
                .pods
                .iter()
                .filter_map(|pod| Some((uid(&pod.metadata.uid)?, pod)))
                .collect(),
            running,
            templates: cluster
                .templates
                .iter()
                .map(|template| (key(&template.metadata), template))
                .collect(),
            nodes: cluster.nodes.iter().map(|node| (key(&node.metadata).1, node)).collect(),
            node_networks: cluster
                .node_networks
                .iter()
                .map(|node| (key(&node.metadata).1, node))
                .collect(),
            contested: HashSet::new(),
        };
        let mut contested = HashSet::new();
        for fabric in seen.ledger_names() {
            let entries = seen.entries_of_slices(fabric);
            contested.extend(ledger::contested(&seen.ledger_or_empty(fabric), &entries).into_keys());
        }
        seen.contested = contested;
        seen
    }

    pub(super) fn network(&self, uid: &str) -> Option<&'a TrainingNetwork> {
        self.networks.get(uid).copied()
    }

    pub(super) fn fabric(&self, name: &str) -> Option<&'a Fabric> {
        self.fabrics.get(name).copied()
    }

    pub(super) fn ledger(&self, fabric: &str) -> Option<&'a FabricLedgerSpec> {
        self.ledgers.get(fabric).map(|ledger| &ledger.spec)
    }

    /// Names of fabrics that have a ledger or slices, in order.
    pub(super) fn ledger_names(&self) -> Vec<&'a str> {
        let of_slices = self.cluster.slices.iter().map(|slice| slice.spec.fabric.name.as_str());
        let mut names: Vec<&str> = self.ledgers.keys().copied().chain(of_slices).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn ledger_or_empty(&self, fabric: &str) -> FabricLedgerSpec {
        self.ledger(fabric).cloned().unwrap_or_else(ledger::empty)
    }

    pub(super) fn slices_on(&self, fabric: &str) -> Vec<&'a NetworkSlice> {
        let slices = self.cluster.slices.iter();
        slices.filter(|slice| slice.spec.fabric.name == fabric).collect()
    }

    /// What slices of a fabric say that they have.
    pub(super) fn entries_of_slices(&self, fabric: &str) -> Vec<LedgerEntry> {
        self.slices_on(fabric).into_iter().map(ledger::entry_of).collect()
    }

    pub(super) fn slice(&self, namespace: &str, name: &str) -> Option<&'a NetworkSlice> {
        self.slices.get(&(namespace, name)).copied()
    }

    /// The slice of the network of that UID.
    pub(super) fn slice_of(&self, network_uid: &str) -> Option<&'a NetworkSlice> {
        self.slices_of.get(network_uid).copied()
    }

    pub(super) fn attachments<'s>(&'s self, slice: &'s NetworkSlice) -> &'s [&'a NetworkAttachment] {
        self.attachments.get(&key(&slice.metadata)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn pod(&self, uid: &str) -> Option<&'a Pod> {
        self.pods.get(uid).copied()
    }

    /// Pods that may have addresses of a slice: attached ones, and those on a node with the label.
    pub(super) fn holders(&self, slice: &NetworkSlice) -> Vec<String> {
        let network = (key(&slice.metadata).0, slice.spec.network.name.as_str());
        let running = self.running.get(&network).into_iter().flatten();
        let running = running.map(|pod| key(&pod.metadata).1.to_owned());
        let attached = self
            .attachments(slice)
            .iter()
            .map(|attachment| attachment.spec.pod_name.clone());
        let mut names: Vec<String> = running.chain(attached).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn template(&self, namespace: &str, name: &str) -> Option<&'a ResourceClaimTemplate> {
        self.templates.get(&(namespace, name)).copied()
    }

    pub(super) fn node(&self, name: &str) -> Option<&'a Node> {
        self.nodes.get(name).copied()
    }

    pub(super) fn node_network(&self, name: &str) -> Option<&'a NodeNetwork> {
        self.node_networks.get(name).copied()
    }

    /// Whether a contradiction about the network of that UID is told already.
    pub(super) fn is_contested(&self, uid: &str) -> bool {
        self.contested.contains(uid)
    }
}
