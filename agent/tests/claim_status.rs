//! What the agent writes into the status of a claim and of its attachment, and when it asks the API server for anything about them.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod bed;

use std::{fs, time::Duration};

use bed::{Bed, NAMESPACE, NODE, SLICE, api::Mood, uid};
use railhead_agent::claims::plans;
use railhead_plan::{AttachmentPlan, AttachmentRecord, ContainerVariable};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const POD: &str = "llama-2";
const SHARE: &str = "00000000-0000-4000-8000-000000000001";

fn plan() -> AttachmentPlan {
    serde_json::from_value(json!({
        "version": 1, "bootId": "boot", "pod": {"namespace": NAMESPACE, "name": POD, "uid": uid(POD)},
        "claimUid": format!("claim-{POD}"), "network": {"name": "llama", "uid": "u"}, "sliceName": SLICE, "index": 2, "pods": 4,
        "rails": [{
            "rail": 0, "name": "rail0", "mac": "02:00:00:00:00:01", "mtu": 9000, "addresses": ["10.0.64.2/16"], "table": 1000,
            "rdma": {"kind": "none"},
            "vf": {"pciAddress": "0000:18:00.3", "pfPciAddress": "0000:18:00.0", "index": 2, "maxRateMbps": 0, "minRateMbps": 0,
                "spoofCheck": true, "trust": false},
        }],
        "ncclFile": true,
    }))
    .unwrap()
}

/// What ADD leaves behind.
fn wire(bed: &Bed, container: &str) {
    let plan = serde_json::to_value(plan()).unwrap();
    let record: AttachmentRecord = serde_json::from_value(json!({
        "version": 1, "containerId": container, "pod": plan["pod"], "network": plan["network"], "sliceName": SLICE, "index": 2,
        "pods": 4, "wiredInMs": 1, "rails": [{
            "rail": 0, "name": "rail0", "vf": "0000:18:00.3", "mac": "02:00:00:00:00:01", "mtu": 9000,
            "addresses": ["10.0.64.2/16"], "maxRateMbps": 0, "minRateMbps": 0, "spoofCheck": true,
        }],
    }))
    .unwrap();
    fs::create_dir_all(bed.agent.layout.attachment(&uid(POD))).unwrap();
    fs::write(bed.agent.layout.record(&uid(POD)), serde_json::to_vec(&record).unwrap()).unwrap();
}

/// A pod whose claim is allocated and whose plan is there, as after Prepare.
fn prepared() -> Bed {
    let bed = Bed::new(4);
    bed.add_pod(POD, Some(2));
    let claim = json!([{"name": "railhead", "resourceClaimName": "llama-2-railhead-x7k2p"}]);
    let mut pod = bed.api.all("pods").remove(0);
    pod["status"] = json!({"resourceClaimStatuses": claim});
    bed.api.put("pods", &pod);
    let mut claim = bed.api.all("resourceclaims").remove(0);
    bed.api.delete("resourceclaims", POD);
    claim["metadata"]["name"] = json!("llama-2-railhead-x7k2p");
    claim["status"]["allocation"]["devices"]["results"] = json!([
        {"driver": "railhead.dev", "pool": NODE, "device": "rail0", "request": "rail0", "shareID": SHARE},
    ]);
    bed.api.put("resourceclaims", &claim);
    plans::write(&bed.agent.layout, &plan()).unwrap();
    bed
}

