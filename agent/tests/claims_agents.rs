//! Two agents on one node, as in a rolling update, deletions that reach the API server late, and plans whose index was lost.

mod bed;

use std::{fs, sync::Arc, time::Duration};

use bed::{Bed, SLICE, api::When, uid};
use railhead_agent::{
    agent::Agent,
    claims::{NodeClaims, gc},
    inventory::Inventory,
    kubelet::{ClaimRef, Claims},
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

const ATTACHMENT_DELETE: &str = "DELETE /apis/railhead.dev";

fn on_fabric(agent: &Agent, fabric: &str) {
    agent.inventory.send_replace(Some(Arc::new(Inventory {
        fabric: fabric.to_owned(),
        ..Inventory::default()
    })));
}

fn unprepare(agent: &Arc<Agent>, claim: &ClaimRef) -> JoinHandle<Result<(), String>> {
    let (node, claim) = (NodeClaims::new(agent.clone()), claim.clone());
    tokio::spawn(async move { node.unprepare(claim).await })
}

/// The index in the pod's plan, if there is one.
fn planned(bed: &Bed, pod: &str) -> Option<u64> {
    let bytes = fs::read(bed.agent.layout.plan(&uid(pod))).ok()?;
    let plan: Value = serde_json::from_slice(&bytes).expect("a plan that can be read");
    plan["index"].as_u64()
}

#[tokio::test(start_paused = true)]
async fn what_one_agent_gives_back_the_others_collector_does_not_write_again() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let deletion = bed.api.hold(ATTACHMENT_DELETE, When::Before);
    let giving_back = unprepare(&bed.agent, &claim);
    deletion.arrived().await;
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.another_agent(), stop.clone()));
    sleep(Duration::from_secs(5)).await;
    deletion.open();
    giving_back.await.unwrap().unwrap();
    stop.cancel();
    assert!(!bed.agent.layout.cdi_spec(&claim.uid).exists());
    assert!(!bed.agent.layout.plan(&uid("llama-2")).exists());
    assert!(bed.holders().is_empty());
}

/// Killed between the two, the index alone is left; kubelet asks again.
#[tokio::test(start_paused = true)]
async fn an_index_whose_plan_is_gone_is_given_back_when_kubelet_asks_again() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    fs::remove_file(bed.agent.layout.plan(&uid("llama-2"))).unwrap();
    fs::remove_file(bed.agent.layout.cdi_spec(&claim.uid)).unwrap();
    bed.claims().unprepare(claim).await.unwrap();
    assert!(bed.holders().is_empty());
}

/// Whoever deletes it, the namespace controller among them, only marks it.
#[tokio::test(start_paused = true)]
async fn an_index_that_somebody_deletes_is_held_until_the_node_has_unwired_the_pod() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let mut attachment = bed.api.all("networkattachments").remove(0);
    assert_eq!(attachment["metadata"]["finalizers"], json!(["railhead.dev/unwired"]));
    attachment["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bed.api.put("networkattachments", &attachment);
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.another_agent(), stop.clone()));
    sleep(Duration::from_mins(10)).await;
    stop.cancel();
    assert_eq!(bed.holders().len(), 1, "its pod still runs");
    bed.claims().unprepare(claim).await.unwrap();
    assert!(bed.holders().is_empty());
}

/// Killed between the mark and the finalizer, or of the release before this one, which does not know it.
#[tokio::test(start_paused = true)]
async fn an_index_that_was_only_marked_is_given_back_when_its_pod_is_gone() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    fs::remove_file(bed.agent.layout.plan(&uid("llama-2"))).unwrap();
    let mut attachment = bed.api.all("networkattachments").remove(0);
    attachment["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bed.api.put("networkattachments", &attachment);
    bed.api.delete("pods", "llama-2");
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    sleep(Duration::from_mins(5)).await;
    stop.cancel();
    assert!(bed.holders().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_one_agent_gives_back_the_other_prepares_after_it() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let deletion = bed.api.hold(ATTACHMENT_DELETE, When::Before);
    let giving_back = unprepare(&bed.agent, &claim);
    deletion.arrived().await;
    let other = NodeClaims::new(bed.another_agent());
    let preparing = {
        let claim = claim.clone();
        tokio::spawn(async move { other.prepare(claim).await })
    };
    sleep(Duration::from_secs(5)).await;
    deletion.open();
    giving_back.await.unwrap().unwrap();
    preparing.await.unwrap().unwrap();
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
    assert_eq!(planned(&bed, "llama-2"), Some(2));
    assert!(bed.agent.layout.cdi_spec(&claim.uid).exists());
}

/// The undo's deletion is on its way when its agent gives up waiting for the answer, and the other one prepares.
#[tokio::test(start_paused = true)]
async fn a_late_undo_of_one_agent_takes_no_index_on_which_the_other_relies() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    on_fabric(&bed.agent, "storage");
    let deletion = bed.api.hold(ATTACHMENT_DELETE, When::Before);
    let refused = bed.claims().prepare(claim.clone()).await.unwrap_err();
    assert!(refused.contains("storage"), "{refused}");
    deletion.arrived().await;
    NodeClaims::new(bed.another_agent()).prepare(claim).await.unwrap();
    deletion.open();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_late_deletion_takes_no_index_from_a_claim_that_was_prepared_since() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    let deletion = bed.api.hold(ATTACHMENT_DELETE, When::Before);
    let unanswered = bed.claims().unprepare(claim.clone()).await.unwrap_err();
    assert!(unanswered.contains("no answer within"), "{unanswered}");
    bed.claims().prepare(claim).await.unwrap();
    deletion.open();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
}

