//! What a fabric's status says. Pure.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{Fabric, FabricStatus, NodeNetwork, PoolStatus, PortHealth, reasons::Reason};
use railhead_planner::{
    ledger::Usage,
    pools::{EditConflict, Laid},
};

use super::{nodes::Elsewhere, pools};
use crate::{
    conditions::{self, Said, Word},
    network::listed,
};

/// What was observed.
pub(super) struct Seen<'a> {
    pub(super) fabric: &'a Fabric,
    pub(super) laid: &'a Laid,
    pub(super) conflicts: &'a [EditConflict],
    pub(super) usage: Usage,
    /// Whether another fabric has the same VLANs.
    pub(super) vlans_shared: Said,
    /// Of the nodes that the fabric selects.
    pub(super) nodes: &'a [Arc<NodeNetwork>],
    pub(super) elsewhere: &'a [Elsewhere],
    /// Nodes that it selects no more, and what they wait for.
    pub(super) leaving: &'a [String],
    /// Whether its ledger is older than what nodes have.
    pub(super) restored: Said,
    /// Whether the cluster's definitions are those of this release.
    pub(super) schemas: Said,
    /// Whether it is the default one.
    pub(super) default: Said,
}

/// Why a node is not ready.
struct Missing {
    reason: Word,
    message: String,
}

pub(super) fn status(seen: &Seen<'_>, now: Timestamp) -> FabricStatus {
    let fabric = seen.fabric;
    let mut nodes: Vec<&NodeNetwork> = seen.nodes.iter().map(|node| &**node).collect();
    nodes.sort_unstable_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut missing: Vec<Missing> = nodes.iter().filter_map(|node| not_ready(fabric, node)).collect();
    let ready = nodes.len() - missing.len();
    missing.extend(seen.elsewhere.iter().map(|other| Missing {
        reason: Reason::NodeOfOtherFabric.into(),
        message: format!("{} belongs to Fabric {}", other.node, other.fabric),
    }));
    let selected = nodes.len() + seen.elsewhere.len();
    let pools = pools::healthy(seen.laid);
    let conflicts = pools::conflicts(seen.conflicts);
    let nodes_text = format!("{ready}/{selected}");
    let mut nodes_ready = nodes_ready(fabric, ready, selected, &missing);
    if !seen.leaving.is_empty() {
        let leaving = listed(seen.leaving);
        let message = nodes_ready.message;
        nodes_ready.message = format!("{message}; selected no more, and not as before yet: {leaving}");
    }
    let before = fabric.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let said = vec![
        overall(seen, &pools, &conflicts, &nodes_ready, ready),
        nodes_ready,
        pools,
        conflicts,
        seen.vlans_shared.clone(),
        seen.restored.clone(),
        seen.schemas.clone(),
        seen.default.clone(),
    ];
    FabricStatus {
        observed_generation: fabric.metadata.generation,
        nodes: Some(nodes_text),
        rails: i32::try_from(fabric.spec.rails.len()).ok(),
        ipv4_used: Some(format!("{}%", seen.usage.used_percent)),
        vlans_free: i32::try_from(seen.usage.vlans_free).ok(),
        pools: pools_of(fabric, seen.usage),
        conditions: conditions::merge(before, said, fabric.metadata.generation, now),
    }
}

fn overall(seen: &Seen<'_>, pools: &Said, conflicts: &Said, nodes: &Said, ready: usize) -> Said {
    if seen.restored.status {
        return Said::no("Ready", Reason::LedgerRestored, seen.restored.message.clone());
    }
    if !seen.schemas.status {
        return Said::no("Ready", seen.schemas.reason.clone(), seen.schemas.message.clone());
    }
    if !seen.laid.is_usable() && !pools.status {
        return Said::no("Ready", pools.reason.clone(), pools.message.clone());
    }
    // What is wrong with some of it is worth a look, and no reason not to use the rest.
    let wrong = [(!pools.status, pools), (conflicts.status, conflicts)];
    let wrong = wrong.into_iter().find(|(wrong, _)| *wrong);
    if let Some((_, wrong)) = wrong.filter(|_| nodes.status) {
        let reason = if wrong.type_ == "EditConflict" {
            Reason::EditConflict.into()
        } else {
            wrong.reason.clone()
        };
        return Said::yes("Ready", reason, wrong.message.clone());
    }
    // Networks can run on the nodes that are ready, whatever the others lack.
    if nodes.status || ready == 0 {
        return Said {
            type_: "Ready",
            ..nodes.clone()
        };
    }
    Said::yes("Ready", Reason::SomeNodesNotReady, nodes.message.clone())
}

