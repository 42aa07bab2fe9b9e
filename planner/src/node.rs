//! What a node should have, from the fabric and the node's labels.

use std::collections::BTreeMap;

use railhead_crds::{Fabric, LinkType, NodeNetworkSpec, NodeRail, NodeSelector, SoftRoce};

/// Whether a node with these labels belongs to `fabric`.
pub fn selected(fabric: &Fabric, labels: &BTreeMap<String, String>) -> bool {
    matches(fabric.spec.node_selector.as_ref(), labels)
}

/// The spec of the node's NodeNetwork; `None` if the fabric does not select the node.
///
/// A rail for which no port entry fits the node is left out and so counts as missing.
pub fn spec(fabric: &Fabric, labels: &BTreeMap<String, String>) -> Option<NodeNetworkSpec> {
    if !selected(fabric, labels) {
        return None;
    }
    let mut rails: Vec<NodeRail> = fabric
        .spec
        .rails
        .iter()
        .filter_map(|rail| {
            let port = rail
                .ports
                .iter()
                .find(|port| matches(port.node_selector.as_ref(), labels))?;
            Some(NodeRail {
                id: rail.id,
                name: rail.name.clone(),
                pci_address: port.pci_address.clone(),
                netdev: port.netdev.clone(),
                vfs: fabric.spec.vfs_per_port,
                speed: rail.speed,
            })
        })
        .collect();
    rails.sort_by_key(|rail| rail.id);
    Some(NodeNetworkSpec {
        fabric_name: fabric.metadata.name.clone().unwrap_or_default(),
        vf_management: fabric.spec.management.vfs,
        rdma: fabric.spec.link_type == LinkType::RoCE,
        rdma_required: fabric.spec.link_type == LinkType::RoCE && fabric.spec.soft_roce == SoftRoce::Never,
        mtu: fabric.spec.mtu,
        teardown: fabric.spec.teardown,
        rails,
    })
}

fn matches(selector: Option<&NodeSelector>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_none_or(|selector| {
        selector
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    })
}
