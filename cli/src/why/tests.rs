use serde_json::{Value, json};

use super::{WhyReport, fabric, network, node, pod};
use crate::{
    cluster::{Cluster, Kind, ReadError},
    exit::Exit,
    fixtures,
    lookup::found_network,
    output::{Format, Report as _, render},
};

fn shown(cluster: &Cluster, report: &WhyReport) -> String {
    anstream::adapter::strip_str(&render(Format::Table, cluster, report)).to_string()
}

fn of_network(objects: Vec<Value>) -> (String, Exit) {
    let cluster = fixtures::cluster(objects);
    let report = network::report(&cluster, found_network(&cluster, "llama").unwrap());
    (shown(&cluster, &report), report.exit())
}

#[test]
fn a_wired_pod_from_its_label_to_its_functions() {
    let cluster = fixtures::cluster(fixtures::all());
    let report = pod::report(&cluster, "llama-0");
    assert_eq!(
        shown(&cluster, &report),
        "\
Pod team-a/llama-0: it is wired as index 0 on gpu-0, 2/2 rails
label    railhead.dev/network: llama  <- Pod team-a/llama-0, labels, 10m
network  Ready=True Usable: pods get claims  <- TrainingNetwork team-a/llama, 10m
slice    llama-0a1b2c3d of Fabric backend: class production, DSCP 26, priority 3, 10G guaranteed per rail  <- NetworkSlice team-a/llama-0a1b2c3d, 10m
index    0 <- batch.kubernetes.io/job-completion-index=0  <- NetworkAttachment team-a/llama-0a1b2c3d-0, 10m
node     gpu-0, chosen by the scheduler  <- Pod team-a/llama-0, spec.nodeName
rail0    10.0.0.0/16  VLAN 1000  VF 0000:18:00.3 of eth_r0 400G (Healthy)  mlx5_10  GID 3  MAC 02:00:00:00:00:00  <- NetworkAttachment team-a/llama-0a1b2c3d-0, status.rails, 9m
rail1    10.1.0.0/16  VLAN 1000  VF 0000:18:01.3 of eth_r1 400G (Healthy)  mlx5_11  GID 3  MAC 02:00:00:01:00:00  <- NetworkAttachment team-a/llama-0a1b2c3d-0, status.rails, 9m
wiring   Wired=True Wired: 2 rails  <- NetworkAttachment team-a/llama-0a1b2c3d-0, 10m
"
    );
    assert_eq!(report.exit(), Exit::Fine);
}