fn nodes_ready(fabric: &Fabric, ready: usize, selected: usize, missing: &[Missing]) -> Said {
    let Some(first) = missing.first() else {
        if selected > 0 {
            return Said::yes(
                "NodesReady",
                Reason::AllReady,
                format!("{ready}/{selected} nodes have all ports"),
            );
        }
        let labels = fabric.spec.node_selector.as_ref().map(|selector| {
            let labels: Vec<String> = selector
                .match_labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            labels.join(",")
        });
        let message = match labels.filter(|labels| !labels.is_empty()) {
            Some(labels) => format!("no node carries the labels of spec.nodeSelector: {labels}"),
            None => "the cluster has no node".to_owned(),
        };
        return Said::no("NodesReady", Reason::NoNodes, message);
    };
    let messages: Vec<String> = missing.iter().map(|missing| missing.message.clone()).collect();
    let message = format!("{ready}/{selected} nodes have all ports; {}", listed(&messages));
    // The gravest first: a port that is nowhere is a mistake in the fabric, an agent that has not reported may still come.
    let reason = missing
        .iter()
        .find(|missing| missing.reason == Reason::PortMissing)
        .unwrap_or(first);
    Said::no("NodesReady", reason.reason.clone(), message)
}

fn not_ready(fabric: &Fabric, node: &NodeNetwork) -> Option<Missing> {
    let name = node.name_any();
    let unfit: Vec<String> = fabric
        .spec
        .rails
        .iter()
        .filter(|rail| node.spec.rails.iter().all(|wanted| wanted.id != rail.id))
        .map(|rail| format!("{name} has no {}: no entry of its ports fits the node", rail.name))
        .collect();
    if !unfit.is_empty() {
        return Some(Missing {
            reason: Reason::PortMissing.into(),
            message: unfit.join(", "),
        });
    }
    let Some(status) = node
        .status
        .as_ref()
        .filter(|status| !status.conditions.is_empty() || !status.ports.is_empty())
    else {
        return Some(Missing {
            reason: Reason::AgentNotReporting.into(),
            message: format!("no word from the agent of {name} (does its pod run?)"),
        });
    };
    let absent: Vec<String> = node
        .spec
        .rails
        .iter()
        .filter(|rail| status.ports.iter().all(|port| port.rail != rail.id))
        .map(|rail| {
            let port = rail.pci_address.as_deref().or(rail.netdev.as_deref());
            format!("{name} has no {} ({})", rail.name, port.unwrap_or("unnamed"))
        })
        .collect();
    if !absent.is_empty() {
        return Some(Missing {
            reason: Reason::PortMissing.into(),
            message: format!("{}: correct the rail's ports or look at the node", absent.join(", ")),
        });
    }
    let unhealthy = status
        .ports
        .iter()
        .find_map(|port| Some((port, wrong_with(port.state)?)));
    if let Some((port, reason)) = unhealthy {
        let why = port.message.as_deref().unwrap_or(reason.name());
        return Some(Missing {
            reason: reason.into(),
            message: format!("{name} rail {} ({}): {why}", port.rail, port.netdev),
        });
    }
    match conditions::find(&status.conditions, "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(Missing {
            reason: ready.into(),
            message: format!("{name}: {}", ready.message),
        }),
        None => Some(Missing {
            reason: Reason::AgentNotReporting.into(),
            message: format!("no word from the agent of {name} whether it is ready"),
        }),
    }
}

fn wrong_with(port: PortHealth) -> Option<Reason> {
    match port {
        PortHealth::Healthy => None,
        PortHealth::Down => Some(Reason::PortDown),
        PortHealth::Slow => Some(Reason::PortSlow),
        PortHealth::NoVfs => Some(Reason::NoVfs),
        PortHealth::SmallMtu => Some(Reason::MtuTooSmall),
        PortHealth::NoRdma => Some(Reason::NoRdma),
        PortHealth::VfsUnusable => Some(Reason::VfsUnusable),
        PortHealth::ForeignOwner => Some(Reason::ForeignOwner),
        PortHealth::Switchdev => Some(Reason::Switchdev),
        PortHealth::DpuManaged => Some(Reason::DpuManaged),
        PortHealth::RdmaExclusive => Some(Reason::RdmaExclusive),
    }
}

