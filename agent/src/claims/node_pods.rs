//! The pods of this node, as the API server tells of them: one watch, which it serves by an index of its own (`spec.nodeName`), as it
//! does for kubelet. At rest it costs no request at all, however many nodes there are.
//!
//! What is known by it may be behind, so it only raises suspicions: before anything is taken from a pod, that pod is asked for by name.

use std::{collections::HashSet, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        watcher,
    },
};
use railhead_plan::AttachmentPlan;
use tokio::task::JoinHandle;

use crate::{agent::Agent, limits::ANSWER};

/// The watch, and what it has told.
#[derive(Debug)]
pub(super) struct NodePods {
    store: Store<Pod>,
    watching: JoinHandle<()>,
}

impl NodePods {
    /// Watches until it is dropped.
    pub(super) fn watch(agent: &Agent) -> Self {
        let (store, writer) = reflector::store();
        let api: Api<Pod> = Api::all(agent.client.clone());
        let here = watcher::Config::default()
            .any_semantic()
            .fields(&format!("spec.nodeName={}", agent.node));
        // A list in pages does not say that any version will do (kube-core, `ListParams::populate_qp`), and a node has few pods.
        let unpaged = watcher::Config {
            page_size: None,
            ..here
        };
        let mut events = watcher::watcher(api, unpaged)
            .default_backoff()
            .modify(trim)
            .reflect(writer)
            .boxed();
        let watching = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Err(error) = event {
                    tracing::warn!(%error, "the watch of the node's pods was interrupted");
                }
            }
        });
        Self { store, watching }
    }

    /// Waits for the first list, no longer than for an answer. False if it has not come.
    pub(super) async fn are_known(&self) -> bool {
        let known = tokio::time::timeout(ANSWER, self.store.wait_until_ready()).await;
        matches!(known, Ok(Ok(())))
    }

    /// UIDs of the pods.
    pub(super) fn uids(&self) -> HashSet<String> {
        let pods = self.store.state();
        pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect()
    }

    /// Whether another pod of the node names the claim of this plan.
    pub(super) fn share_claim(&self, plan: &AttachmentPlan) -> bool {
        let is_other = |pod: &Arc<Pod>| {
            pod.metadata.uid.as_ref() != Some(&plan.pod.uid)
                && pod.metadata.namespace.as_ref() == Some(&plan.pod.namespace)
                && names_claim(pod, plan.claim_name.as_deref())
        };
        plan.claim_name.is_some() && self.store.state().iter().any(is_other)
    }
}

impl Drop for NodePods {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Whether a pod that has not ended names this claim.
fn names_claim(pod: &Pod, claim: Option<&str>) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    !matches!(phase, Some("Succeeded" | "Failed"))
        && claims
            .into_iter()
            .any(|entry| entry.resource_claim_name.as_deref() == claim)
}

/// Leaves out what nobody reads.
fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    pod.metadata.labels = None;
    if let Some(spec) = &mut pod.spec {
        *spec = PodSpec {
            resource_claims: spec.resource_claims.take(),
            ..PodSpec::default()
        };
    }
    if let Some(status) = &mut pod.status {
        *status = PodStatus {
            phase: status.phase.take(),
            ..PodStatus::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_names_a_claim_is_found_until_it_has_ended() {
        let pod = |phase: &str| -> Pod {
            let mut pod = serde_json::from_value(json!({
                "metadata": {"name": "b", "labels": {"a": "b"}},
                "spec": {"nodeName": "n", "containers": [], "resourceClaims": [
                    {"name": "own", "resourceClaimTemplateName": "t"}, {"name": "x", "resourceClaimName": "llama-0-railhead-x"}]},
                "status": {"phase": phase, "podIP": "10.0.0.1"},
            }))
            .unwrap();
            trim(&mut pod);
            pod
        };
        let claim = Some("llama-0-railhead-x");
        assert!(names_claim(&pod("Pending"), claim) && names_claim(&pod("Running"), claim));
        assert!(!names_claim(&pod("Running"), Some("llama-1-railhead-x")));
        assert!(!names_claim(&pod("Failed"), claim));
    }
}
