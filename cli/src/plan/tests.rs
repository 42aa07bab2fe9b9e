use std::{fmt::Write as _, time::Instant};

use serde_json::{Value, json};

use super::{Exit, PlanReport, ReadError, Report as _, WhatIf, asked, report};
use crate::{
    cluster::{self, Cluster},
    fsck::sound,
    output::{Format, render},
};

fn what_if() -> WhatIf {
    WhatIf {
        leaf_label: "leaf".to_owned(),
        ..WhatIf::default()
    }
}

fn plan_on(cluster: &Cluster, text: &str, what_if: &WhatIf) -> Result<PlanReport, ReadError> {
    let mut networks = asked::read(text).expect("it is a network");
    for network in &mut networks {
        network.metadata.namespace.get_or_insert_with(|| "team-a".to_owned());
    }
    report(cluster, &networks, what_if)
}

/// The report as programs get it, and the exit code.
fn planned(objects: Vec<Value>, text: &str, what_if: &WhatIf) -> (Value, Exit) {
    let cluster = cluster::of_objects(objects, None, sound::NOW);
    let report = plan_on(&cluster, text, what_if).expect("it can be planned");
    let shown = render(Format::Wide, &cluster, &report);
    assert!(!shown.is_empty());
    (serde_json::to_value(&report).expect("it is JSON"), report.exit())
}

fn refused(objects: Vec<Value>, text: &str, what_if: &WhatIf) -> String {
    let cluster = cluster::of_objects(objects, None, sound::NOW);
    let error = plan_on(&cluster, text, what_if).expect_err("it is bad input");
    assert_eq!(error.exit(), Exit::Usage);
    error.to_string()
}

