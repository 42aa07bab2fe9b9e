//! Fabrics of which nodes lack something.

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
    said_beside(nodes, leaving, &[])
}

fn said_beside(
    nodes: &[Arc<NodeNetwork>],
    leaving: &[String],
    elsewhere: &[Elsewhere],
) -> (FabricStatus, String, String) {
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
        elsewhere,
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

#[test]
fn a_port_that_pods_cannot_use_is_named_by_what_is_wrong_with_it() {
    for (state, expected) in [
        ("Down", "PortDown"),
        ("Slow", "PortSlow"),
        ("NoVfs", "NoVfs"),
        ("SmallMtu", "MtuTooSmall"),
        ("NoRdma", "NoRdma"),
        ("VfsUnusable", "VfsUnusable"),
        ("ForeignOwner", "ForeignOwner"),
        ("Switchdev", "Switchdev"),
        ("DpuManaged", "DpuManaged"),
        ("RdmaExclusive", "RdmaExclusive"),
    ] {
        let bad = json!({"ports": [port(0, "Healthy"), port(1, state)], "conditions": ready()});
        let (status, reason, message) = said(&[node("node1", &bad)]);
        assert_eq!(reason, expected);
        assert!(
            message.ends_with(&format!("node1 rail 1 (eth2): {expected}")),
            "{message}"
        );
        let ready = conditions::find(&status.conditions, "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", expected));
    }
}

#[test]
fn what_a_later_agent_says_of_its_node_is_passed_on_as_it_stands() {
    let later = json!({"ports": [port(0, "Healthy"), port(1, "Healthy")], "conditions": [{"type": "Ready", "status": "False",
        "reason": "OfALaterRelease", "message": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    assert_eq!(said(&[node("node1", &later)]).1, "OfALaterRelease");
}

#[test]
fn a_node_that_another_fabric_has_is_named_and_the_others_can_be_used() {
    let good = json!({"ports": [port(0, "Healthy"), port(1, "Healthy")], "conditions": ready()});
    let elsewhere = [Elsewhere {
        node: "node2".to_owned(),
        fabric: "storage".to_owned(),
    }];
    let (status, reason, message) = said_beside(&[node("node1", &good)], &[], &elsewhere);
    assert_eq!(reason, "NodeOfOtherFabric");
    assert!(message.contains("node2 belongs to Fabric storage"), "{message}");
    let ready = conditions::find(&status.conditions, "Ready").unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("True", "SomeNodesNotReady")
    );
}
