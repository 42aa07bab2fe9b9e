//! The NodeNetwork of every node that a fabric selects.

use std::{collections::BTreeSet, future::ready};

use futures::{StreamExt as _, stream};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use railhead_crds::{Fabric, NodeNetwork};
use railhead_planner::pools::EditConflict;
use serde_json::json;

use super::{AT_ONCE, Context, FabricError, MANAGER, ports::OnPorts};
use crate::recount;

/// A node that this fabric selects and another one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    pub(super) node: String,
    pub(super) fabric: String,
}

/// The nodes of a fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes {
    /// By name.
    pub(super) selected: BTreeSet<String>,
    /// Selected, but another fabric has them already: a node has one backend network.
    pub(super) elsewhere: Vec<Elsewhere>,
    /// Selected no more, and not as before yet: names, and what is waited for.
    pub(super) leaving: Vec<String>,
    /// What the fabric says of ports on which pods are.
    pub(super) conflicts: Vec<EditConflict>,
}

impl Context {
    /// Writes what the selected nodes should have, and lets the others go. One that cannot be written keeps no other from it;
    /// the first error comes back beside what was found.
    pub(super) async fn write_nodes(&self, fabric: &Fabric) -> (Nodes, Option<FabricError>) {
        let fabric_name = fabric.name_any();
        let mut selected = BTreeSet::new();
        let mut elsewhere = Vec::new();
        let mut wrong = Vec::new();
        let mut on_ports = OnPorts::default();
        let ledger = self.world.ledgers.get(&ObjectRef::new(&fabric_name));
        let recount = ledger.as_ref().and_then(|ledger| recount::asked(&ledger.spec));
        for node in self.world.nodes.state() {
            let Some(mut wanted) = railhead_planner::node::spec(fabric, |key| node.labels.get(key)) else {
                continue;
            };
            let name = node.name_any();
            selected.insert(name.clone());
            let found = self.world.node_networks.get(&ObjectRef::new(&name));
            // What was asked last stays: that it was answered costs no write.
            let asked = recount.or_else(|| found.as_ref()?.spec.recount.as_deref());
            wanted.recount = asked.map(str::to_owned);
            match found {
                Some(found) if found.spec.fabric_name != fabric_name => elsewhere.push(Elsewhere {
                    node: name,
                    fabric: found.spec.fabric_name.clone(),
                }),
                Some(found) if found.spec == wanted => {}
                Some(found) => {
                    let wanted = on_ports.keep(&self.world, &name, wanted, &found.spec);
                    if found.spec != wanted {
                        wrong.push((name, wanted));
                    }
                }
                None => wrong.push((name, wanted)),
            }
        }
        let written = stream::iter(wrong)
            .map(|(name, wanted)| async move { self.write_node(&name, &wanted).await.err() })
            .buffer_unordered(AT_ONCE)
            .filter_map(ready);
        let mut failed: Vec<FabricError> = written.collect().await;
        let others = self
            .world
            .node_networks
            .state_filter(|node| node.spec.fabric_name == fabric_name && !selected.contains(&node.name_any()));
        if let Some(id) = recount {
            failed.extend(self.ask_what_is_held(&others, id).await);
        }
        let (leaving, not_left) = self.leave_all(others).await;
        elsewhere.sort_by(|a, b| a.node.cmp(&b.node));
        let nodes = Nodes {
            selected,
            elsewhere,
            leaving,
            conflicts: on_ports.conflicts(),
        };
        (nodes, failed.into_iter().next().or(not_left))
    }

