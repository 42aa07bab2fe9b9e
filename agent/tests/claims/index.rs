//! Which index a pod takes, and when none is to be had.

use std::time::Duration;

use railhead_agent::kubelet::Claims;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    KUBELET_HANGS_UP,
    bed::{Bed, SLICE, api::When, uid},
};

#[tokio::test(start_paused = true)]
async fn a_pod_of_a_network_that_has_grown_waits_for_its_slice() {
    let bed = Bed::new(3);
    let [mut network, mut slice] = ["trainingnetworks", "networkslices"].map(|kind| bed.api.all(kind).remove(0));
    for object in [&mut network, &mut slice] {
        object["spec"]["pods"] = json!(4);
    }
    bed.api.put("trainingnetworks", &network);
    let claim = bed.add_pod("llama-3", Some(3));
    let api = bed.api.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(12)).await;
        api.put("networkslices", &slice);
    });
    let start = Instant::now();
    bed.claims().prepare(claim).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(12), "{:?}", start.elapsed());
    assert_eq!(bed.holders(), [(format!("{SLICE}-3"), "llama-3".to_owned())]);
}

/// Its node was started again, and with the plan it would have been prepared from that.
#[tokio::test(start_paused = true)]
async fn a_pod_keeps_its_index_in_a_network_that_has_shrunk_and_no_other_gets_it() {
    let bed = Bed::new(4);
    let mut network = bed.api.all("trainingnetworks").remove(0);
    network["spec"]["pods"] = json!(2);
    bed.api.put("trainingnetworks", &network);
    bed.hold(3, "llama-3");
    let claim = bed.add_pod("llama-3", Some(3));
    bed.claims().prepare(claim).await.unwrap();
    assert_eq!(bed.holders(), [(format!("{SLICE}-3"), "llama-3".to_owned())]);
    bed.api.delete("networkattachments", &format!("{SLICE}-3"));
    let claim = bed.add_pod("llama-3-new", Some(3));
    let refused = bed.claims().prepare(claim).await.unwrap_err();
    assert!(refused.contains("index 3 is not in network"), "{refused}");
    assert!(bed.holders().is_empty(), "{:?}", bed.holders());
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_index_without_asking_again_and_again_and_has_it_at_once() {
    let bed = Bed::new(4);
    bed.hold(2, "llama-2-old");
    let claim = bed.add_pod("llama-2", Some(2));
    let api = bed.api.clone();
    let released = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(25)).await;
        api.delete("networkattachments", &format!("{SLICE}-2"));
        Instant::now()
    });
    bed.claims().prepare(claim).await.unwrap();
    let late = released.await.unwrap().elapsed();
    assert!(late < Duration::from_millis(500), "{late:?}");
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
    let creates = bed.api.requests("POST /apis/railhead.dev");
    assert!(creates <= 3, "{creates} tries in 25 s");
    let events = bed.api.events();
    assert!(
        events
            .iter()
            .any(|(reason, note)| reason == "IndexHeld" && note.contains("llama-2-old")),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_held_index_is_refused_before_kubelet_hangs_up_and_nothing_is_left() {
    let bed = Bed::new(4);
    bed.hold(2, "llama-2-old");
    let claim = bed.add_pod("llama-2", Some(2));
    let start = Instant::now();
    let refused = bed.claims().prepare(claim).await.unwrap_err();
    assert!(refused.starts_with("IndexHeld: 2 by llama-2-old"), "{refused}");
    assert!(start.elapsed() < KUBELET_HANGS_UP);
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2-old".to_owned())]);
    assert!(!bed.agent.layout.plan(&uid("llama-2")).exists());
}

/// Two networks have one block: neither gets more pods, and one that is prepared already is left as it is.
#[tokio::test(start_paused = true)]
async fn a_quarantined_slice_takes_no_new_pod_and_keeps_those_that_it_has() {
    let bed = Bed::new(4);
    let before = bed.add_pod("llama-1", Some(1));
    bed.claims().prepare(before.clone()).await.unwrap();
    let mark = |status: &str| {
        let mut slice = bed.api.all("networkslices").remove(0);
        slice["status"] = json!({"attached": 1, "conditions": [{"type": "Quarantined", "status": status,
            "reason": "LedgerMismatch", "message": "team-b/qwen has it too", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        bed.api.put("networkslices", &slice);
    };
    mark("True");
    let claim = bed.add_pod("llama-2", Some(2));
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("team-b/qwen has it too"), "{refused}");
    bed.claims().prepare(before).await.unwrap();
    assert_eq!(bed.holders(), [(format!("{SLICE}-1"), "llama-1".to_owned())]);
    mark("False");
    bed.claims().prepare(claim).await.unwrap();
    assert_eq!(bed.holders().len(), 2);
}

/// The mark comes between the first look at the slice and the index: the index is given back.
#[tokio::test(start_paused = true)]
async fn a_quarantine_that_comes_while_the_index_is_taken_is_seen() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    let held = bed.api.hold("POST /apis/railhead.dev", When::Before);
    let preparing = tokio::spawn({
        let claims = bed.claims();
        async move { claims.prepare(claim).await }
    });
    held.arrived().await;
    let mut slice = bed.api.all("networkslices").remove(0);
    slice["status"] = json!({"attached": 0, "conditions": [{"type": "Quarantined", "status": "True",
        "reason": "LedgerMismatch", "message": "team-b/qwen has it too", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    bed.api.put("networkslices", &slice);
    held.open();
    let refused = preparing.await.unwrap().unwrap_err();
    assert!(refused.contains("takes no more pods"), "{refused}");
    assert!(bed.holders().is_empty());
}

/// All of a job's pods at once: each gets an index of its own, and the requests grow with the pods and not with their square.
#[tokio::test(start_paused = true)]
async fn pods_without_a_number_take_indices_of_their_own_with_few_requests() {
    let pods = 32;
    let bed = Bed::new(pods);
    let claims: Vec<_> = (0..pods)
        .map(|pod| bed.add_pod(&format!("pod-{pod:02}"), None))
        .collect();
    let node = bed.claims();
    let prepared = futures::future::join_all(claims.into_iter().map(|claim| node.prepare(claim))).await;
    for answer in prepared {
        answer.unwrap();
    }
    let holders = bed.holders();
    assert_eq!(holders.len(), pods as usize);
    let mut names: Vec<_> = holders.iter().map(|(_, pod)| pod).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), pods as usize, "a pod has two indices");
    let creates = bed.api.requests("POST /apis/railhead.dev");
    assert!(creates < 4 * pods as usize, "{creates} creates for {pods} pods");
}

#[tokio::test(start_paused = true)]
async fn an_index_that_was_taken_in_an_earlier_call_is_found_again() {
    let bed = Bed::new(64);
    let claim = bed.add_pod("pod-1", None);
    bed.agent.inventory.send_replace(None);
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("does not know its ports"), "{refused}");
    let kept = bed.holders();
    assert_eq!(kept.len(), 1, "what was reached is kept for kubelet's next call");
    bed.agent
        .inventory
        .send_replace(Some(std::sync::Arc::new(railhead_agent::inventory::Inventory {
            fabric: "backend".to_owned(),
            ..railhead_agent::inventory::Inventory::default()
        })));
    bed.claims().prepare(claim).await.unwrap();
    assert_eq!(bed.holders(), kept);
}