#[test]
fn a_degraded_pod_and_a_container_that_does_not_start_are_wrong() {
    let mut objects = fixtures::all();
    for object in &mut objects {
        match object["kind"].as_str().unwrap() {
            "NetworkAttachment" => {
                let said = fixtures::condition("Degraded", "True", "RailDown", "rail1 has no signal");
                object["status"]["conditions"].as_array_mut().unwrap().push(said);
            }
            "Pod" => {
                object["status"]["containerStatuses"] = json!([{"name": "train", "restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}]);
            }
            _ => {}
        }
    }
    let cluster = fixtures::cluster(objects);
    let report = pod::report(&cluster, "llama-0");
    let text = shown(&cluster, &report);
    for words in [
        "and has less than was declared: rail1 has no signal\n",
        "Degraded=True RailDown: rail1 has no signal",
        "container train is CrashLoopBackOff: back-off 40s",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert_eq!(report.exit(), Exit::Wrong);
}

#[test]
fn a_pod_without_the_label_has_nothing_to_do_with_it() {
    let mut plain = fixtures::pod("plain", 0, None);
    plain["metadata"]["labels"] = json!({});
    let mut cluster = fixtures::cluster(vec![]);
    cluster.pods.push(serde_json::from_value(plain).unwrap());
    let report = pod::report(&cluster, "plain");
    assert!(shown(&cluster, &report).starts_with("Pod team-a/plain: it has nothing to do with Railhead\n"));
    assert_eq!(report.exit(), Exit::Fine);
}

#[test]
fn a_network_says_what_it_got_and_which_of_its_pods_wait() {
    let mut objects = fixtures::all();
    objects.push(fixtures::pod("llama-0-new", 0, Some("gpu-1")));
    objects.push(
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "llama-rails", "namespace": "team-a"}, "spec": {"spec": {}}}),
    );
    let (text, exit) = of_network(objects);
    for words in [
        "TrainingNetwork team-a/llama: Ready, 1/2 attached, index 1 waits\n",
        "asks for  2 pods on all rails of Fabric backend (the default), class production (the default)  <- TrainingNetwork team-a/llama, spec, 10m\n",
        "rail1     10.1.0.0/31 of pool 10.1.0.0/16, VLAN 1000  <- NetworkSlice team-a/llama-0a1b2c3d, spec, 10m\n",
        "ledger    team-a/llama: 2 slots from 0, VLAN 1000  <- FabricLedger backend, spec.entries\n",
        "template  pods get their claims from llama-rails",
        "pods      2 carry the label, 0 of them have ended",
        "indices   1 of 2 indices are taken; 1 pods are wired",
        "waits     pod llama-0-new: index 0 is held by pod llama-0 on gpu-0: it lives",
        "          help: two pods want one index",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert_eq!(exit, Exit::Wrong);
}

#[test]
fn a_network_that_got_nothing_says_who_has_it() {
    let mut objects = fixtures::all();
    objects.retain(|object| object["kind"] != "NetworkSlice");
    for object in &mut objects {
        match object["kind"].as_str().unwrap() {
            "TrainingNetwork" => {
                let said = |type_| fixtures::condition(type_, "False", "PoolExhausted", "no room for 2 pods");
                object["status"]["conditions"] = json!([said("Ready"), said("Reserved")]);
            }
            "FabricLedger" => {
                let entry = |name: &str, base: u32, state: &str| {
                    json!({"base": base, "size": 8, "vlan": 1000 + base, "sequence": 1, "state": state, "restsUntil": "2026-01-01T00:12:00Z",
                        "node": "gpu-0", "owner": {"namespace": "team-b", "name": name, "uid": name}})
                };
                object["spec"]["entries"] = json!([
                    entry("held", 0, "Held"),
                    entry("rests", 8, "Resting"),
                    entry("strange", 16, "Quarantined"),
                    entry("later", 24, "Lent")
                ]);
            }
            _ => {}
        }
    }
    let (text, exit) = of_network(objects);
    for words in [
        "TrainingNetwork team-a/llama: not Ready, PoolExhausted: no room for 2 pods\n",
        "held      4 networks hold 32 slots (addresses per rail) and 4 VLANs",
        "holder    team-b/held: 8 slots from 0, VLAN 1000  <- FabricLedger backend",
        "holder    team-b/rests: 8 slots from 8, VLAN 1008; given back, and rests, free in 2m",
        "quarantined: pods on gpu-0 have it, of which the ledger did not know",
        "in state Lent, which a later release knows",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert_eq!(exit, Exit::Wrong);
    let cluster = fixtures::cluster(fixtures::all());
    let slip = found_network(&cluster, "lama").unwrap_err();
    assert_eq!(
        slip.to_string(),
        "there is no TrainingNetwork lama in namespace team-a; did you mean llama?"
    );
}

#[test]
fn a_node_says_what_its_ports_lack_and_who_is_attached() {
    let mut objects = fixtures::all();
    for object in &mut objects {
        if object["kind"] == "NodeNetwork" && object["metadata"]["name"] == "gpu-0" {
            object["status"]["ports"] = json!([object["status"]["ports"][0]]);
            object["status"]["ports"][0]["state"] = json!("Down");
            object["status"]["ports"][0]["message"] = json!("no carrier");
        }
    }
    objects.push(json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "railhead-gpu-0"},
        "spec": {"driver": "railhead.dev", "nodeName": "gpu-0", "pool": {"name": "gpu-0", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "rail0", "taints": [{"key": "railhead.dev/port", "effect": "NoSchedule"}]}]},
    }));
    let cluster = fixtures::cluster(objects);
    let report = node::report(&cluster, "gpu-0").unwrap();
    let text = shown(&cluster, &report);
    for words in [
        "Node gpu-0: not ready, Down: rail 0 (eth_r0): no carrier\n",
        "rail0     eth_r0 (0000:18:00.0, mlx5_core), 400G, mlx5_0, 1/8 VFs used, Down: no carrier, tainted railhead.dev/port:NoSchedule",
        "rail1     there is no port eth_r1  <- NodeNetwork gpu-0, status.ports\n",
        "attached  pod team-a/llama-0: index 0 of llama-0a1b2c3d, 2/2 rails",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert_eq!(report.exit(), Exit::Wrong);
    assert!(matches!(
        node::report(&cluster, "gpu-7"),
        Err(ReadError::NotFound { .. })
    ));
}

