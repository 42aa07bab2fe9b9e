//! An API server that is silent, restarts or leaves a request unanswered, and locks that somebody else holds.

use std::{fs, time::Duration};

use railhead_agent::{claims::gc, kubelet::Claims};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    KUBELET_HANGS_UP,
    bed::{Bed, api::Mood},
};

#[tokio::test(start_paused = true)]
async fn an_api_server_that_swallows_requests_keeps_nobody_beyond_kubelets_patience() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    let prepared = bed.add_pod("llama-1", Some(1));
    bed.claims().prepare(prepared.clone()).await.unwrap();
    bed.api.set(Mood::Silent);
    let start = Instant::now();
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("no answer within"), "{refused}");
    assert!(start.elapsed() < KUBELET_HANGS_UP, "{:?}", start.elapsed());
    let start = Instant::now();
    let refused = bed.claims().unprepare(prepared).await.unwrap_err();
    assert!(refused.contains("no answer within"), "{refused}");
    assert!(start.elapsed() < KUBELET_HANGS_UP, "{:?}", start.elapsed());
    bed.api.set(Mood::Well);
    bed.claims().prepare(claim).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_stops_no_loop() {
    let bed = Bed::new(4);
    for index in 0..3 {
        let claim = bed.add_pod(&format!("llama-{index}"), Some(index));
        bed.claims().prepare(claim).await.unwrap();
    }
    bed.api.set(Mood::Silent);
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::spawn(railhead_agent::attachments::run(bed.agent.clone(), stop.clone()));
    tokio::spawn(railhead_agent::drift::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_mins(10)).await;
    let ages = bed.agent.passes.report().unwrap();
    for name in ["collector", "attachments", "drift"] {
        assert!(ages.contains(&format!("{name} ok")), "{ages}");
    }
    let before = bed.api.requests("GET");
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert!(bed.api.requests("GET") > before, "the loops have stopped asking");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_restarts_costs_its_own_time_and_no_back_off_of_kubelet() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.api.set(Mood::Busy);
    let api = bed.api.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(12)).await;
        api.set(Mood::Well);
    });
    let start = Instant::now();
    bed.claims().prepare(claim).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(18), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_claims_lock_that_another_agent_holds_is_waited_for() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    let path = bed.agent.layout.locks().join(format!("claim-{}.lock", claim.uid));
    let held = fs::File::create(path).unwrap();
    held.lock().unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(held);
    });
    bed.claims().prepare(claim).await.unwrap();
}

/// One pod whose DELETE is never answered must not keep the next claim waiting for a lock.
#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_for_one_claim_holds_up_no_other() {
    let bed = Bed::new(4);
    let slow = bed.add_pod("llama-1", Some(1));
    let other = bed.add_pod("llama-11", Some(2));
    let node = std::sync::Arc::new(bed.claims());
    node.prepare(slow.clone()).await.unwrap();
    bed.api.set(Mood::Silent);
    let giving_back = {
        let (node, slow) = (node.clone(), slow.clone());
        tokio::spawn(async move { node.unprepare(slow).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.api.set(Mood::Well);
    let start = Instant::now();
    node.prepare(other).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(giving_back.await.unwrap().is_err());
    node.unprepare(slow).await.unwrap();
}
