//! Every kind of inconsistency, planted one after the other into a sound cluster: exactly that is found.

use std::collections::BTreeSet;

use railhead_crds::names;
use serde_json::{Value, json};

use super::{Check, Who, found, look, sound};

/// A cluster's objects, to be spoilt.
struct Plant(Vec<Value>);

impl Plant {
    fn at(&mut self, kind: &str, name: &str) -> &mut Value {
        let mut objects = self.0.iter_mut();
        let found = objects.find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn take(&mut self, kind: &str, name: &str) -> Value {
        let taken = self.at(kind, name).clone();
        self.0
            .retain(|object| object["kind"] != kind || object["metadata"]["name"] != name);
        taken
    }

    fn slice(&mut self, network: &str) -> &mut Value {
        self.at("NetworkSlice", &sound::slice_name(network))
    }

    fn attachment(&mut self, network: &str, index: u32) -> &mut Value {
        self.at(
            "NetworkAttachment",
            &names::attachment(&sound::slice_name(network), index),
        )
    }

    fn ledger(&mut self) -> &mut Value {
        &mut self.at("FabricLedger", "backend")["spec"]
    }

    fn entry(&mut self, network: &str) -> &mut Value {
        let entries = self.ledger()["entries"].as_array_mut().expect("it has entries");
        let mut entries = entries.iter_mut();
        entries
            .find(|entry| entry["owner"]["name"] == network)
            .expect("it has one")
    }

    fn drop_entry(&mut self, network: &str) {
        let entries = self.ledger()["entries"].as_array_mut().expect("it has entries");
        entries.retain(|entry| entry["owner"]["name"] != network);
    }

    /// A network with all that is its own, but for what is named.
    fn forget(&mut self, network: &str, but: &[&str]) {
        let own = [
            ("TrainingNetwork", network.to_owned()),
            ("NetworkSlice", sound::slice_name(network)),
            ("ResourceClaimTemplate", names::claim_template(network)),
        ];
        for (kind, name) in own.iter().filter(|(kind, _)| !but.contains(kind)) {
            self.take(kind, name);
        }
    }

    fn deleted(object: &mut Value) {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:45:00Z");
    }

    fn add(&mut self, object: Value) {
        self.0.push(object);
    }
}

type Spoil = fn(&mut Plant);
type Found = &'static [(Check, Who)];

/// What is planted, how, and what is found.
const PLANTED: &[(&str, Spoil, Found)] = &[
    (
        "two entries and their slices share slots",
        slots_twice,
        &[(Check::SlotsTwice, Who::ByHand), (Check::SliceOutsidePool, Who::ByHand)],
    ),
    (
        "two networks without slices share slots",
        bare_slots_twice,
        &[(Check::SlotsTwice, Who::ByHand)],
    ),
    (
        "two entries share a VLAN",
        vlan_twice,
        &[(Check::VlanTwice, Who::ByHand)],
    ),
    (
        "an entry says otherwise than its slice",
        other_entry,
        &[(Check::SliceOtherEntry, Who::ByHand)],
    ),
    (
        "the rails of a slice have different VLANs",
        other_vlans,
        &[(Check::SliceOtherEntry, Who::ByHand)],
    ),
    (
        "an entry is missing",
        without_entry,
        &[(Check::SliceWithoutEntry, Who::ByItself)],
    ),
    (
        "what a slice has rests",
        rests,
        &[(Check::SliceWithoutEntry, Who::ByItself)],
    ),
    (
        "a network is gone, and its slice has no owner",
        without_network,
        &[(Check::SliceWithoutNetwork, Who::Repairable)],
    ),
    (
        "a network is gone, and its slice has an owner",
        with_owner,
        &[(Check::SliceWithoutNetwork, Who::ByItself)],
    ),
    (
        "a network is gone under its pods",
        under_pods,
        &[
            (Check::SliceWithoutNetwork, Who::ByHand),
            (Check::ClaimWithoutNetwork, Who::ByHand),
            (Check::ClaimWithoutNetwork, Who::ByHand),
        ],
    ),
    (
        "a Fabric was made anew",
        other_fabric,
        &[(Check::SliceWithoutFabric, Who::ByHand); 4],
    ),
    (
        "a slice has addresses of no pool",
        no_pool,
        &[(Check::SliceOutsidePool, Who::ByHand)],
    ),
    (
        "a slice has other addresses than its block",
        other_place,
        &[(Check::SliceOutsidePool, Who::ByHand)],
    ),
    (
        "the finalizer of a slice is gone",
        slice_unguarded,
        &[(Check::SliceUnguarded, Who::Repairable)],
    ),
    (
        "an entry of nobody",
        of_nobody,
        &[(Check::EntryOfNobody, Who::ByItself)],
    ),
    (
        "an entry is no block",
        misshapen,
        &[(Check::EntryMisshapen, Who::ByHand)],
    ),
    (
        "an entry lies in no pool",
        outside,
        &[(Check::EntryOutsidePools, Who::ByHand)],
    ),
    (
        "an entry has a number that was not given",
        ahead,
        &[(Check::EntryAhead, Who::ByHand)],
    ),
    (
        "an entry is quarantined",
        quarantined,
        &[(Check::Quarantined, Who::ByItself)],
    ),
    (
        "a ledger was restored",
        restored,
        &[(Check::LedgerRestored, Who::ByItself)],
    ),
    (
        "a ledger is of a later release",
        newer,
        &[(Check::LedgerNewer, Who::ByHand)],
    ),
    (
        "a ledger cannot count on",
        numbers,
        &[(Check::LedgerNumbers, Who::ByHand)],
    ),
    (
        "a reserved network has no slice",
        without_slice,
        &[(Check::NetworkWithoutSlice, Who::ByItself)],
    ),
    (
        "a reservation is forgotten",
        idle,
        &[(Check::ReservedIdle, Who::ByHand)],
    ),
    (
        "two attachments have one index",
        index_twice,
        &[(Check::IndexTwice, Who::ByHand)],
    ),
    (
        "an index beyond the slice",
        out_of_range,
        &[(Check::IndexOutOfRange, Who::ByHand)],
    ),
    (
        "two attachments have one function",
        vf_twice,
        &[(Check::VfTwice, Who::ByHand)],
    ),
    (
        "two attachments have one address",
        address_twice,
        &[
            (Check::AddressTwice, Who::ByHand),
            (Check::AttachmentOtherAddress, Who::ByHand),
        ],
    ),
    (
        "a pod has two attachments",
        pod_twice,
        &[(Check::PodTwice, Who::ByItself)],
    ),
    (
        "an attachment has another VLAN",
        other_vlan,
        &[(Check::AttachmentOtherAddress, Who::ByHand)],
    ),
    (
        "a slice is gone under its pods",
        slice_gone,
        &[
            (Check::NetworkWithoutSlice, Who::ByItself),
            (Check::AttachmentWithoutSlice, Who::ByHand),
            (Check::AttachmentWithoutSlice, Who::ByHand),
        ],
    ),
    ("a pod is gone", pod_gone, &[(Check::PodGone, Who::ByItself)]),
    (
        "a pod is gone and its node is in no Fabric",
        pod_gone_from_no_fabric,
        &[(Check::PodGone, Who::ByHand)],
    ),
    (
        "pod and node are gone",
        pod_and_node_gone,
        &[(Check::PodGone, Who::ByItself)],
    ),
    (
        "a pod is gone whose node does not answer",
        pod_gone_on_lost_node,
        &[(Check::PodGone, Who::ByHand), (Check::HeldByLostNode, Who::ByHand)],
    ),
    (
        "a node is gone under its pods",
        node_gone,
        &[
            (Check::NodeGone, Who::ByItself),
            (Check::NodeGone, Who::ByItself),
            (Check::NodeGone, Who::ByItself),
        ],
    ),
    (
        "an attachment names another node",
        other_node,
        &[(Check::AttachmentOtherNode, Who::ByHand)],
    ),
    (
        "the labels of an attachment are gone",
        no_labels,
        &[(Check::AttachmentLabels, Who::Repairable)],
    ),
    (
        "the finalizer of an attachment is gone",
        unguarded,
        &[(Check::AttachmentUnguarded, Who::ByItself)],
    ),
    (
        "a node does not answer",
        lost_node,
        &[(Check::HeldByLostNode, Who::ByHand)],
    ),
    (
        "a claim of nobody for a network that is gone",
        orphan_claim,
        &[(Check::ClaimWithoutNetwork, Who::Repairable)],
    ),
    (
        "a claim that its pod owns for a network that is gone",
        owned_claim,
        &[(Check::ClaimWithoutNetwork, Who::ByItself)],
    ),
    (
        "a claim of a pod that is gone for a network that is gone",
        reserved_claim,
        &[(Check::ClaimWithoutNetwork, Who::ByHand)],
    ),
    (
        "a claim has less than the guarantee",
        less,
        &[(Check::ClaimOther, Who::ByHand)],
    ),
    ("a claim lacks a rail", fewer_rails, &[(Check::ClaimOther, Who::ByHand)]),
    ("a port is oversold", oversold, &[(Check::PortOversold, Who::ByHand)]),
    (
        "a template is missing",
        no_template,
        &[(Check::TemplateMissing, Who::ByItself)],
    ),
    (
        "a template is somebody else's",
        foreign_template,
        &[(Check::TemplateOther, Who::ByHand)],
    ),
    (
        "a template of a network that is gone",
        stray_template,
        &[(Check::TemplateWithoutNetwork, Who::ByItself)],
    ),
    (
        "a copy of a template of a network that is gone",
        copied_template,
        &[(Check::TemplateWithoutNetwork, Who::ByHand)],
    ),
    (
        "a template has other rails",
        other_template,
        &[(Check::TemplateOther, Who::ByItself)],
    ),
    (
        "a NodeNetwork of a Node that is gone",
        no_node,
        &[(Check::NodeNetworkWithoutNode, Who::ByItself)],
    ),
    (
        "a node holds what no ledger knows",
        node_holds,
        &[(Check::NodeHoldsUnknown, Who::ByHand)],
    ),
    (
        "a node says more than can be",
        doubted,
        &[(Check::NodeDoubted, Who::ByHand)],
    ),
    ("a network does not go", stuck_network, &[(Check::Stuck, Who::ByItself)]),
    ("a slice does not go", stuck_slice, &[(Check::Stuck, Who::ByItself)]),
    (
        "an attachment does not go",
        stuck_attachment,
        &[(Check::Stuck, Who::ByItself)],
    ),
    ("a Fabric does not go", stuck_fabric, &[(Check::Stuck, Who::ByItself)]),
];

#[test]
fn each_planted_inconsistency_is_found_and_nothing_else() {
    let mut seen = BTreeSet::new();
    for (what, spoil, wanted) in PLANTED {
        let mut plant = Plant(sound::sound(&sound::networks()));
        spoil(&mut plant);
        let report = look(plant.0);
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        let mut all = found(&report);
        all.sort_unstable();
        assert_eq!(all, wanted, "{what}: {:#?}", report.findings);
        seen.extend(wanted.iter().map(|(check, _)| format!("{check:?}")));
        for finding in &report.findings {
            assert!(
                !finding.text.is_empty() && !finding.help.is_empty() && !finding.why.is_empty(),
                "{what}: {finding:?}"
            );
        }
    }
    // A rule that nobody breaks here is a rule that nobody has tried.
    let schema = serde_json::to_value(schemars::schema_for!(Check)).expect("a schema is JSON");
    let all: BTreeSet<String> = schema["oneOf"]
        .as_array()
        .expect("one for each")
        .iter()
        .map(|one| one["const"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(seen, all);
}

fn slots_twice(plant: &mut Plant) {
    let base = plant.entry("llama")["base"].clone();
    plant.entry("idle")["base"] = base.clone();
    plant.slice("idle")["spec"]["base"] = base;
}

fn bare_slots_twice(plant: &mut Plant) {
    let mut entry = plant.entry("idle").clone();
    entry["owner"] = json!({"namespace": "team-c", "name": "late", "uid": "u-late"});
    entry["vlan"] = json!(1999);
    plant.forget("idle", &["TrainingNetwork"]);
    plant.at("TrainingNetwork", "idle")["status"] = Value::Null;
    plant.ledger()["entries"]
        .as_array_mut()
        .expect("it has entries")
        .push(entry);
    let mut late = plant.at("TrainingNetwork", "idle").clone();
    late["metadata"] = json!({"name": "late", "namespace": "team-c", "uid": "u-late"});
    plant.add(late);
}

fn vlan_twice(plant: &mut Plant) {
    let vlan = plant.entry("llama")["vlan"].clone();
    plant.entry("idle")["vlan"] = vlan.clone();
    for rail in 0..2 {
        plant.slice("idle")["spec"]["rails"][rail]["vlan"] = vlan.clone();
    }
}

fn other_entry(plant: &mut Plant) {
    plant.entry("idle")["vlan"] = json!(1999);
}

fn other_vlans(plant: &mut Plant) {
    plant.slice("idle")["spec"]["rails"][1]["vlan"] = json!(1999);
}

fn without_entry(plant: &mut Plant) {
    plant.drop_entry("idle");
}

fn rests(plant: &mut Plant) {
    let entry = plant.entry("idle");
    entry["state"] = json!("Resting");
    entry["restsUntil"] = json!("2026-01-01T01:01:00Z");
    plant.ledger()["version"] = json!(2);
}

fn without_network(plant: &mut Plant) {
    plant.forget("idle", &["NetworkSlice"]);
    plant.slice("idle")["metadata"]["ownerReferences"] = Value::Null;
}

fn with_owner(plant: &mut Plant) {
    plant.forget("idle", &["NetworkSlice"]);
}

fn under_pods(plant: &mut Plant) {
    plant.forget("gpt", &["NetworkSlice"]);
    plant.slice("gpt")["metadata"]["ownerReferences"] = Value::Null;
}

fn other_fabric(plant: &mut Plant) {
    plant.at("Fabric", "backend")["metadata"]["uid"] = json!("f-2");
}

fn no_pool(plant: &mut Plant) {
    let prefix = &mut plant.slice("idle")["spec"]["rails"][1]["prefixes"][0];
    *prefix = json!({"prefix": "10.200.0.2/31", "pool": "10.200.0.0/18"});
}

fn other_place(plant: &mut Plant) {
    plant.slice("idle")["spec"]["rails"][1]["prefixes"][0]["prefix"] = json!("10.1.9.0/31");
}

fn slice_unguarded(plant: &mut Plant) {
    plant.slice("llama")["metadata"]["finalizers"] = json!(["somebody.example/elses"]);
}

fn of_nobody(plant: &mut Plant) {
    plant.forget("idle", &[]);
}

fn misshapen(plant: &mut Plant) {
    plant.forget("idle", &["TrainingNetwork"]);
    plant.at("TrainingNetwork", "idle")["status"] = Value::Null;
    let entry = plant.entry("idle");
    entry["base"] = json!(1025);
}

fn outside(plant: &mut Plant) {
    plant.forget("idle", &["TrainingNetwork"]);
    plant.at("TrainingNetwork", "idle")["status"] = Value::Null;
    plant.entry("idle")["base"] = json!(1 << 22);
}

fn ahead(plant: &mut Plant) {
    plant.entry("idle")["sequence"] = json!(90);
}

fn quarantined(plant: &mut Plant) {
    let mut entry = plant.entry("idle").clone();
    entry["owner"] = json!({"namespace": "team-c", "name": "lost", "uid": "u-lost"});
    entry["vlan"] = json!(1999);
    entry["base"] = json!(2048);
    entry["state"] = json!("Quarantined");
    entry["node"] = json!("gpu-1");
    plant.ledger()["version"] = json!(2);
    plant.ledger()["entries"]
        .as_array_mut()
        .expect("it has entries")
        .push(entry);
}

fn restored(plant: &mut Plant) {
    plant.ledger()["recount"] = json!({"id": "r-1", "why": "it had counted to 9, and says 4 now"});
}

fn newer(plant: &mut Plant) {
    plant.ledger()["version"] = json!(90);
}

fn numbers(plant: &mut Plant) {
    plant.ledger()["sequence"] = json!(1_u64 << 60);
}

fn without_slice(plant: &mut Plant) {
    plant.forget("idle", &["TrainingNetwork", "ResourceClaimTemplate"]);
}

fn idle(plant: &mut Plant) {
    plant.slice("idle")["metadata"]["creationTimestamp"] = json!("2025-12-01T00:00:00Z");
}

fn index_twice(plant: &mut Plant) {
    // By somebody who writes records by hand: the name is another one.
    let mut second = plant.attachment("llama", 0).clone();
    let third = {
        let mut pod = plant.at("Pod", "llama-0").clone();
        pod["metadata"]["name"] = json!("again");
        pod["metadata"]["uid"] = json!("p-again");
        pod
    };
    plant.add(third);
    second["metadata"]["name"] = json!("by-hand");
    second["spec"]["podName"] = json!("again");
    second["spec"]["podUID"] = json!("p-again");
    second["spec"]["claimUID"] = json!("c-again");
    second["status"] = Value::Null;
    plant.add(second);
}

fn out_of_range(plant: &mut Plant) {
    let mut far = plant.attachment("gpt", 1).clone();
    plant.take("NetworkAttachment", &names::attachment(&sound::slice_name("gpt"), 1));
    far["metadata"]["name"] = json!(names::attachment(&sound::slice_name("gpt"), 2));
    far["spec"]["index"] = json!(2);
    plant.add(far);
}

fn vf_twice(plant: &mut Plant) {
    let function = plant.attachment("llama", 0)["status"]["rails"][0]["vf"].clone();
    plant.attachment("qwen", 0)["status"]["rails"][0]["vf"] = function;
}

fn address_twice(plant: &mut Plant) {
    let addresses = plant.attachment("llama", 0)["status"]["rails"][0]["addresses"].clone();
    plant.attachment("qwen", 1)["status"]["rails"][0]["addresses"] = addresses;
}

fn pod_twice(plant: &mut Plant) {
    let mut second = plant.attachment("llama", 0).clone();
    let slice = sound::slice_name("llama");
    second["metadata"]["name"] = json!(names::attachment(&slice, 3));
    second["spec"]["index"] = json!(3);
    second["status"] = Value::Null;
    plant.add(second);
}

fn other_vlan(plant: &mut Plant) {
    plant.attachment("llama", 0)["status"]["rails"][1]["vlan"] = json!(1999);
}

fn slice_gone(plant: &mut Plant) {
    plant.forget("gpt", &["TrainingNetwork", "ResourceClaimTemplate"]);
}

fn pod_gone(plant: &mut Plant) {
    plant.take("Pod", "llama-0");
}

fn pod_gone_from_no_fabric(plant: &mut Plant) {
    plant.take("Pod", "llama-0");
    plant.take("NodeNetwork", "gpu-0");
}

fn pod_and_node_gone(plant: &mut Plant) {
    for network in ["qwen", "gpt"] {
        plant.take("Pod", &format!("{network}-1"));
        plant.take("NetworkAttachment", &names::attachment(&sound::slice_name(network), 1));
    }
    plant.take("Pod", "llama-1");
    plant.take("Node", "gpu-1");
    plant.take("NodeNetwork", "gpu-1");
}

fn pod_gone_on_lost_node(plant: &mut Plant) {
    lost_node(plant);
    plant.take("Pod", "llama-1");
}

fn node_gone(plant: &mut Plant) {
    plant.take("Node", "gpu-1");
    plant.take("NodeNetwork", "gpu-1");
}

fn other_node(plant: &mut Plant) {
    plant.at("Pod", "llama-0")["spec"]["nodeName"] = json!("gpu-1");
}

fn no_labels(plant: &mut Plant) {
    plant.attachment("llama", 0)["metadata"]["labels"] = json!({names::NETWORK_LABEL: "llama"});
}

fn unguarded(plant: &mut Plant) {
    plant.attachment("llama", 0)["metadata"]["finalizers"] = Value::Null;
}

fn lost_node(plant: &mut Plant) {
    plant.at("Node", "gpu-1")["status"]["conditions"][0]["status"] = json!("Unknown");
}

/// Of a network that is gone, and of which nothing else is left.
fn claim(plant: &mut Plant) -> Value {
    let mut claim = plant.at("ResourceClaim", "llama-0-railhead").clone();
    claim["metadata"]["name"] = json!("left");
    claim["metadata"]["uid"] = json!("c-left");
    let parameters = &mut claim["spec"]["devices"]["config"][0]["opaque"]["parameters"];
    parameters["networkUID"] = json!("u-gone");
    claim["metadata"]["ownerReferences"] = Value::Null;
    claim["status"]["reservedFor"] = Value::Null;
    claim
}

fn orphan_claim(plant: &mut Plant) {
    let claim = claim(plant);
    plant.add(claim);
}

fn owned_claim(plant: &mut Plant) {
    let mut claim = claim(plant);
    claim["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "p-gone"}]);
    plant.add(claim);
}

fn reserved_claim(plant: &mut Plant) {
    let mut claim = claim(plant);
    claim["status"]["reservedFor"] = json!([{"resource": "pods", "name": "gone", "uid": "p-gone"}]);
    plant.add(claim);
}

fn less(plant: &mut Plant) {
    let results = &mut plant.at("ResourceClaim", "llama-0-railhead")["status"]["allocation"]["devices"]["results"];
    results[1]["consumedCapacity"]["bandwidth"] = json!("100M");
}

fn fewer_rails(plant: &mut Plant) {
    let results = &mut plant.at("ResourceClaim", "llama-0-railhead")["status"]["allocation"]["devices"]["results"];
    results.as_array_mut().expect("it has some").truncate(1);
}

fn oversold(plant: &mut Plant) {
    let devices = &mut plant.at("ResourceSlice", "gpu-0-railhead")["spec"]["devices"];
    devices[0]["capacity"]["bandwidth"]["value"] = json!("2G");
}

fn no_template(plant: &mut Plant) {
    plant.take("ResourceClaimTemplate", "idle-rails");
}

fn foreign_template(plant: &mut Plant) {
    plant.at("ResourceClaimTemplate", "idle-rails")["spec"]["spec"] = json!({"devices": {"requests": []}});
}

fn stray_template(plant: &mut Plant) {
    let mut stray = plant.at("ResourceClaimTemplate", "idle-rails").clone();
    stray["metadata"]["name"] = json!("gone-rails");
    let parameters = &mut stray["spec"]["spec"]["devices"]["config"][0]["opaque"]["parameters"];
    parameters["network"] = json!("gone");
    parameters["networkUID"] = json!("u-gone");
    plant.add(stray);
}

fn copied_template(plant: &mut Plant) {
    stray_template(plant);
    plant.at("ResourceClaimTemplate", "gone-rails")["metadata"]["name"] = json!("copy");
}

fn other_template(plant: &mut Plant) {
    let requests = &mut plant.at("ResourceClaimTemplate", "idle-rails")["spec"]["spec"]["devices"]["requests"];
    requests.as_array_mut().expect("it has some").truncate(1);
}

fn no_node(plant: &mut Plant) {
    let mut node = plant.at("NodeNetwork", "gpu-0").clone();
    node["metadata"]["name"] = json!("gpu-9");
    node["status"] = Value::Null;
    plant.add(node);
}

fn holding(number: u32) -> Value {
    json!({"fabric": "backend", "namespace": "team-c", "name": "lost", "uid": format!("u-{number}"), "base": 4096 + 4 * number, "size": 4,
        "vlan": 1900, "ledgerSequence": 3})
}

fn node_holds(plant: &mut Plant) {
    let held = &mut plant.at("NodeNetwork", "gpu-0")["status"]["networks"];
    held.as_array_mut().expect("it holds some").push(holding(0));
}

fn doubted(plant: &mut Plant) {
    // What is beyond what is believed has a number to which no ledger comes.
    let held = &mut plant.at("NodeNetwork", "gpu-0")["status"]["networks"];
    held[0]["ledgerSequence"] = json!(1_u64 << 60);
}

fn stuck_network(plant: &mut Plant) {
    plant.forget("idle", &["TrainingNetwork"]);
    plant.drop_entry("idle");
    let network = plant.at("TrainingNetwork", "idle");
    Plant::deleted(network);
}

fn stuck_slice(plant: &mut Plant) {
    Plant::deleted(plant.slice("idle"));
}

fn stuck_attachment(plant: &mut Plant) {
    Plant::deleted(plant.attachment("llama", 0));
}

fn stuck_fabric(plant: &mut Plant) {
    let mut fabric = plant.at("Fabric", "backend").clone();
    fabric["metadata"]["name"] = json!("old");
    fabric["metadata"]["uid"] = json!("f-0");
    Plant::deleted(&mut fabric);
    plant.add(fabric);
}
