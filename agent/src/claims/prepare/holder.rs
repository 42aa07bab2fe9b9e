//! What is said of the pod that has an index for which another one waits, and what can be done about it. Pure.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod},
    jiff::{SignedDuration, Timestamp},
};
use railhead_crds::{NetworkAttachment, names::POD_CLAIM};
use railhead_planner::index;

/// Who holds an index, for how long it has been ending, and what it waits for: `llama-7-x (Terminating 40s; its container train
/// still runs)`.
pub(super) fn holder(held: &NetworkAttachment, pod: Option<&Pod>, now: Timestamp) -> String {
    let name = &held.spec.pod_name;
    let node = &held.spec.node_name;
    let Some(pod) = pod else {
        return format!("{name} (pod is gone, node {node} has not released it yet)");
    };
    if let Some(deadline) = &pod.metadata.deletion_timestamp {
        // The timestamp is when the grace period ends, people ask when it began.
        // Whoever deletes chooses the grace period, and may choose one of more years than there are.
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        let since = deadline.0.checked_sub(grace).unwrap_or(Timestamp::MIN);
        let seconds = now.duration_since(since).as_secs().max(0);
        return format!("{name} (Terminating {seconds}s; {})", waits_for(pod));
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    let phase = phase.unwrap_or_else(|| "Pending".to_owned());
    format!("{name} ({phase} on node {node})")
}

/// What whoever made the waiting pod can do.
pub(super) fn advice(waiting: &Pod, held_by: Option<&Pod>) -> String {
    let own = index::workload(&waiting.metadata);
    let other = held_by.map(|pod| index::workload(&pod.metadata));
    if let (Some(own), Some(Some(other))) = (&own, &other)
        && own != other
    {
        return format!(
            "that pod is of {other} and this one of {own}, and each counts from 0: give {own} a network of its own, or both in one \
             network a role each (spec.roles)"
        );
    }
    let of_job = waiting.metadata.owner_references.iter().flatten();
    if of_job.into_iter().any(|owner| owner.kind == "Job") {
        "podReplacementPolicy: Failed of the Job keeps the replacement from starting before".to_owned()
    } else {
        "this pod starts when that one is gone".to_owned()
    }
}

/// What keeps an ending pod. kubelet has all its containers end before it gives any claim back, asks one driver after the other
/// and stops at the first that fails (kubernetes 1.36, `pkg/kubelet/cm/dra/manager.go`): another driver's trouble keeps the rails.
fn waits_for(pod: &Pod) -> String {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let runs = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    if let Some(running) = statuses.into_iter().find(runs) {
        return format!("its container {} still runs", running.name);
    }
    let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let others: Vec<&str> = claims
        .map(|claim| claim.name.as_str())
        .filter(|name| *name != POD_CLAIM)
        .collect();
    if others.is_empty() {
        return "its containers have ended, its node has not given its rails back yet".to_owned();
    }
    let (namespace, name) = (
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default(),
    );
    format!(
        "its containers have ended, and kubelet gives its rails back beside its claims {}, whose driver may be in trouble: \
         kubectl describe pod -n {namespace} {name}",
        others.join(", ")
    )
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
        assert_eq!(
            holder(&held(), Some(&pod), now),
            "llama-7-x (Terminating 40s; its containers have ended, its node has not given its rails back yet)"
        );
        assert_eq!(
            holder(&held(), None, now),
            "llama-7-x (pod is gone, node gpu-3 has not released it yet)"
        );
        let error = PrepareError::IndexHeld {
            index: 7,
            holder: holder(&held(), Some(&pod), now),
            advice: advice(&pod, None),
        };
        assert!(
            error
                .to_string()
                .starts_with("IndexHeld: 7 by llama-7-x (Terminating 40s; ")
        );
    }

    #[test]
    fn who_waits_for_a_pod_of_another_workload_is_told_how_both_get_indices() {
        let of = |kind: &str, owner: &str, name: &str| -> Pod {
            let api = if kind == "Job" { "batch/v1" } else { "apps/v1" };
            serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [
                {"apiVersion": api, "kind": kind, "name": owner, "uid": "o", "controller": true}]}}))
            .unwrap()
        };
        let (old, new) = (of("Job", "llama", "llama-x7k2p"), of("Job", "llama", "llama-y8m3q"));
        let replaced = "podReplacementPolicy: Failed of the Job keeps the replacement from starting before";
        assert_eq!(advice(&new, Some(&old)), replaced);
        assert_eq!(advice(&new, None), replaced);
        let set = of("StatefulSet", "bloom", "bloom-0");
        assert_eq!(advice(&set, Some(&set)), "this pod starts when that one is gone");
        let other = advice(&set, Some(&old));
        assert!(
            other.starts_with("that pod is of Job llama and this one of StatefulSet bloom")
                && other.contains("spec.roles"),
            "{other}"
        );
    }

    #[test]
    fn a_grace_period_of_more_years_than_there_are_is_no_reason_to_stop() {
        for grace in [i64::MAX, 1_000_000_000_000, i64::MIN] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": grace},
            }))
            .unwrap();
            let now: Timestamp = "2026-01-01T00:00:40Z".parse().unwrap();
            assert!(holder(&held(), Some(&pod), now).starts_with("llama-7-x (Terminating "));
        }
    }

    #[test]
    fn the_event_says_what_an_ending_pod_waits_for() {
        let ending = |claims: serde_json::Value, state: serde_json::Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "llama-7-x", "namespace": "team-a", "deletionTimestamp": "2026-01-01T00:00:30Z"},
                "spec": {"containers": [], "resourceClaims": claims},
                "status": {"containerStatuses": [{"name": "train", "image": "i", "imageID": "", "ready": false,
                    "restartCount": 0, "state": state}]},
            }))
            .unwrap()
        };
        let ours = json!([{"name": "railhead", "resourceClaimTemplateName": "llama-rails"}]);
        let both = json!([{"name": "railhead"}, {"name": "gpu"}]);
        let (runs, ended) = (json!({"running": {}}), json!({"terminated": {"exitCode": 0}}));
        assert_eq!(waits_for(&ending(both.clone(), runs)), "its container train still runs");
        assert!(waits_for(&ending(ours, ended.clone())).ends_with("has not given its rails back yet"));
        let other = waits_for(&ending(both.clone(), ended));
        assert!(
            other.contains("claims gpu,") && other.ends_with("kubectl describe pod -n team-a llama-7-x"),
            "{other}"
        );
        let never_started = ending(both, json!({"waiting": {"reason": "ContainerCreating"}}));
        assert!(waits_for(&never_started).contains("gpu"));
    }
}
