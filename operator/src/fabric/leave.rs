//! A node that leaves its fabric: it gives back what was changed on it first, and its NodeNetwork tells of that until then. So
//! whoever waits for the nodes (a Fabric's deletion, an uninstall) sees it.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use railhead_crds::NodeNetwork;
use serde_json::{Value, json};

use super::{AT_ONCE, Context, FabricError, MANAGER};
use crate::{
    recount,
    torn_down::{is_torn_down, open_message},
    write,
};

/// What is to be done for a node that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Ask its agent to give back what was changed.
    Ask,
    /// The agent has been asked. It waits for the node's pods, which may run for days.
    Wait,
    /// Nothing is left to be told of the node.
    Delete,
}

/// `exists` says whether the Node does: where it is gone, nobody can give anything back.
fn next_step(node: &NodeNetwork, exists: bool) -> Step {
    if !exists || is_torn_down(node) {
        Step::Delete
    } else if node.spec.teardown {
        Step::Wait
    } else {
        Step::Ask
    }
}

impl Context {
    /// The next step for each of these nodes. Returns those that are not as before yet and what each waits for, sorted, and the
    /// first error: a node whose step fails keeps no other from its own.
    pub(super) async fn leave_all(&self, nodes: Vec<Arc<NodeNetwork>>) -> (Vec<String>, Option<FabricError>) {
        let steps: Vec<Result<Option<String>, FabricError>> = stream::iter(nodes)
            .map(|node| async move { self.leave(&node).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut leaving = Vec::new();
        let mut failed = None;
        for step in steps {
            match step {
                Ok(waits) => leaving.extend(waits),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        leaving.sort_unstable();
        (leaving, failed)
    }

    /// The next step for a node that is to have nothing of its fabric any more. Returns the node and what it waits for, if it
    /// is not as before yet.
    async fn leave(&self, node: &NodeNetwork) -> Result<Option<String>, FabricError> {
        let exists = self.world.nodes.get(&ObjectRef::new(&node.name_any())).is_some();
        match next_step(node, exists) {
            Step::Delete => {
                self.delete_node(node).await?;
                return Ok(None);
            }
            Step::Ask => self.ask_to_give_back(node).await?,
            Step::Wait => {}
        }
        Ok(Some(open_message(node)))
    }

    async fn ask_to_give_back(&self, node: &NodeNetwork) -> Result<(), FabricError> {
        self.ask(node, json!({ "teardown": true })).await
    }

    /// Has all nodes of a fabric say what their pods hold, if its ledger asks; of one that is being deleted nobody else does.
    pub(super) async fn ask_all(&self, fabric: &str) -> Result<(), FabricError> {
        let Some(ledger) = self.world.ledgers.get(&ObjectRef::new(fabric)) else {
            return Ok(());
        };
        let Some(id) = recount::asked(&ledger.spec) else {
            return Ok(());
        };
        let nodes = self
            .world
            .node_networks
            .state_filter(|node| node.spec.fabric_name == fabric);
        self.ask_what_is_held(&nodes, id).await.map_or(Ok(()), Err)
    }

    /// Has those of these nodes say what their pods hold that were not asked yet. Returns the last error.
    pub(super) async fn ask_what_is_held(&self, nodes: &[Arc<NodeNetwork>], id: &str) -> Option<FabricError> {
        let mut failed = None;
        for node in nodes.iter().filter(|node| node.spec.recount.as_deref() != Some(id)) {
            failed = self.ask(node, json!({ "recount": id })).await.err().or(failed);
        }
        failed
    }

    async fn ask(&self, node: &NodeNetwork, spec: Value) -> Result<(), FabricError> {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let name = node.name_any();
        // Of the object that we know: one that is gone is not made anew.
        let patch = json!({
            "metadata": { "resourceVersion": node.resource_version() },
            "spec": spec,
        });
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patched = api.patch(&name, &parameters, &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|source| FabricError::WriteNode {
            name,
            source: Box::new(source),
        })
    }

    async fn delete_node(&self, node: &NodeNetwork) -> Result<(), FabricError> {
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let as_read = DeleteParams::default().preconditions(Preconditions {
            uid: node.uid(),
            resource_version: node.resource_version(),
        });
        match api.delete(&node.name_any(), &as_read).await {
            Err(source) if !write::is_not_found(&source) => Err(FabricError::DeleteNode {
                name: node.name_any(),
                source: Box::new(source),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torn_down::tests::node;

    #[test]
    fn a_node_is_asked_then_waited_for_and_forgotten_when_it_is_as_before() {
        assert_eq!(next_step(&node(false, 1, "True", Some(1)), true), Step::Ask);
        assert_eq!(
            next_step(&node(true, 2, "True", Some(1)), true),
            Step::Wait,
            "an old answer"
        );
        assert_eq!(
            next_step(&node(true, 2, "False", Some(2)), true),
            Step::Wait,
            "pods are left"
        );
        assert_eq!(next_step(&node(true, 2, "True", Some(2)), true), Step::Delete);
    }

    #[test]
    fn a_node_that_does_not_exist_any_more_is_not_waited_for() {
        assert_eq!(next_step(&node(false, 1, "False", None), false), Step::Delete);
        assert_eq!(next_step(&node(true, 2, "False", Some(2)), false), Step::Delete);
    }
}