#[test]
fn a_node_that_no_fabric_selects_is_nobodys() {
    let mut objects = fixtures::all();
    objects[0]["spec"]["nodeSelector"] = json!({"matchLabels": {"gpu": "yes"}});
    objects.push(fixtures::node("cpu-0", "True"));
    let cluster = fixtures::cluster(objects);
    let report = node::report(&cluster, "cpu-0").unwrap();
    let text = shown(&cluster, &report);
    assert!(
        text.starts_with("Node cpu-0: no Fabric selects it: Railhead does nothing there\n"),
        "{text}"
    );
    assert_eq!(report.exit(), Exit::Fine);
}

#[test]
fn a_fabric_says_what_is_used_and_by_whom() {
    let cluster = fixtures::cluster(fixtures::all());
    let report = fabric::report(&cluster, &cluster.fabrics[0]);
    let text = shown(&cluster, &report);
    for words in [
        "Fabric backend: Ready: 2/2 nodes have all ports\n",
        "RoCE, 2 rails, MTU 9000, VLANs 1000 to 1999, VFs Observed, for networks that name none",
        "rail1   10.1.0.0/16: 1% used, the largest prefix that a new network could get: /17",
        "holder  team-a/llama: 2 slots from 0, VLAN 1000",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert_eq!(report.exit(), Exit::Fine);
}

#[test]
fn a_pod_for_which_no_node_has_room_is_told_the_rail_and_what_is_left() {
    let mut objects = fixtures::all();
    let mut pod = fixtures::pod("llama-1", 1, None);
    pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "cannot allocate all claims"}]);
    objects.push(pod);
    let device = |rail: u32| {
        json!({"name": format!("rail{rail}"), "allowMultipleAllocations": true,
            "attributes": {"rail": {"int": rail}, "fabric": {"string": "backend"}},
            "capacity": {"bandwidth": {"value": if rail == 1 { "4G" } else { "400G" }}, "vfs": {"value": "8"}}})
    };
    objects.push(json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "railhead-gpu-0"},
        "spec": {"driver": "railhead.dev", "nodeName": "gpu-0", "pool": {"name": "gpu-0", "generation": 1, "resourceSliceCount": 1},
            "devices": [device(0), device(1)]},
    }));
    let cluster = fixtures::cluster(objects);
    let text = shown(&cluster, &pod::report(&cluster, "llama-1"));
    let words =
        "room     no node has 10G left on all of its rails; of the 1 ports of rail 1 most is left on: gpu-0 4G of 4G";
    assert!(text.contains(words), "{text}");
}

#[test]
fn indices_beyond_a_network_that_has_shrunk_are_counted_apart() {
    let mut objects = fixtures::all();
    objects.push(fixtures::attachment("llama", 5, "llama-5", "gpu-1"));
    let (text, _) = of_network(objects);
    let words = "1 of 2 indices are taken, and 1 beyond them, which their pods keep while they live; 2 pods are wired";
    assert!(text.contains(words), "{text}");
}

#[test]
fn that_all_is_fine_is_not_said_by_who_could_not_read_what_would_tell() {
    let mut cluster = fixtures::cluster(fixtures::all());
    let report = pod::report(&cluster, "llama-0");
    let code = |cluster: &Cluster| {
        let shown: Value = serde_json::from_str(&render(Format::Json, cluster, &report)).unwrap();
        shown["exitCode"].clone()
    };
    assert_eq!(code(&cluster), 0);
    let unread = |kind| crate::cluster::Unread {
        kind,
        why: "no right".to_owned(),
    };
    cluster.unread.push(unread(Kind::Nodes));
    assert_eq!(code(&cluster), 0, "a tenant sees no Nodes");
    cluster.unread.push(unread(Kind::Attachments));
    assert_eq!(code(&cluster), 4);
}
