//! What a node should have, from the fabric and the node's labels.

use railhead_crds::{Fabric, LinkType, NodeNetworkSpec, NodeRail, NodeSelector, SoftRoce};

/// The spec of the NodeNetwork of a node whose labels `label` knows; `None` if the fabric does not select the node.
///
/// A rail for which no port entry fits the node is left out and so counts as missing.
pub fn spec<'a>(fabric: &Fabric, label: impl Fn(&str) -> Option<&'a str>) -> Option<NodeNetworkSpec> {
    if !matches(fabric.spec.node_selector.as_ref(), &label) {
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
                .find(|port| matches(port.node_selector.as_ref(), &label))?;
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
        recount: None,
        rails,
    })
}

/// What a node is to have while pods are attached on it: the ports that they are on stay those of their rails, for what the
/// scheduler has counted on them. Also the names of the rails of which the Fabric says otherwise.
pub fn keep_ports(mut wanted: NodeNetworkSpec, found: &NodeNetworkSpec) -> (NodeNetworkSpec, Vec<String>) {
    let mut kept = Vec::new();
    for before in &found.rails {
        match wanted.rails.iter_mut().find(|rail| rail.id == before.id) {
            Some(rail) if (&rail.pci_address, &rail.netdev) == (&before.pci_address, &before.netdev) => {}
            Some(rail) => {
                rail.pci_address.clone_from(&before.pci_address);
                rail.netdev.clone_from(&before.netdev);
                kept.push(before.name.clone());
            }
            None => {
                wanted.rails.push(before.clone());
                kept.push(before.name.clone());
            }
        }
    }
    wanted.rails.sort_by_key(|rail| rail.id);
    (wanted, kept)
}

fn matches<'a>(selector: Option<&NodeSelector>, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    selector.is_none_or(|selector| {
        selector
            .match_labels
            .iter()
            .all(|(key, value)| label(key) == Some(value.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(rails: &[(u32, &str)]) -> NodeNetworkSpec {
        let rails: Vec<_> = rails
            .iter()
            .map(|(id, netdev)| serde_json::json!({"id": id, "name": format!("rail{id}"), "netdev": netdev, "vfs": 8}))
            .collect();
        serde_json::from_value(serde_json::json!({
            "fabricName": "backend", "vfManagement": "Managed", "mtu": 9000, "rails": rails,
        }))
        .unwrap()
    }

    #[test]
    fn a_port_under_attached_pods_stays_its_rails_port() {
        let before = node(&[(0, "eth1"), (1, "eth2")]);
        assert_eq!(keep_ports(before.clone(), &before), (before.clone(), vec![]));
        let swapped = node(&[(0, "eth2"), (1, "eth1")]);
        let (kept, rails) = keep_ports(swapped, &before);
        assert_eq!(
            (kept, rails),
            (before.clone(), vec!["rail0".to_owned(), "rail1".to_owned()])
        );
        let (kept, rails) = keep_ports(node(&[(0, "eth1"), (2, "eth3")]), &before);
        assert_eq!(kept, node(&[(0, "eth1"), (1, "eth2"), (2, "eth3")]));
        assert_eq!(rails, ["rail1"]);
    }
}
