use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::{
    fixtures,
    lookup::Lookup,
    waits::{Wait, of},
};

/// What `pod` waits for among these objects.
fn wait(objects: Vec<Value>, pod: &str) -> Option<Wait> {
    let cluster = fixtures::cluster(objects);
    let pod = cluster
        .pods
        .iter()
        .find(|found| found.name_any() == pod)
        .expect("the pod");
    of(&Lookup::new(&cluster), pod)
}

/// The fixtures and a second pod that wants the index of the first.
fn rivals(first: impl Fn(&mut Value)) -> Vec<Value> {
    let mut objects = fixtures::all();
    for object in &mut objects {
        if object["kind"] == "Pod" {
            first(object);
        }
    }
    objects.push(fixtures::pod("llama-0-new", 0, Some("gpu-1")));
    objects
}

#[test]
fn a_wired_pod_and_one_that_has_ended_wait_for_nothing() {
    assert!(wait(fixtures::all(), "llama-0").is_none());
    let mut ended = fixtures::pod("llama-1", 1, Some("gpu-1"));
    ended["status"]["phase"] = json!("Succeeded");
    let mut objects = fixtures::all();
    objects.push(ended);
    assert!(wait(objects, "llama-1").is_none());
}

#[test]
fn who_waits_for_an_index_is_told_who_has_it_and_what_would_help() {
    let lives = wait(rivals(|_| ()), "llama-0-new").unwrap();
    assert_eq!(lives.index, Some(0));
    assert_eq!(lives.fact.text, "index 0 is held by pod llama-0 on gpu-0: it lives");
    assert!(lives.fact.help.unwrap().contains("two pods want one index"));
    assert_eq!(lives.fact.source, "NetworkAttachment team-a/llama-0a1b2c3d-0");
    assert_eq!(lives.fact.age.as_deref(), Some("10m"));

    let ends = wait(
        rivals(|pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:50Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        }),
        "llama-0-new",
    )
    .unwrap();
    assert!(ends.fact.text.ends_with("Terminating for 40s"), "{}", ends.fact.text);
    assert!(ends.fact.help.unwrap().contains("podReplacementPolicy: Failed"));
}

#[test]
fn the_holder_on_a_lost_node_is_told_with_the_taint_that_frees_it() {
    let mut objects = rivals(|_| ());
    for object in &mut objects {
        if object["kind"] == "Node" && object["metadata"]["name"] == "gpu-0" {
            object["status"]["conditions"][0]["status"] = json!("Unknown");
        }
    }
    objects.retain(|object| object["metadata"]["name"] != "llama-0");
    let lost = wait(objects, "llama-0-new").unwrap().fact;
    assert_eq!(
        lost.text,
        "index 0 is held by pod llama-0 on gpu-0: that pod is gone, node gpu-0, which is not Ready for 6m"
    );
    let help = lost.help.unwrap();
    assert!(
        help.contains("kubectl taint node gpu-0 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"),
        "{help}"
    );
}

#[test]
fn a_label_that_names_no_network_is_told_the_nearest() {
    let mut objects = fixtures::all();
    let mut pod = fixtures::pod("slip", 0, None);
    pod["metadata"]["labels"]["railhead.dev/network"] = json!("lama");
    objects.push(pod);
    let fact = wait(objects, "slip").unwrap().fact;
    assert_eq!(fact.text, "there is no TrainingNetwork lama in namespace team-a");
    assert!(fact.help.unwrap().contains("did you mean llama?"));
}

#[test]
fn a_pod_beyond_its_network_one_without_a_node_and_one_of_a_refused_network_say_why() {
    let mut objects = fixtures::all();
    objects.push(fixtures::pod("llama-7", 7, None));
    let beyond = wait(objects, "llama-7").unwrap().fact;
    assert_eq!(beyond.reason.as_deref(), Some("IndexOutOfRange"));

    let mut objects = fixtures::all();
    let mut pod = fixtures::pod("llama-1", 1, None);
    pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/2 nodes are available: cannot allocate all claims"}]);
    objects.push(pod);
    let placeless = wait(objects, "llama-1").unwrap();
    assert_eq!(placeless.index, Some(1));
    assert_eq!(
        placeless.fact.text,
        "it has no node: 0/2 nodes are available: cannot allocate all claims"
    );

    let mut objects = fixtures::all();
    objects.retain(|object| object["kind"] != "NetworkSlice" && object["kind"] != "NetworkAttachment");
    for object in &mut objects {
        if object["kind"] == "TrainingNetwork" {
            object["status"]["conditions"] = json!([fixtures::condition(
                "Reserved",
                "False",
                "PoolExhausted",
                "no room for 2 pods"
            )]);
        }
    }
    let refused = wait(objects, "llama-0").unwrap().fact;
    assert_eq!(refused.text, "Reserved=False PoolExhausted: no room for 2 pods");
    assert_eq!(refused.source, "TrainingNetwork team-a/llama");
}

#[test]
fn a_pod_whose_node_is_gone_says_so_before_anything_else() {
    let mut objects = fixtures::all();
    objects.push(fixtures::pod("llama-1", 1, Some("gpu-9")));
    let fact = wait(objects, "llama-1").unwrap().fact;
    assert_eq!(fact.text, "it is bound to node gpu-9, which is gone");
}

#[test]
fn an_index_on_a_node_that_is_gone_waits_for_no_taint() {
    let mut objects = rivals(|_| ());
    objects.retain(|object| !(object["kind"] == "Node" && object["metadata"]["name"] == "gpu-0"));
    let there = wait(objects.clone(), "llama-0-new").unwrap().fact;
    assert!(
        there.text.ends_with("it lives, node gpu-0, which is gone"),
        "{}",
        there.text
    );
    let help = there.help.unwrap();
    assert!(
        help.contains("once the object of that pod is deleted") && !help.contains("taint"),
        "{help}"
    );
    objects.retain(|object| object["metadata"]["name"] != "llama-0");
    let gone = wait(objects, "llama-0-new").unwrap().fact;
    assert_eq!(gone.help.as_deref(), Some("the operator takes it away within a minute"));
}

#[test]
fn a_pod_beyond_what_the_slice_has_grown_to_is_told_so() {
    let mut objects = fixtures::all();
    for object in &mut objects {
        if object["kind"] == "TrainingNetwork" {
            object["spec"]["pods"] = json!(4);
            object["status"]["conditions"][1] =
                fixtures::condition("Reserved", "True", "CannotGrow", "10.0.0.3 is a gateway");
        }
    }
    objects.push(fixtures::pod("llama-3", 3, Some("gpu-1")));
    let wait = wait(objects, "llama-3").unwrap();
    assert_eq!(wait.index, Some(3));
    assert_eq!(
        wait.fact.text,
        "the network has grown to 2 pods only, and index 3 is not there yet: 10.0.0.3 is a gateway"
    );
}

#[test]
fn a_pod_that_is_deleted_before_it_was_prepared_waits_for_nothing() {
    let mut objects = fixtures::all();
    let mut pod = fixtures::pod("llama-1", 1, None);
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:50Z");
    objects.push(pod);
    assert!(wait(objects, "llama-1").is_none());
}
