//! Files of the node that are damaged, lost or written by somebody else.

use std::{fs, time::Duration};

use railhead_agent::{claims::gc, kubelet::Claims};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, uid};

/// In real time: a program is run.
#[tokio::test]
async fn a_damaged_plan_is_given_back_before_a_new_one_is_made() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let plan = bed.agent.layout.plan(&uid("llama-2"));
    fs::write(&plan, "{\"version\":1,").unwrap();
    // What the sandbox of the damaged plan left: the CNI binary of this bed cannot take it away.
    let journal = bed.agent.layout.journal("c1");
    fs::write(
        &journal,
        json!({"version": 1, "bootId": "boot", "podUid": uid("llama-2")}).to_string(),
    )
    .unwrap();
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("DEL for sandbox c1"), "{refused}");
    assert_eq!(
        fs::read_to_string(&plan).unwrap(),
        "{\"version\":1,",
        "it is not written over"
    );
    fs::remove_file(journal).unwrap();
    bed.claims().prepare(claim).await.unwrap();
    let read: Value = serde_json::from_slice(&fs::read(&plan).unwrap()).unwrap();
    assert_eq!(read["index"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_cdi_spec_that_vanished_comes_back_with_the_devices_of_the_wired_pod() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let rail = json!({
        "rail": 0, "name": "rail0", "vf": "0000:18:00.3", "mac": "02:00:00:00:00:01", "mtu": 9000,
        "addresses": ["10.0.64.5/16"], "maxRateMbps": 0, "minRateMbps": 0, "spoofCheck": true,
        "rdma": {"device": "rxe0", "uverbs": "/dev/infiniband/uverbs7", "gidIndex": 1, "gid": "::ffff:10.0.64.5"},
    });
    bed.wire("llama-2", &json!([rail]));
    let spec = bed.agent.layout.cdi_spec(&claim.uid);
    fs::remove_file(&spec).unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(61)).await;
    stop.cancel();
    let written: Value = serde_json::from_slice(&fs::read(&spec).unwrap()).unwrap();
    let edits = &written["devices"][0]["containerEdits"];
    assert_eq!(edits["deviceNodes"][0]["path"], "/dev/infiniband/uverbs7");
    assert_eq!(edits["env"][1], "RAILHEAD_INDEX=2");
}

/// Another tool wrote the spec again as it had been, or part of it; ADD alone knows better until it has ended.
#[tokio::test(start_paused = true)]
async fn a_cdi_spec_with_other_devices_than_the_wired_pods_is_written_again() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let path = bed.agent.layout.cdi_spec(&claim.uid);
    let with = |node: &str| {
        let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        spec["devices"][0]["containerEdits"]["deviceNodes"] = json!([{ "path": node }]);
        fs::write(&path, spec.to_string()).unwrap();
    };
    let named = || {
        let spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        spec["devices"][0]["containerEdits"]["deviceNodes"][0]["path"].clone()
    };
    with("/dev/infiniband/uverbs7");
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(named(), "/dev/infiniband/uverbs7", "ADD has just named it");
    let rail = json!({
        "rail": 0, "name": "rail0", "vf": "0000:18:00.3", "mac": "02:00:00:00:00:01", "mtu": 9000,
        "addresses": ["10.0.64.5/16"], "maxRateMbps": 0, "minRateMbps": 0, "spoofCheck": true,
        "rdma": {"device": "rxe0", "uverbs": "/dev/infiniband/uverbs7", "gidIndex": 1, "gid": "::ffff:10.0.64.5"},
    });
    bed.wire("llama-2", &json!([rail]));
    with("/dev/infiniband/uverbs3");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(named(), "/dev/infiniband/uverbs7");
    fs::write(&path, "{").unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(named(), "/dev/infiniband/uverbs7");
    stop.cancel();
}