/// Rings the loop and gives it time for what there is to do.
async fn look(bed: &Bed) {
    bed.agent.attachments_changed.notify_one();
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn devices(bed: &Bed) -> Value {
    bed.api.all("resourceclaims").remove(0)["status"]["devices"].clone()
}

fn ready(bed: &Bed) -> (String, String, String) {
    let ready = devices(bed)[0]["conditions"][0].clone();
    assert_eq!(ready["type"], "Ready", "{ready}");
    let text = |key: &str| ready[key].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

fn written(bed: &Bed) -> usize {
    bed.api.requests("PATCH /apis/resource.k8s.io")
}

fn start(bed: &Bed) -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(railhead_agent::attachments::run(bed.agent.clone(), stop.clone()));
    stop
}

#[tokio::test(start_paused = true)]
async fn a_claim_says_what_its_pod_got_and_what_became_of_it_and_is_written_on_change_only() {
    let bed = prepared();
    let stop = start(&bed);
    look(&bed).await;
    assert_eq!(written(&bed), 0, "a pod that is not wired has nothing yet");
    wire(&bed, "c1");
    look(&bed).await;
    let there = devices(&bed);
    assert_eq!(there[0]["networkData"]["interfaceName"], "rail0", "{there}");
    assert_eq!(there[0]["networkData"]["ips"], json!(["10.0.64.2/16"]), "{there}");
    assert_eq!(
        there[0]["networkData"]["hardwareAddress"], "02:00:00:00:00:01",
        "{there}"
    );
    assert_eq!(there[0]["shareID"], SHARE, "{there}");
    assert_eq!(ready(&bed).0, "True");
    let allocation = bed.api.all("resourceclaims").remove(0)["status"]["allocation"].clone();
    assert_eq!(
        allocation["devices"]["results"][0]["device"], "rail0",
        "the scheduler's part is as it was"
    );

    let asked = bed.api.requests("GET /apis/resource.k8s.io");
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(
        (written(&bed), bed.api.requests("GET /apis/resource.k8s.io")),
        (1, asked),
        "there was no news"
    );

    let pulled = vec!["rail0: it has no carrier".to_owned()];
    bed.agent
        .drift
        .send_modify(|drift| drop(drift.insert(uid(POD), pulled)));
    look(&bed).await;
    let no = |reason: &str, message: &str| ("False".to_owned(), reason.to_owned(), message.to_owned());
    assert_eq!(ready(&bed), no("RailDown", "rail0: it has no carrier"));
    bed.agent.drift.send_modify(std::collections::BTreeMap::clear);
    look(&bed).await;
    assert_eq!(ready(&bed).0, "True");
    fs::remove_dir_all(bed.agent.layout.attachment(&uid(POD))).unwrap();
    let asked = bed.api.requests("GET ");
    look(&bed).await;
    assert_eq!(
        (ready(&bed).0.as_str(), bed.api.requests("GET ")),
        ("True", asked),
        "mostly the pod ends, and nobody asks for its last news"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(ready(&bed), no("NotWired", "the pod's sandbox is gone"));
    assert!(devices(&bed)[0]["networkData"].is_null(), "{}", devices(&bed));
    assert_eq!(written(&bed), 4);
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_writes_what_its_predecessor_could_not_and_nothing_twice() {
    let bed = prepared();
    wire(&bed, "c1");
    bed.api.set(Mood::Busy);
    let stop = start(&bed);
    tokio::time::sleep(Duration::from_secs(30)).await;
    bed.api.set(Mood::Well);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ready(&bed).0, "True", "what passes is tried again");
    stop.cancel();
    let before = written(&bed);
    let stop = start(&bed);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(written(&bed), before, "it says what it said");
    stop.cancel();
    // The runtime ended the sandbox while no agent ran.
    fs::remove_dir_all(bed.agent.layout.attachment(&uid(POD))).unwrap();
    let stop = start(&bed);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(ready(&bed).1, "NotWired");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_may_not_be_written_costs_few_requests_and_no_news_of_the_attachment() {
    let bed = prepared();
    bed.hold(2, POD);
    bed.api.refuse("PATCH /apis/resource.k8s.io");
    wire(&bed, "c1");
    let stop = start(&bed);
    tokio::time::sleep(Duration::from_mins(12)).await;
    assert!((2..=4).contains(&written(&bed)), "{} tries in 12 min", written(&bed));
    let attachment = bed.api.all("networkattachments").remove(0);
    assert_eq!(attachment["status"]["summary"], "1/1", "{attachment}");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn settings_of_nccl_that_do_not_fit_are_told_and_a_file_of_the_image_that_ours_hides() {
    let bed = prepared();
    bed.hold(2, POD);
    let layout = &bed.agent.layout;
    let mut own = plan();
    own.nccl_environment = vec![ContainerVariable {
        container: "train".to_owned(),
        name: "NCCL_IB_GID_INDEX".to_owned(),
        value: Some("0".to_owned()),
    }];
    plans::write(layout, &own).unwrap();
    wire(&bed, "c1");
    let path = layout.record(&uid(POD));
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["rails"][0]["rdma"] =
        json!({"device": "mlx5_10", "uverbs": "/dev/infiniband/uverbs3", "gidIndex": 3, "gid": "g"});
    fs::write(&path, record.to_string()).unwrap();
    let degraded = || {
        let attachment = bed.api.all("networkattachments").remove(0);
        let conditions = attachment["status"]["conditions"].as_array().unwrap().clone();
        let degraded = conditions.into_iter().find(|condition| condition["type"] == "Degraded");
        let text = |key: &str| degraded.as_ref().unwrap()[key].as_str().unwrap().to_owned();
        (text("reason"), text("message"))
    };
    let stop = start(&bed);
    look(&bed).await;
    let wrong = "the environment of container train sets NCCL_IB_GID_INDEX=0, which is wrong here: \
                 the GIDs of this pod's rails have index 3; take it away";
    let told = ("NcclOverridden".to_owned(), wrong.to_owned());
    assert_eq!(degraded().0, "QosNotEnforced", "the rail has no minimum rate");
    assert!(bed.api.events().contains(&told), "{:?}", bed.api.events());
    own.rails[0].vf.min_rate_mbps = 200;
    plans::write(layout, &own).unwrap();
    bed.agent
        .drift
        .send_modify(|drift| drop(drift.insert(uid(POD), vec!["rail0: it has no carrier".to_owned()])));
    look(&bed).await;
    assert_eq!(degraded().0, "RailDown");
    bed.agent.drift.send_modify(std::collections::BTreeMap::clear);
    look(&bed).await;
    assert_eq!(degraded(), told);

    // As the hook of a container leaves it.
    fs::write(
        layout.nccl_hidden_note(&uid(POD)),
        "container train: its image has one\n",
    )
    .unwrap();
    own.nccl_environment.clear();
    plans::write(layout, &own).unwrap();
    look(&bed).await;
    let told = (
        "NcclConfHidden".to_owned(),
        "container train: its image has one".to_owned(),
    );
    assert_eq!(degraded().0, "AsPlanned");
    let times = || bed.api.events().iter().filter(|event| **event == told).count();
    assert_eq!(times(), 1, "{:?}", bed.api.events());
    stop.cancel();
    let stop = start(&bed);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(times(), 1, "an agent that starts does not repeat it");
    stop.cancel();
}