/// The deletion comes through between the look at the attachment and the plan: the claim gets its index once more.
#[tokio::test(start_paused = true)]
async fn an_index_that_goes_while_the_claim_is_prepared_is_taken_again() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    let written = bed.api.hold("PATCH /apis/railhead.dev", When::Before);
    let preparing = {
        let (node, claim) = (bed.claims(), claim.clone());
        tokio::spawn(async move { node.prepare(claim).await })
    };
    written.arrived().await;
    bed.api.delete("networkattachments", &format!("{SLICE}-2"));
    written.open();
    preparing.await.unwrap().unwrap();
    assert_eq!(bed.holders(), [(format!("{SLICE}-2"), "llama-2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_number_whose_index_was_lost_takes_another() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("pod-1", None);
    bed.claims().prepare(claim.clone()).await.unwrap();
    let lost = u32::try_from(planned(&bed, "pod-1").unwrap()).unwrap();
    bed.api.delete("networkattachments", &format!("{SLICE}-{lost}"));
    bed.hold(lost, "pod-2");
    bed.claims().prepare(claim).await.unwrap();
    let now = planned(&bed, "pod-1").unwrap();
    assert_ne!(now, u64::from(lost));
    let holders = bed.holders();
    assert_eq!(holders.len(), 2, "{holders:?}");
    assert!(
        holders.contains(&(format!("{SLICE}-{now}"), "pod-1".to_owned())),
        "{holders:?}"
    );
}

/// While the pod waits for its number nothing on the node carries the addresses that are another pod's now.
#[tokio::test(start_paused = true)]
async fn a_pod_with_a_number_whose_index_was_lost_keeps_no_plan_while_it_waits() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    bed.api.delete("networkattachments", &format!("{SLICE}-2"));
    bed.hold(2, "llama-2-new");
    let refused = bed.claims().prepare(claim).await.unwrap_err();
    assert!(refused.starts_with("IndexHeld: 2 by llama-2-new"), "{refused}");
    assert_eq!(planned(&bed, "llama-2"), None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_index_of_a_network_that_ends_is_not_taken_again() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    bed.claims().prepare(claim.clone()).await.unwrap();
    bed.api.delete("networkattachments", &format!("{SLICE}-2"));
    let taken = bed.api.hold("POST /apis/railhead.dev", When::After);
    let preparing = {
        let node = bed.claims();
        tokio::spawn(async move { node.prepare(claim).await })
    };
    taken.arrived().await;
    let mut slice = bed.api.all("networkslices").remove(0);
    slice["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    bed.api.put("networkslices", &slice);
    taken.open();
    let refused = preparing.await.unwrap().unwrap_err();
    assert!(refused.contains("takes no more pods"), "{refused}");
    assert!(bed.holders().is_empty());
    assert_eq!(planned(&bed, "llama-2"), None);
}

/// The creation is on its way when the agent gives up waiting for the answer, and comes through after the pod has another index.
#[tokio::test(start_paused = true)]
async fn an_index_whose_creation_came_late_does_not_stay_beside_the_one_in_the_plan() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("pod-1", None);
    let creation = bed.api.hold("POST /apis/railhead.dev", When::Before);
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    // Somebody takes the place at which the pod begins to look, so that it goes on to another.
    let preparing = {
        let node = bed.claims();
        tokio::spawn(async move { node.prepare(claim).await })
    };
    creation.arrived().await;
    let first = bed.api.creating();
    let taken: u32 = first
        .rsplit('-')
        .next()
        .and_then(|index| index.parse().ok())
        .expect("an index");
    bed.hold(taken, "pod-2");
    preparing.await.unwrap().unwrap();
    let planned = planned(&bed, "pod-1").unwrap();
    bed.api.delete("networkattachments", &first);
    creation.open();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.holders().len(), 2, "it came through: {:?}", bed.holders());
    sleep(Duration::from_mins(6)).await;
    stop.cancel();
    assert_eq!(bed.holders(), [(format!("{SLICE}-{planned}"), "pod-1".to_owned())]);
}

/// The pod has another driver's claim too, and that driver fails: kubelet has prepared ours, and gives it back when the pod goes.
#[tokio::test(start_paused = true)]
async fn a_pod_that_another_driver_kept_from_starting_leaves_nothing() {
    let bed = Bed::new(4);
    let claim = bed.add_pod("llama-2", Some(2));
    // kubelet asks again as long as the other driver fails.
    for _ in 0..3 {
        bed.claims().prepare(claim.clone()).await.unwrap();
    }
    end(&bed, "llama-2");
    bed.claims().unprepare(claim.clone()).await.unwrap();
    assert!(bed.holders().is_empty());
    assert_eq!(planned(&bed, "llama-2"), None);
    assert!(!bed.agent.layout.cdi_spec(&claim.uid).exists());
    // One that was on its way meanwhile takes nothing any more.
    let late = bed.claims().prepare(claim).await.unwrap_err();
    assert!(late.contains("being deleted"), "{late}");
    assert!(bed.holders().is_empty());
}

/// kubelet gives up on the waiting call and asks for the end; it asks again when the first call still waits.
#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_it_waits_for_its_index_is_gone_within_two_of_kubelets_tries() {
    let bed = Bed::new(4);
    bed.hold(2, "llama-2-old");
    let claim = bed.add_pod("llama-2", Some(2));
    let preparing = {
        let (node, claim) = (bed.claims(), claim.clone());
        tokio::spawn(async move { node.prepare(claim).await })
    };
    sleep(Duration::from_secs(5)).await;
    end(&bed, "llama-2");
    let mut released = bed.claims().unprepare(claim.clone()).await;
    if released.is_err() {
        sleep(Duration::from_secs(15)).await;
        released = bed.claims().unprepare(claim).await;
    }
    released.unwrap();
    assert!(preparing.await.unwrap().is_err());
    // The old pod goes: nobody takes its index for the pod that was deleted.
    bed.api.delete("networkattachments", &format!("{SLICE}-2"));
    sleep(Duration::from_mins(1)).await;
    assert!(bed.holders().is_empty());
    assert_eq!(planned(&bed, "llama-2"), None);
}