    async fn write_node(&self, name: &str, spec: &railhead_crds::NodeNetworkSpec) -> Result<(), FabricError> {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": <NodeNetwork as kube::Resource>::api_version(&()),
            "kind": <NodeNetwork as kube::Resource>::kind(&()),
            "metadata": { "name": name },
            "spec": spec,
        });
        api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch))
            .await
            .map(drop)
            .map_err(|source| FabricError::WriteNode {
                name: name.to_owned(),
                source: Box::new(source),
            })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use http::Method;
    use kube::runtime::{controller::Action, reflector::store, watcher::Event};
    use railhead_crds::{FabricLedger, names::FABRIC_FINALIZER};
    use railhead_service::events::Recorder;
    use serde_json::Value;

    use super::*;
    use crate::{
        fabric::reconcile,
        known::Node,
        metrics::Metrics,
        network::fixtures,
        reservations, test_api,
        world::{World, tests::empty},
    };

    fn node(name: &str) -> Node {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap()
    }

    fn node_network(name: &str) -> NodeNetwork {
        serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name},
            "spec": {"fabricName": "backend", "vfManagement": "Managed", "mtu": 9000, "rails": []},
        }))
        .unwrap()
    }

    fn ledger(owners: &[&str]) -> FabricLedger {
        let entry = |owner: &&str| {
            json!({"base": 0, "size": 2, "vlan": 1000, "sequence": 1, "state": "Held",
                "owner": {"namespace": "team-b", "name": owner, "uid": owner}})
        };
        let entries: Vec<_> = owners.iter().map(entry).collect();
        serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "backend"},
            "spec": {"version": 1, "sequence": 1, "entries": entries},
        }))
        .unwrap()
    }

    /// Fails for a node that is there, for one that is gone, and for the owner of an entry.
    fn answer(path: &str, body: Value) -> Option<Value> {
        let mut network = fixtures::network(2);
        network.metadata.uid = Some("b".to_owned());
        match path.rsplit('/').next() {
            Some("node1" | "gone1" | "a") => None,
            Some("gone2" | "gone3") => serde_json::to_value(node_network("gone")).ok(),
            Some("b") => serde_json::to_value(network).ok(),
            Some("backend") => serde_json::to_value(ledger(&[])).ok(),
            Some("status") => serde_json::to_value(fixtures::fabric()).ok(),
            _ => Some(body),
        }
    }

    /// Looks after a fabric with three nodes, three that are gone, and two entries that no network is known to own.
    async fn look_after(fabric: Fabric) -> (Result<Action, FabricError>, test_api::Asked) {
        let (nodes, mut nodes_in) = store();
        for name in ["node1", "node2", "node3"] {
            nodes_in.apply_watcher_event(&Event::Apply(node(name)));
        }
        let (node_networks, mut node_networks_in) = store();
        for name in ["gone1", "gone2", "gone3"] {
            node_networks_in.apply_watcher_event(&Event::Apply(node_network(name)));
        }
        let (ledgers, mut ledgers_in) = store();
        ledgers_in.apply_watcher_event(&Event::Apply(ledger(&["a", "b"])));
        let world = World {
            node_networks,
            ledgers,
            nodes,
            ..empty()
        };
        let (client, asked) = test_api::client(answer);
        let (reservations, _) = reservations::start(
            client.clone(),
            world.clone(),
            Arc::new(Metrics::new()),
            std::time::Duration::ZERO,
        );
        let context = Context {
            recorder: Arc::new(Recorder::new(
                client.clone(),
                "railhead.dev/operator",
                "test".to_owned(),
            )),
            client,
            world,
            reservations,
            resync: Duration::from_mins(5),
        };
        (reconcile(Arc::new(fabric), Arc::new(context)).await, asked)
    }

    fn fabric() -> Fabric {
        let mut fabric = fixtures::fabric();
        fabric.metadata.finalizers = Some(vec![FABRIC_FINALIZER.to_owned()]);
        fabric
    }

    #[tokio::test]
    async fn what_cannot_be_written_keeps_neither_other_nodes_nor_the_status_from_it() {
        let (failed, asked) = look_after(fabric()).await;
        assert!(
            matches!(failed, Err(FabricError::WriteNode { .. })),
            "it is tried again: {failed:?}"
        );
        assert_eq!(test_api::names(&asked, &Method::GET), ["a", "b"]);
        assert_eq!(
            test_api::names(&asked, &Method::PATCH),
            ["node1", "node2", "node3", "status"]
        );
        assert_eq!(test_api::names(&asked, &Method::DELETE), ["gone1", "gone2", "gone3"]);
    }

    #[tokio::test]
    async fn a_fabric_that_goes_lets_go_of_all_nodes_though_one_fails() {
        let mut fabric = fabric();
        fabric.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let (failed, asked) = look_after(fabric).await;
        assert!(
            matches!(failed, Err(FabricError::DeleteNode { .. })),
            "it is tried again: {failed:?}"
        );
        assert_eq!(
            test_api::names(&asked, &Method::DELETE),
            ["gone1", "gone2", "gone3"],
            "and neither its ledger nor its finalizer"
        );
        assert!(test_api::names(&asked, &Method::PATCH).is_empty());
    }
}
