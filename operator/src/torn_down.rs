//! Whether a node has given back what was changed on it, as its agent says.

use kube::ResourceExt as _;
use railhead_crds::NodeNetwork;

use crate::conditions;

/// Whether the node is asked to give everything back and its agent has said of this very wish that it did. What it said of
/// an earlier one holds no more: pods may have come in between.
pub(crate) fn is_torn_down(node: &NodeNetwork) -> bool {
    let Some(condition) = condition(node) else {
        return false;
    };
    node.spec.teardown && condition.status == "True" && condition.observed_generation >= node.metadata.generation
}

/// The node, and what its agent says of why it is not as before.
pub(crate) fn open_message(node: &NodeNetwork) -> String {
    let why = condition(node)
        .filter(|condition| condition.observed_generation >= node.metadata.generation && !condition.message.is_empty())
        .map_or("no word from its agent", |condition| condition.message.as_str());
    format!("{} ({why})", node.name_any())
}

fn condition(node: &NodeNetwork) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    conditions::find(&node.status.as_ref()?.conditions, "TornDown")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn node(teardown: bool, generation: i64, status: &str, observed: Option<i64>) -> NodeNetwork {
        serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork",
            "metadata": {"name": "node1", "generation": generation},
            "spec": {"fabricName": "backend", "vfManagement": "Managed", "mtu": 9000, "teardown": teardown, "rails": []},
            "status": {"conditions": [{"type": "TornDown", "status": status, "reason": "x", "message": "2 pods",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_the_answer_to_this_very_wish_counts() {
        assert!(is_torn_down(&node(true, 4, "True", Some(4))));
        assert!(
            !is_torn_down(&node(true, 4, "True", Some(2))),
            "the one before the last"
        );
        assert!(!is_torn_down(&node(true, 4, "True", None)));
        assert!(!is_torn_down(&node(true, 4, "False", Some(4))));
        assert!(!is_torn_down(&node(false, 4, "True", Some(4))), "it is not asked to");
        let mut silent = node(true, 4, "True", Some(4));
        silent.status = None;
        assert!(!is_torn_down(&silent));
        assert_eq!(open_message(&silent), "node1 (no word from its agent)");
        assert_eq!(open_message(&node(true, 4, "False", Some(4))), "node1 (2 pods)");
    }
}
