//! What a claim goes through when the API server is slow, busy or silent, when its index is held, and when files of the node
//! are lost. Time is the test's own: it passes when nothing else happens.

mod bed;

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use bed::{
    Bed, NAMESPACE, NODE, SLICE,
    api::{Mood, When},
    uid,
};
use railhead_agent::{
    claims::gc,
    kubelet::{ClaimRef, Claims},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// When kubelet hangs up.
const KUBELET_HANGS_UP: Duration = Duration::from_secs(45);

#[tokio::test(start_paused = true)]
async fn a_claim_is_prepared_and_given_back() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
    assert!(bed.agent.layout.plan(&uid("llama-2")).exists());
    assert!(bed.agent.layout.cdi_spec(&claim.uid).exists());
    bed.claims().prepare(claim.clone()).await.unwrap();
    bed.claims().unprepare(claim.clone()).await.unwrap();
    bed.claims().unprepare(claim.clone()).await.unwrap();
    assert!(bed.holders().is_empty());
    assert!(!bed.agent.layout.plan(&uid("llama-2")).exists());
    assert!(!bed.agent.layout.cdi_spec(&claim.uid).exists());
    let locks: Vec<_> = fs::read_dir(bed.agent.layout.locks())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.to_string_lossy().starts_with("node"))
        .collect();
    assert!(locks.is_empty(), "{locks:?}");
}

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

#[tokio::test(start_paused = true)]
async fn what_will_not_clear_up_gives_the_index_back_and_says_so_at_once() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.agent
        .inventory
        .send_replace(Some(std::sync::Arc::new(railhead_agent::inventory::Inventory {
            fabric: "storage".to_owned(),
            ..railhead_agent::inventory::Inventory::default()
        })));
    let start = Instant::now();
    let refused = bed.claims().prepare(claim).await.unwrap_err();
    assert!(refused.contains("storage"), "{refused}");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(bed.holders().is_empty());
}

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
    let before = bed.api.requests("");
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(595)).await;
    stop.cancel();
    // One list of pods and one of attachments at the start; the watch begins anew about every five minutes.
    let watches = bed.api.requests("GET /api/v1/pods?&watch=true");
    assert!((1..=4).contains(&watches), "{watches} watches");
    assert_eq!(bed.api.requests("") - before, 2 + watches, "and nothing else");
    assert_eq!(bed.holders().len(), 32);
}

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

/// An API server that has just started may answer from a memory that lacks the newest pods.
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

/// kubelet has lost its own state and asks again for a pod that runs.
#[tokio::test(start_paused = true)]
async fn what_keeps_a_claim_from_being_prepared_again_takes_nothing_from_the_pod_that_runs() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let layout = &bed.agent.layout;
    let held = bed.holders();
    let written = fs::metadata(layout.cdi_spec(&claim.uid)).unwrap().ino();
    bed.wire("llama-2", &json!([]));
    // A quota is full, or a role was taken away: nothing has to be created.
    bed.api.refuse("POST /apis/railhead.dev");
    bed.claims().prepare(claim.clone()).await.unwrap();
    let again = fs::metadata(layout.cdi_spec(&claim.uid)).unwrap().ino();
    assert_eq!(again, written, "what is there needs no room on a full disk");
    bed.api.refuse("PATCH /apis/railhead.dev");
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("Forbidden"), "{refused}");
    assert!(layout.plan(&uid("llama-2")).exists() && layout.cdi_spec(&claim.uid).exists());
    assert!(layout.record(&uid("llama-2")).exists());
    assert_eq!(bed.holders(), held);
}
