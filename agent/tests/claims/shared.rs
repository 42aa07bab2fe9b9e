//! A claim that two pods use.

use std::time::Duration;

use railhead_agent::{
    claims::gc,
    kubelet::{ClaimRef, Claims},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, NAMESPACE, NODE, SLICE, uid};

/// A pod of this node that names the claim of another one.
fn sharer(claim: &ClaimRef, phase: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "sharer", "namespace": NAMESPACE, "uid": uid("sharer")},
        "spec": {"nodeName": NODE, "containers": [], "resourceClaims": [{"name": "x", "resourceClaimName": claim.name}]},
        "status": {"phase": phase},
    })
}

/// kubelet starts a pod that names another one's claim with that pod's devices, and then calls nobody when the first one ends.
#[tokio::test(start_paused = true)]
async fn what_another_pod_uses_of_a_claim_stays_held_and_is_said_until_that_pod_has_ended() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::spawn(railhead_agent::attachments::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    bed.api.put("pods", &sharer(&claim, "Running"));
    bed.reserve(&claim, &["llama-2", "sharer"]);
    tokio::time::sleep(Duration::from_secs(90)).await;
    let told = |reason: &str, what: &str| {
        let events = bed.api.events();
        events.iter().any(|(of, note)| of == reason && note.contains(what))
    };
    assert!(told("ClaimShared", "delete sharer"), "{:?}", bed.api.events());
    let degraded = || {
        let attachment = bed.api.all("networkattachments").remove(0);
        let conditions = attachment["status"]["conditions"].as_array().unwrap().clone();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == "Degraded")
            .unwrap()
    };
    assert_eq!(degraded()["reason"], "ClaimShared");
    // kubelet calls Unprepare for the last pod only, so a call while two run is a mistake of its own.
    let refused = bed.claims().unprepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("is used by sharer too"), "{refused}");
    bed.api.delete("pods", "llama-2");
    bed.reserve(&claim, &["sharer"]);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(
        bed.holders(),
        [(format!("{SLICE}-2"), "llama-2".to_owned())],
        "its index is free"
    );
    assert!(
        bed.agent.layout.plan(&uid("llama-2")).exists(),
        "its functions are free"
    );
    bed.api.put("pods", &sharer(&claim, "Succeeded"));
    tokio::time::sleep(Duration::from_mins(2)).await;
    stop.cancel();
    assert!(bed.holders().is_empty());
    assert!(!bed.agent.layout.plan(&uid("llama-2")).exists());
}

/// The last of two pods ends, and kubelet says so. It counts as running until the call has succeeded.
#[tokio::test(start_paused = true)]
async fn kubelet_gives_a_shared_claim_back_when_its_last_pod_ends() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    bed.api.put("pods", &sharer(&claim, "Running"));
    bed.api.delete("pods", "llama-2");
    bed.reserve(&claim, &["sharer"]);
    bed.claims().unprepare(claim).await.unwrap();
    assert!(bed.holders().is_empty());
}