/// The pod is being deleted.
fn end(bed: &Bed, pod: &str) {
    let found = bed
        .api
        .all("pods")
        .into_iter()
        .find(|found| found["metadata"]["name"] == pod);
    let mut found = found.expect("the pod");
    found["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
    bed.api.put("pods", &found);
}

/// An agent was killed between the deletion and the finalizer of a pod's attachment, and the pod's replacement came to the same node.
#[tokio::test(start_paused = true)]
async fn what_a_give_back_of_this_node_left_half_free_keeps_no_other_pod_waiting() {
    let half_free = |index: u32, node: &str| {
        let pod = format!("llama-{index}-old");
        json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
            "metadata": {"name": format!("{SLICE}-{index}"), "namespace": "team-a", "uid": format!("a-{index}"),
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["railhead.dev/unwired"]},
            "spec": {"sliceName": SLICE, "index": index, "podName": pod, "podUID": uid(&pod),
                "claimUID": format!("claim-{pod}"), "nodeName": node},
        })
    };
    let bed = Bed::new(2);
    for index in 0..2 {
        bed.api.put("networkattachments", &half_free(index, "gpu-1"));
    }
    let start = tokio::time::Instant::now();
    let (numbered, any) = (bed.add_pod("llama-1", Some(1)), bed.add_pod("llama-x", None));
    bed.claims().prepare(numbered.clone()).await.unwrap();
    bed.claims().prepare(any.clone()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    bed.claims().unprepare(numbered.clone()).await.unwrap();
    bed.claims().unprepare(any).await.unwrap();
    // Another node's is that node's, and so is one of a pod that is still wired here.
    let journal = bed.agent.layout.journal("c1");
    let wired = json!({"version": 1, "bootId": "boot", "podUid": uid("llama-1-old")});
    for (node, is_wired) in [("gpu-2", false), ("gpu-1", true)] {
        bed.api.put("networkattachments", &half_free(1, node));
        if is_wired {
            fs::write(&journal, wired.to_string()).unwrap();
        }
        let refused = bed.claims().prepare(numbered.clone()).await.unwrap_err();
        assert!(refused.starts_with("IndexHeld: 1 by llama-1-old"), "{refused}");
    }
}

/// Whoever may write attachments could have the agents remove folders of their nodes.
#[tokio::test(start_paused = true)]
async fn an_attachment_that_names_no_uid_leads_to_no_other_folder() {
    let bed = Bed::new(4);
    let outside = bed.agent.layout.attachments().join("../../../outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("attachment.json"), "{}").unwrap();
    let plan = bed.agent.layout.plan("../../../outside/plan");
    fs::write(&plan, "{").unwrap();
    for (name, pod_uid) in [("a", "../../../outside"), ("b", "../../../outside/plan")] {
        bed.api.put(
            "networkattachments",
            &json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
                "metadata": {"name": name, "namespace": "team-a", "uid": name},
                "spec": {"sliceName": SLICE, "index": 1, "podName": "llama-1", "podUID": pod_uid, "claimUID": "claim-x",
                    "nodeName": "gpu-1"},
            }),
        );
    }
    let stop = CancellationToken::new();
    tokio::spawn(gc::run(bed.agent.clone(), stop.clone()));
    sleep(Duration::from_mins(4)).await;
    stop.cancel();
    let claim = ClaimRef {
        namespace: "team-a".to_owned(),
        name: "x".to_owned(),
        uid: "claim-x".to_owned(),
    };
    bed.claims().unprepare(claim).await.unwrap();
    assert!(outside.join("attachment.json").exists() && plan.exists());
}
