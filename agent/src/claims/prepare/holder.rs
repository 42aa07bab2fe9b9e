//! What is said of the pod that has an index for which another one waits. Pure.

use k8s_openapi::{
    api::core::v1::Pod,
    jiff::{SignedDuration, Timestamp},
};
use railhead_crds::NetworkAttachment;

/// Who holds an index and for how long still: `llama-7-x (Terminating 40s)`.
pub(super) fn holder(held: &NetworkAttachment, pod: Option<&Pod>, now: Timestamp) -> String {
    let name = &held.spec.pod_name;
    let node = &held.spec.node_name;
    let Some(pod) = pod else {
        return format!("{name} (pod is gone, node {node} has not released it yet)");
    };
    if let Some(deadline) = &pod.metadata.deletion_timestamp {
        // The timestamp is when the grace period ends, people ask when it began.
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let since = deadline.0 - SignedDuration::from_secs(grace);
        let seconds = now.duration_since(since).as_secs().max(0);
        return format!("{name} (Terminating {seconds}s)");
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let phase = phase.unwrap_or_else(|| "Pending".to_owned());
    format!("{name} ({phase} on node {node})")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::claims::prepare::PrepareError;

    fn held() -> NetworkAttachment {
        serde_json::from_value(json!({
            "metadata": {"name": "llama-7f3a9c21-7", "namespace": "team-a"},
            "spec": {"sliceName": "llama-7f3a9c21", "index": 7, "podName": "llama-7-x", "podUID": "u1",
                "claimUID": "c1", "nodeName": "gpu-3"},
        }))
        .unwrap()
    }

    #[test]
    fn the_event_says_for_whom_a_pod_waits_and_how_long_already() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30},
        }))
        .unwrap();
        let now: Timestamp = "2026-01-01T00:00:40Z".parse().unwrap();
        assert_eq!(holder(&held(), Some(&pod), now), "llama-7-x (Terminating 40s)");
        assert_eq!(
            holder(&held(), None, now),
            "llama-7-x (pod is gone, node gpu-3 has not released it yet)"
        );
        let error = PrepareError::IndexHeld {
            index: 7,
            holder: holder(&held(), Some(&pod), now),
        };
        assert!(
            error
                .to_string()
                .starts_with("IndexHeld: 7 by llama-7-x (Terminating 40s)")
        );
    }
}
