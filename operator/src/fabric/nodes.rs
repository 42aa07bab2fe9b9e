//! The NodeNetwork of every node that a fabric selects.

use std::{collections::BTreeSet, future::ready};

use futures::{StreamExt as _, stream};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use railhead_crds::{Fabric, NodeNetwork};
use railhead_planner::node;
use serde_json::json;

use super::{Context, FabricError, MANAGER};

/// How many nodes are written at a time.
const AT_ONCE: usize = 16;

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
}

impl Context {
    /// Writes what the selected nodes should have, and lets the others go. One that cannot be written keeps no other from it;
    /// the first error comes back beside what was found.
    pub(super) async fn write_nodes(&self, fabric: &Fabric) -> (Nodes, Option<FabricError>) {
        let fabric_name = fabric.name_any();
        let mut selected = BTreeSet::new();
        let mut elsewhere = Vec::new();
        let mut wrong = Vec::new();
        for node in self.world.nodes.state() {
            let Some(wanted) = node::spec(fabric, node.labels()) else {
                continue;
            };
            let name = node.name_any();
            selected.insert(name.clone());
            match self.world.node_networks.get(&ObjectRef::new(&name)) {
                Some(found) if found.spec.fabric_name != fabric_name => elsewhere.push(Elsewhere {
                    node: name,
                    fabric: found.spec.fabric_name.clone(),
                }),
                Some(found) if found.spec == wanted => {}
                _ => wrong.push((name, wanted)),
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
        let left: Vec<Result<Option<String>, FabricError>> = stream::iter(others)
            .map(|node| async move { self.leave(&node).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut leaving = Vec::new();
        for step in left {
            match step {
                Ok(waits) => leaving.extend(waits),
                Err(error) => failed.push(error),
            }
        }
        elsewhere.sort_by(|a, b| a.node.cmp(&b.node));
        leaving.sort_unstable();
        let nodes = Nodes {
            selected,
            elsewhere,
            leaving,
        };
        (nodes, failed.into_iter().next())
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
