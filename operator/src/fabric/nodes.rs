//! The NodeNetwork of every node that a fabric selects.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use railhead_crds::{Fabric, NodeNetwork};
use railhead_planner::node;
use serde_json::json;

use super::{Context, FabricError, MANAGER};

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
    /// Writes what the selected nodes should have, and lets the others go.
    pub(super) async fn write_nodes(&self, fabric: &Fabric) -> Result<Nodes, FabricError> {
        let fabric_name = fabric.name_any();
        let mut selected = BTreeSet::new();
        let mut elsewhere = Vec::new();
        let mut leaving = Vec::new();
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
                _ => self.write_node(&name, &wanted).await?,
            }
        }
        for node in self
            .world
            .node_networks
            .state_filter(|node| node.spec.fabric_name == fabric_name)
        {
            if !selected.contains(&node.name_any()) {
                leaving.extend(self.leave(&node).await?);
            }
        }
        elsewhere.sort_by(|a, b| a.node.cmp(&b.node));
        leaving.sort_unstable();
        Ok(Nodes {
            selected,
            elsewhere,
            leaving,
        })
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