fn pools_of(fabric: &Fabric, usage: Usage) -> Vec<PoolStatus> {
    let mut rails: Vec<u32> = fabric.spec.rails.iter().map(|rail| rail.id).collect();
    rails.sort_unstable();
    rails
        .into_iter()
        .map(|rail| PoolStatus {
            rail,
            used: format!("{}%", usage.used_percent),
            largest_free: usage
                .largest_free
                .filter(|slots| *slots > 0)
                .map(|slots| format!("/{}", 32 - slots.ilog2())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::network::fixtures;

    fn node(name: &str, status: &Value) -> Arc<NodeNetwork> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name},
                "spec": {"fabricName": "backend", "vfManagement": "Managed", "mtu": 9000, "rails": [
                    {"id": 0, "name": "rail0", "netdev": "eth1", "vfs": 4}, {"id": 1, "name": "rail1", "netdev": "eth2", "vfs": 4}]},
                "status": status,
            }))
            .unwrap(),
        )
    }

    fn port(rail: u32, state: &str) -> Value {
        json!({"rail": rail, "pciAddress": "0000:01:00.0", "netdev": format!("eth{}", rail + 1), "driver": "igb",
            "vfs": {"used": 0, "total": 4}, "state": state})
    }

    fn ready() -> Value {
        json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn said(nodes: &[Arc<NodeNetwork>]) -> (FabricStatus, String, String) {
        said_with(nodes, &[])
    }

    fn said_with(nodes: &[Arc<NodeNetwork>], leaving: &[String]) -> (FabricStatus, String, String) {
        let fabric = fixtures::fabric();
        let laid = pools::tests::laid(&fabric);
        let seen = Seen {
            fabric: &fabric,
            laid: &laid,
            conflicts: &laid.conflicts,
            usage: Usage {
                used_percent: 12,
                largest_free: Some(128),
                vlans_free: 7,
            },
            vlans_shared: Said::no("VlansShared", Reason::NoOtherFabric, ""),
            nodes,
            elsewhere: &[],
            leaving,
            restored: Said::no("LedgerRestored", Reason::NotRestored, ""),
            schemas: Said::yes("SchemasCurrent", Reason::Current, ""),
            default: Said::yes("Default", Reason::Default, ""),
        };
        let status = status(&seen, Timestamp::UNIX_EPOCH);
        let nodes = conditions::find(&status.conditions, "NodesReady").unwrap();
        let (reason, message) = (nodes.reason.clone(), nodes.message.clone());
        (status, reason, message)
    }

    #[test]
    fn a_fabric_whose_ports_no_node_has_names_node_rail_and_port() {
        let (status, reason, message) = said(&[node(
            "node1",
            &json!({"ports": [], "conditions": [{"type": "Ready", "status": "False",
                "reason": "PortMissing", "message": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        )]);
        assert_eq!(reason, "PortMissing");
        assert!(
            message.contains("node1 has no rail0 (eth1), node1 has no rail1 (eth2)"),
            "{message}"
        );
        assert!(!conditions::is_true(&status.conditions, "Ready"));
    }

    #[test]
    fn a_fabric_is_ready_while_some_of_its_nodes_are() {
        let good = json!({"ports": [port(0, "Healthy"), port(1, "Healthy")], "conditions": ready()});
        let bad = json!({"ports": [port(0, "Healthy"), port(1, "Down")], "conditions": ready()});
        let (status, reason, message) = said(&[node("node2", &bad), node("node1", &good)]);
        assert_eq!((status.nodes.as_deref(), reason.as_str()), (Some("1/2"), "PortDown"));
        assert!(message.contains("node2 rail 1 (eth2)"), "{message}");
        assert!(conditions::is_true(&status.conditions, "Ready"));
        assert_eq!(status.pools[0].largest_free.as_deref(), Some("/25"));
    }

    #[test]
    fn a_node_that_leaves_is_named_and_not_counted() {
        let good = json!({"ports": [port(0, "Healthy"), port(1, "Healthy")], "conditions": ready()});
        let (status, reason, message) = said_with(&[node("node1", &good)], &["node2 (2 pods are attached)".to_owned()]);
        assert_eq!((status.nodes.as_deref(), reason.as_str()), (Some("1/1"), "AllReady"));
        assert!(
            message.contains("selected no more, and not as before yet: node2 (2 pods"),
            "{message}"
        );
    }

    #[test]
    fn silent_agents_and_empty_selections_are_told_apart() {
        assert_eq!(said(&[node("node1", &json!(null))]).1, "AgentNotReporting");
        assert_eq!(said(&[]).1, "NoNodes");
    }
}
