//! What the collector takes, and what it asks for.

use std::time::Duration;

use railhead_agent::{claims::gc, kubelet::Claims};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, SLICE, uid};

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_is_collected_and_one_that_lives_is_not() {
    let bed = Bed::new(4);
    for index in 1..3 {
        let claim = bed.add_pod(&format!("llama-{index}"), Some(index));
        bed.claims().prepare(claim).await.unwrap();
    }
    bed.api.delete("pods", "llama-1");
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_mins(4)).await;
    stop.cancel();
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
    assert!(!bed.agent.layout.plan(&uid("llama-1")).exists());
    assert!(bed.agent.layout.plan(&uid("llama-2")).exists());
}

/// Thousands of nodes do this: while nothing happens, nothing is asked, however many pods a node has.
#[tokio::test(start_paused = true)]
async fn the_collector_asks_for_nothing_while_nothing_happens() {
    let bed = Bed::new(32);
    for index in 0..32 {
        let claim = bed.add_pod(&format!("llama-{index}"), Some(index));
        bed.claims().prepare(claim).await.unwrap();
    }
    // Thousands of agents that start together cost etcd nothing.
    let lists = "GET /api/v1/pods?&fieldSelector=spec.nodeName%3Dgpu-1";
    let from_memory = format!("{lists}&resourceVersion=0&resourceVersionMatch=NotOlderThan");
    let before = bed.api.requests("");
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(595)).await;
    stop.cancel();
    // One list of pods and one of attachments at the start; the watch begins anew about every five minutes.
    let watches = bed.api.requests("GET /api/v1/pods?&watch=true");
    assert!((1..=4).contains(&watches), "{watches} watches");
    assert_eq!(bed.api.requests("") - before, 2 + watches, "and nothing else");
    assert_eq!((bed.api.requests(lists), bed.api.requests(&from_memory)), (1, 1));
    assert_eq!(bed.holders().len(), 32);
}

/// A watch is late, and an API server that has just started may know less than the one before.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_behind_takes_nothing_from_a_pod_that_lives() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim).await.unwrap();
    bed.api.behind("llama-2");
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_mins(10)).await;
    stop.cancel();
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
    assert!(bed.agent.layout.plan(&uid("llama-2")).exists());
}
