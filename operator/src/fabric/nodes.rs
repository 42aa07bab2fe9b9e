//! The NodeNetwork of every node that a fabric selects.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use railhead_crds::{Fabric, NodeNetwork};
use railhead_planner::node;
use serde_json::json;

use super::{Context, FabricError, MANAGER};
use crate::write;

/// A node that this fabric selects and another one has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    pub(super) node: String,
    pub(super) fabric: String,
}

impl Context {
    /// Writes what the selected nodes should have, and takes away what stands for nodes that are gone or no longer
    /// selected. Returns the nodes that another fabric has already: a node has one backend network.
    pub(super) async fn write_nodes(&self, fabric: &Fabric) -> Result<Vec<Elsewhere>, FabricError> {
        let fabric_name = fabric.name_any();
        let mut selected = BTreeSet::new();
        let mut elsewhere = Vec::new();
        for node in self.world.nodes.state() {
            let Some(wanted) = node::spec(fabric, node.labels()) else {
                continue;
            };
            let name = node.name_any();
            selected.insert(name.clone());
            let found = self
                .world
                .node_networks
                .get(&kube::runtime::reflector::ObjectRef::new(&name));
            match found {
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
            let name = node.name_any();
            if !selected.contains(&name) && !self.holds_attachments(&name) {
                self.delete_node(&node).await?;
            }
        }
        elsewhere.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(elsewhere)
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

    pub(super) async fn delete_node(&self, node: &NodeNetwork) -> Result<(), FabricError> {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let only_this_one = DeleteParams::default().preconditions(Preconditions {
            uid: node.uid(),
            resource_version: None,
        });
        match api.delete(&node.name_any(), &only_this_one).await {
            Err(source) if !write::is_not_found(&source) => Err(FabricError::DeleteNode {
                name: node.name_any(),
                source: Box::new(source),
            }),
            _ => Ok(()),
        }
    }

    fn holds_attachments(&self, node: &str) -> bool {
        self.world
            .attachments
            .find(|attachment| attachment.spec.node_name == node)
            .is_some()
    }
}