fn network(name: &str, spec: &str) -> String {
    format!("apiVersion: railhead.dev/v1alpha1\nkind: TrainingNetwork\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn at<'a>(objects: &'a mut [Value], kind: &str, name: &str) -> &'a mut Value {
    let mut objects = objects.iter_mut();
    objects
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .expect("it is there")
}

#[test]
fn what_is_planned_is_what_the_operator_would_reserve() {
    let (plan, exit) = planned(
        sound::sound(&sound::networks()),
        &network("big", "{pods: 16}"),
        &what_if(),
    );
    assert_eq!(exit, Exit::Fine, "{plan}");
    let mut networks = sound::networks();
    networks.push(sound::Network {
        namespace: "team-a",
        name: "big".to_owned(),
        pods: 16,
        attached: 0,
    });
    let mut objects = sound::sound(&networks);
    let slice = at(&mut objects, "NetworkSlice", &sound::slice_name("big"));
    let block = &plan["networks"][0]["reserves"];
    for rail in 0..2 {
        assert_eq!(
            block["prefixes"][rail]["prefix"],
            slice["spec"]["rails"][rail]["prefixes"][0]["prefix"]
        );
    }
    assert_eq!(block["vlan"], slice["spec"]["rails"][0]["vlan"]);
    assert_eq!(
        (&block["addresses"], &block["vlansFree"], &block["vlans"]),
        (&json!(16), &json!(995), &json!(1000))
    );
    assert_eq!(plan["networks"][0]["room"]["asked"], 16);
}

#[test]
fn a_network_that_has_its_slice_is_planned_as_it_grows() {
    let objects = || sound::sound(&sound::networks());
    let (plan, exit) = planned(objects(), &network("qwen", "{pods: 4}"), &what_if());
    assert_eq!(exit, Exit::Fine, "{plan}");
    assert_eq!(plan["networks"][0]["reserves"]["hasIt"], true);
    assert_eq!(
        (
            &plan["networks"][0]["room"]["asked"],
            &plan["networks"][0]["room"]["attached"]
        ),
        (&json!(2), &json!(2))
    );
    let (plan, exit) = planned(objects(), &network("qwen", "{pods: 5}"), &what_if());
    assert_eq!(exit, Exit::DoesNotFit);
    assert_eq!(plan["networks"][0]["refused"]["reason"], "CannotGrow");
    assert_eq!(plan["networks"][0]["changes"][0]["to"], "4");
}

/// Whatever is told as a change makes it fit.
#[test]
fn each_change_that_is_told_makes_it_fit_and_one_step_less_does_not() {
    let objects = || {
        let mut objects = sound::sound(&sound::networks());
        // Rail 1 of one node is slow.
        let devices = &mut at(&mut objects, "ResourceSlice", "gpu-1-railhead")["spec"]["devices"];
        devices[1]["capacity"]["bandwidth"]["value"] = json!("100G");
        objects
    };
    let spec = |pods: u64, bandwidth: &str| format!("{{pods: {pods}, bandwidthPerRail: {bandwidth}}}");
    let (plan, exit) = planned(objects(), &network("big", &spec(7, "98G")), &what_if());
    assert_eq!(exit, Exit::DoesNotFit, "{plan}");
    let changes = plan["networks"][0]["changes"].as_array().expect("a list").clone();
    let to = |what: &str| {
        let mut changes = changes.iter();
        let change = changes.find(|change| change["what"] == what);
        change.unwrap_or_else(|| panic!("no {what} in {changes:?}"))["to"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    let exit = |spec: &str, what_if: &WhatIf| planned(objects(), &network("big", spec), what_if).1;
    let pods: u64 = to("pods").parse().expect("a number");
    assert_eq!(exit(&spec(pods, "98G"), &what_if()), Exit::Fine);
    assert_eq!(exit(&spec(pods + 1, "98G"), &what_if()), Exit::DoesNotFit);
    let mbps: railhead_crds::Bandwidth = to("bandwidthPerRail").parse().expect("a bandwidth");
    assert_eq!(exit(&spec(7, &mbps.to_string()), &what_if()), Exit::Fine);
    let more = railhead_crds::Bandwidth::from_mbps(mbps.mbps() + 1);
    assert_eq!(exit(&spec(7, &more.to_string()), &what_if()), Exit::DoesNotFit);
    let with = |nodes: String| WhatIf {
        nodes: Some(nodes),
        ..what_if()
    };
    let nodes = to("nodes");
    assert_eq!(exit(&spec(7, "98G"), &with(nodes.clone())), Exit::Fine);
    assert_eq!(nodes, "+1", "fewer are none");
    let rails = format!(
        "{{pods: 7, bandwidthPerRail: 98G, rails: {{names: [{}]}}}}",
        to("rails")
    );
    assert_eq!(exit(&rails, &what_if()), Exit::Fine);
}

#[test]
fn a_rail_or_a_leaf_that_fails_takes_its_room_away() {
    let objects = || {
        let mut objects = sound::sound(&sound::networks());
        at(&mut objects, "Node", "gpu-0")["metadata"]["labels"] = json!({"leaf": "leaf-0a"});
        at(&mut objects, "Node", "gpu-1")["metadata"]["labels"] = json!({"leaf": "leaf-0b"});
        objects
    };
    let without_rail = WhatIf {
        without_rail: vec!["rail1".to_owned()],
        ..what_if()
    };
    let (plan, exit) = planned(objects(), &network("big", "{pods: 16}"), &without_rail);
    assert_eq!(exit, Exit::DoesNotFit);
    assert_eq!(plan["networks"][0]["room"]["fits"], 0);
    assert_eq!(plan["networks"][0]["changes"][0]["to"], "rail0", "{plan}");
    let without_leaf = WhatIf {
        without_leaf: vec!["leaf-0b".to_owned()],
        ..what_if()
    };
    let (plan, _) = planned(objects(), &network("big", "{pods: 16}"), &without_leaf);
    let room = &plan["networks"][0]["room"];
    assert_eq!(
        (
            &room["nodes"],
            &room["leftOut"]["ofLeaves"],
            &room["leftOut"]["attachedThere"]
        ),
        (&json!(1), &json!(1), &json!(3))
    );
    let unknown = |what_if: &WhatIf| refused(objects(), &network("big", "{pods: 16}"), what_if);
    let said = unknown(&WhatIf {
        without_leaf: vec!["leaf-9".to_owned()],
        ..what_if()
    });
    assert!(said.contains("leaf=leaf-9; there is leaf-0a, leaf-0b"), "{said}");
    let said = unknown(&WhatIf {
        without_rail: vec!["7".to_owned()],
        ..what_if()
    });
    assert!(said.contains("no rail \"7\"; it has rail0, rail1"), "{said}");
    let said = refused(
        sound::sound(&sound::networks()),
        &network("big", "{pods: 16}"),
        &WhatIf {
            without_leaf: vec!["leaf-0a".to_owned()],
            ..what_if()
        },
    );
    assert!(said.contains("--leaf-label"), "{said}");
}

#[test]
fn nodes_and_ports_that_take_no_pod_are_not_counted() {
    let mut objects = sound::sound(&sound::networks());
    at(&mut objects, "Node", "gpu-0")["spec"] = json!({"unschedulable": true});
    let devices = &mut at(&mut objects, "ResourceSlice", "gpu-1-railhead")["spec"]["devices"];
    devices[0]["taints"] = json!([{"key": "railhead.dev/cordon", "effect": "NoSchedule"}]);
    let (plan, exit) = planned(objects, &network("big", "{pods: 1}"), &what_if());
    assert_eq!(exit, Exit::DoesNotFit, "{plan}");
    let room = &plan["networks"][0]["room"];
    assert_eq!(
        (&room["fits"], &room["leftOut"]["notReady"], &room["byRail"]["rail0"]),
        (&json!(0), &json!(1), &json!(0))
    );
}

#[test]
fn what_cannot_be_reserved_says_so_as_its_condition_would() {
    let refused = |objects: Vec<Value>, spec: &str| {
        let (plan, exit) = planned(objects, &network("big", spec), &what_if());
        assert_eq!(exit, Exit::DoesNotFit, "{plan}");
        let refused = &plan["networks"][0]["refused"];
        (refused["reason"].as_str().expect("a reason").to_owned(), plan)
    };
    let objects = || sound::sound(&sound::networks());
    let (reason, plan) = refused(objects(), "{pods: 65536}");
    assert_eq!(reason, "PoolExhausted");
    assert!(plan["networks"][0]["changes"][0]["what"] == "pods", "{plan}");
    let mut few = objects();
    at(&mut few, "Fabric", "backend")["spec"]["vlan"]["range"] = json!({"min": 1000, "max": 1003});
    assert_eq!(refused(few, "{pods: 2}").0, "VlanExhausted");
    assert_eq!(refused(objects(), "{pods: 2, fabricName: other}").0, "FabricNotFound");
    let mut bound = objects();
    bound.push(json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkQuota",
        "metadata": {"name": "rails", "namespace": "team-a"}, "spec": {"hard": {"pods": 20}}}));
    let (reason, plan) = refused(bound, "{pods: 16}");
    assert_eq!(reason, "QuotaExceeded");
    assert_eq!(
        plan["networks"][0]["changes"][0]["to"], "13",
        "4 and 3 of 20 are used: {plan}"
    );
    let mut theirs = objects();
    at(&mut theirs, "Fabric", "backend")["spec"]["allowedNamespaces"] = json!({"matchLabels": {"tier": "prod"}});
    assert_eq!(refused(theirs, "{pods: 2}").0, "FabricNotAllowed");
    let mut restored = objects();
    at(&mut restored, "FabricLedger", "backend")["spec"]["recount"] = json!({"id": "r-1", "why": "it went back"});
    assert_eq!(refused(restored, "{pods: 2}").0, "LedgerRestored");
}

#[test]
fn several_networks_are_planned_one_after_the_other() {
    let mut text = network("one", "{pods: 4, bandwidthPerRail: 300G}");
    let _ = write!(text, "---\n{}", network("two", "{pods: 1, bandwidthPerRail: 300G}"));
    let with_nodes = WhatIf {
        nodes: Some("+2".to_owned()),
        ..what_if()
    };
    let (plan, exit) = planned(sound::sound(&sound::networks()), &text, &with_nodes);
    assert_eq!(exit, Exit::DoesNotFit);
    let fits = |place: usize| plan["networks"][place]["fits"].as_bool().expect("a bool");
    assert!(fits(0) && !fits(1), "{plan}");
    let vlan = |place: usize| plan["networks"][place]["reserves"]["vlan"].as_u64().expect("one");
    assert_eq!(vlan(0) + 1, vlan(1), "both would be reserved");
}

/// The scheduler has counted a pod before its node attaches it.
#[test]
fn a_pod_whose_claim_is_allocated_has_its_room_already() {
    let mut objects = sound::sound(&sound::networks());
    objects.retain(|object| object["kind"] != "NetworkAttachment" || object["spec"]["podName"] != "llama-1");
    let (plan, _) = planned(objects, &network("llama", "{pods: 4}"), &what_if());
    let room = &plan["networks"][0]["room"];
    assert_eq!((&room["attached"], &room["asked"]), (&json!(2), &json!(2)), "{plan}");
}

#[test]
fn what_decides_and_could_not_be_read_leaves_it_open() {
    let spoilt = |kind: &str, field: &str| {
        let mut objects = sound::sound(&sound::networks());
        let mut object = objects
            .iter()
            .find(|object| object["kind"] == kind)
            .expect("it is there")
            .clone();
        object["metadata"]["name"] = json!("spoilt");
        object[field] = json!("of a later release");
        objects.push(object);
        planned(objects, &network("big", "{pods: 16}"), &what_if()).1
    };
    for kind in [
        "FabricLedger",
        "NetworkSlice",
        "ResourceClaim",
        "ResourceSlice",
        "Node",
        "TrainingNetwork",
    ] {
        assert_eq!(spoilt(kind, "spec"), Exit::CannotTell, "{kind}");
    }
    let mut objects = sound::sound(&sound::networks());
    objects.retain(|object| object["kind"] != "ResourceClaim");
    assert_eq!(
        planned(objects, &network("big", "{pods: 16}"), &what_if()).1,
        Exit::CannotTell,
        "claims were not saved"
    );
}

#[test]
fn a_network_that_is_being_deleted_gets_nothing() {
    let mut objects = sound::sound(&sound::networks());
    at(&mut objects, "TrainingNetwork", "llama")["metadata"]["deletionTimestamp"] = json!(sound::NOW);
    let (plan, exit) = planned(objects, &network("llama", "{pods: 4}"), &what_if());
    assert_eq!(exit, Exit::DoesNotFit, "{plan}");
}

fn described() -> Vec<Value> {
    let mut objects = sound::sound(&[]);
    objects.retain(|object| ["Fabric", "QosClass"].contains(&object["kind"].as_str().expect("a kind")));
    objects
}

#[test]
fn a_fabric_that_is_only_described_has_the_nodes_that_are_said() {
    let of = |nodes: &str| WhatIf {
        nodes: Some(nodes.to_owned()),
        per_node: Some(1),
        ..what_if()
    };
    let (plan, exit) = planned(described(), &network("big", "{pods: 500}"), &of("500"));
    assert_eq!(exit, Exit::Fine, "{plan}");
    let (plan, exit) = planned(described(), &network("big", "{pods: 501}"), &of("500"));
    assert_eq!(exit, Exit::DoesNotFit);
    let changes = &plan["networks"][0]["changes"];
    assert_eq!(
        (&changes[0]["to"], &changes[1]["to"]),
        (&json!("500"), &json!("+1")),
        "{plan}"
    );
    let said = refused(
        sound::sound(&sound::networks()),
        &network("big", "{pods: 2}"),
        &of("500"),
    );
    assert!(said.contains("write +500"), "{said}");
    let said = refused(described(), &network("big", "{pods: 2}"), &of("many"));
    assert!(said.contains("--nodes many"), "{said}");
    let mut slow = described();
    at(&mut slow, "Fabric", "backend")["spec"]["rails"][1]["speed"] = Value::Null;
    let said = refused(slow, &network("big", "{pods: 2}"), &of("500"));
    assert!(said.contains("rail1 says no speed"), "{said}");
}

#[test]
fn what_is_no_network_is_told_in_a_sentence() {
    for (text, words) in [
        ("", "there is no TrainingNetwork in it"),
        ("kind: Pod", "there is no TrainingNetwork in it"),
        ("kind: TrainingNetwork\nspec: {pods: 2}", "no metadata.name"),
        ("a: b: c", ""),
        (
            "kind: TrainingNetwork\napiVersion: railhead.dev/v1alpha1\nmetadata: {name: x}\nspec: {}",
            "missing field `pods`",
        ),
        (&network("x", "{pods: 0}"), "spec.pods is 0"),
        (&network("x", "{pods: 4, maxPods: 2}"), "at most maxPods"),
        (&network("x", "{pods: 4, groups: 3}"), "no multiple"),
        (
            &network("x", "{pods: 4, roles: [{name: a, pods: 1}]}"),
            "1 pods together",
        ),
        (&network("x", "{pods: many}"), "TrainingNetwork x"),
    ] {
        let said = asked::read(text).expect_err(text);
        assert!(said.contains(words), "{text}: {said}");
    }
}

/// Prints how long the largest cluster takes.
#[test]
fn the_largest_job_on_the_largest_cluster_is_planned() {
    const NODES: usize = 5000;
    let mut objects = described();
    let rail = |id: usize| {
        json!({"id": id, "name": format!("rail{id}"), "ports": [{"netdev": format!("eth{id}")}],
            "pools": [{"cidr": format!("10.{}.0.0/14", 4 * id)}]})
    };
    at(&mut objects, "Fabric", "backend")["spec"]["rails"] = json!((0..8).map(rail).collect::<Vec<_>>());
    for number in 0..NODES {
        let node = format!("gpu-{number:04}");
        let devices: Vec<Value> = (0..8)
            .map(|rail| {
                json!({"name": format!("rail{rail}"), "attributes": {"rail": {"int": rail}, "fabric": {"string": "backend"}},
                    "capacity": {"bandwidth": {"value": "400G"}, "vfs": {"value": "8"}}})
            })
            .collect();
        objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        objects.push(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": node},
            "spec": {"driver": "railhead.dev", "nodeName": node, "devices": devices,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}}),
        );
    }
    let cluster = cluster::of_objects(objects, None, sound::NOW);
    for (spec, fits) in [
        ("{pods: 16384, bandwidthPerRail: 100G}", true),
        ("{pods: 16384, bandwidthPerRail: 150G}", false),
    ] {
        let begun = Instant::now();
        let report = plan_on(&cluster, &network("big", spec), &what_if()).expect("it can be planned");
        let took = begun.elapsed();
        println!("16,384 pods on {NODES} nodes with 8 rails, {spec}: {took:?}");
        assert_eq!(report.exit() == Exit::Fine, fits, "{report:?}");
    }
}
