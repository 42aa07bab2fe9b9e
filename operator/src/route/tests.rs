use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::{
    Resource,
    runtime::{
        reflector::{store, store::Writer},
        watcher::Event,
    },
};
use railhead_planner::bandwidth::{Held, NodePorts};
use serde_json::json;

use super::*;
use crate::{
    grouped::Grouped,
    known::{Namespace, Pod},
    network::fixtures,
    quota::Quotas,
    world::{network_of_pod, tests::empty},
};

#[test]
fn pods_look_again_only_if_something_else_is_free_than_before() {
    let (pods, mut pods_in) = store();
    let world = World {
        pods: Grouped::new(pods, network_of_pod),
        ..empty()
    };
    let (ports, claims) = (world.ports.clone(), world.claims.clone());
    let (queues, mut inboxes) = queues();
    apply(&mut pods_in, turned_away());
    ports.follow(Event::Apply(port()), NodePorts::of);
    let mut looks = |world| {
        queues.bandwidth(world);
        inboxes.pods.try_recv().is_ok()
    };
    assert!(looks(&world), "a port came");
    claims.follow(Event::Apply(claim("gpus", "gpu.example.com")), Held::by);
    assert!(!looks(&world), "a claim on other devices");
    claims.follow(Event::Apply(claim("rails", "railhead.dev")), Held::by);
    assert!(looks(&world), "a claim on the port");
    assert_eq!(
        inboxes.free.borrow().as_ref().unwrap().ports()[0].free().to_string(),
        "999800M"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_all_the_time_is_handed_on_all_the_same() {
    let (queues, mut inboxes) = queues();
    let changes = Changes::default();
    let router = tokio::spawn(route(empty(), queues, changes.clone()));
    tokio::time::sleep(GATHER * 2).await;
    let start = Instant::now();
    let mut heard = Vec::new();
    // More often than any debounce would forgive.
    while start.elapsed() < Duration::from_secs(2) {
        changes.tell(Change::Network(Named {
            namespace: "team-a".to_owned(),
            name: "llama".to_owned(),
        }));
        tokio::time::sleep(Duration::from_millis(5)).await;
        while inboxes.networks.try_recv().is_ok() {
            heard.push(start.elapsed());
        }
    }
    assert!(heard[0] <= Duration::from_millis(10), "the first: {:?}", heard[0]);
    let longest = heard
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .max()
        .unwrap();
    assert!(longest <= GATHER * 2, "nothing was heard for {longest:?}");
    assert!(heard.len() <= 50, "{} for 400 changes", heard.len());
    router.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_free_is_counted_once_a_second_while_somebody_waits_for_room() {
    let (pods, mut pods_in) = store();
    let world = World {
        pods: Grouped::new(pods, network_of_pod),
        ..empty()
    };
    let (ports, claims) = (world.ports.clone(), world.claims.clone());
    ports.follow(Event::Apply(port()), NodePorts::of);
    let (queues, mut inboxes) = queues();
    let changes = Changes::default();
    let router = tokio::spawn(route(world, queues, changes.clone()));
    let mut counted_in = async |somebody_waits: bool| {
        if somebody_waits {
            apply(&mut pods_in, turned_away());
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        inboxes.free.mark_unchanged();
        let mut counted = 0;
        for step in 0..250 {
            // Something else is free each time.
            let another = claim(&format!("rails-{step}-{somebody_waits}"), "railhead.dev");
            claims.follow(Event::Apply(another), Held::by);
            changes.tell(Change::Bandwidth);
            tokio::time::sleep(Duration::from_millis(20)).await;
            counted += u32::from(inboxes.free.has_changed().unwrap());
            inboxes.free.mark_unchanged();
        }
        counted
    };
    assert_eq!(counted_in(false).await, 0, "nobody waits");
    let counted = counted_in(true).await;
    assert!((4..=6).contains(&counted), "{counted} times in 5 s");
    router.abort();
}

#[tokio::test(start_paused = true)]
async fn fabrics_look_once_a_second_however_often_ledgers_and_statuses_are_written() {
    let (fabrics, mut fabrics_in) = store();
    apply(&mut fabrics_in, fixtures::fabric());
    let world = World { fabrics, ..empty() };
    let (queues, mut inboxes) = queues();
    let changes = Changes::default();
    let router = tokio::spawn(route(world, queues, changes.clone()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let name = || "backend".to_owned();
    let mut looked = || std::iter::from_fn(|| inboxes.fabrics.try_recv().ok()).count();
    changes.tell(Change::Fabric(name()));
    tokio::time::sleep(GATHER).await;
    assert!(looked() > 0, "it came");
    for _ in 0..250 {
        changes.tell(Change::Fabric(name()));
        changes.tell(Change::Ledger { fabric: name() });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let looked_in_five_seconds = looked();
    assert!(
        (4..=6).contains(&looked_in_five_seconds),
        "{looked_in_five_seconds} times"
    );
    let mut fabric = fixtures::fabric();
    fabric.metadata.finalizers = Some(vec![names::FABRIC_FINALIZER.to_owned()]);
    apply(&mut fabrics_in, fabric);
    changes.tell(Change::Fabric(name()));
    tokio::time::sleep(GATHER).await;
    assert_eq!(looked(), 1, "what its own next step waits for is handed on at once");
    router.abort();
}

#[test]
fn pods_look_again_only_for_what_their_own_network_gives_or_refuses() {
    let (networks, mut networks_in) = store();
    let (pods, mut pods_in) = store();
    let pods = Grouped::new(pods, network_of_pod);
    for (index, network) in [(0, "llama"), (1, "other"), (2, "lama")] {
        let mut pod = fixtures::pod(index);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(names::NETWORK_LABEL.to_owned(), network.to_owned());
        let event = Event::Apply(pod);
        pods.follow(&event);
        pods_in.apply_watcher_event(&event);
    }
    let world = World {
        networks,
        pods,
        ..empty()
    };
    let (queues, mut inboxes) = queues();
    let mut router = Router::default();
    let mut look = |name: &str, pods: u32, refused: &str| {
        let mut network = fixtures::network(pods);
        network.metadata.name = Some(name.to_owned());
        network.metadata.generation = Some(i64::from(pods));
        network.status = from(json!({
            "summary": {"attached": refused, "rails": 2, "prefix": "", "vlan": "", "stability": "Network"},
            "conditions": [{"type": "Reserved", "status": if refused == "no room" {"False"} else {"True"}, "reason": "x",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }));
        apply(&mut networks_in, network);
        router.hand_on(&queues, &world, HashSet::from([Change::Network(fixtures::named(name))]));
        let looked = std::iter::from_fn(|| inboxes.pods.try_recv().ok());
        let mut looked: Vec<String> = looked.map(|pod| pod.name).collect();
        looked.sort_unstable();
        looked
    };
    look("other", 1, "0/1");
    assert_eq!(
        look("llama", 1, "0/1"),
        ["llama-0", "llama-2"],
        "one pod names none that is there"
    );
    assert!(
        look("llama", 1, "1/1").is_empty(),
        "how many are attached is no news to pods"
    );
    assert_eq!(look("llama", 1, "no room"), ["llama-0", "llama-2"]);
    assert_eq!(look("llama", 2, "no room"), ["llama-0", "llama-2"]);
    assert_eq!(look("lama", 1, "0/1"), ["llama-2"]);
    assert_eq!(look("llama", 3, "0/3"), ["llama-0"], "nobody is astray any more");
}

#[test]
fn networks_that_wait_look_again_when_something_was_let_go_and_not_when_others_take_more() {
    let (networks, mut networks_in) = store();
    let (fabrics, mut fabrics_in) = store();
    let (ledgers, mut ledgers_in) = store();
    apply(&mut networks_in, fixtures::network(2));
    let world = World {
        fabrics,
        networks,
        ledgers,
        ..empty()
    };
    let (queues, mut inboxes) = queues();
    let mut router = Router::default();
    let mut looks = |world: &World, change: Change| {
        router.hand_on(&queues, world, HashSet::from([change]));
        inboxes.networks.try_recv().is_ok()
    };
    let mut ledger = |world: &World, vlans: &[u16]| {
        let entries: Vec<_> = vlans
            .iter()
            .map(|vlan| {
                json!({"base": u32::from(*vlan) * 8, "size": 8, "vlan": vlan, "sequence": 1,
                    "owner": {"namespace": "team-b", "name": "x", "uid": format!("n-{vlan}")}, "state": "Held"})
            })
            .collect();
        apply(
            &mut ledgers_in,
            from(
                json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "backend"},
                "spec": {"version": 1, "sequence": 1, "entries": entries}}),
            ),
        );
        looks(
            world,
            Change::Ledger {
                fabric: "backend".to_owned(),
            },
        )
    };
    ledger(&world, &[]);
    assert!(!ledger(&world, &[1000]), "taken");
    assert!(!ledger(&world, &[1000, 1001]), "taken");
    assert!(ledger(&world, &[1001]), "let go");
    assert!(ledger(&world, &[1002]), "one let go and one taken at once");
    let mut fabric = |world: &World, generation: i64, free: u32| {
        let mut fabric = fixtures::fabric();
        fabric.metadata.generation = Some(generation);
        fabric.status = from(json!({"vlansFree": free, "conditions": [], "pools": []}));
        apply(&mut fabrics_in, fabric);
        looks(world, Change::Fabric("backend".to_owned()))
    };
    assert!(fabric(&world, 1, 10), "it came");
    assert!(!fabric(&world, 1, 9), "only its status");
    assert!(fabric(&world, 2, 9), "another spec");
}

#[test]
fn labels_of_a_namespace_wake_the_networks_that_wait_in_it_and_nobody_else() {
    let (namespaces, mut namespaces_in) = store();
    let (networks, mut networks_in) = store();
    for (namespace, reserved) in [("team-a", "False"), ("team-a", "True"), ("team-b", "False")] {
        let mut network = fixtures::network(2);
        network.metadata.namespace = Some(namespace.to_owned());
        network.metadata.name = Some(format!("reserved-{reserved}"));
        network.status = from(
            json!({"conditions": [{"type": "Reserved", "status": reserved, "reason": "ClassNotAllowed",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        );
        apply(&mut networks_in, network);
    }
    let world = World {
        networks,
        namespaces,
        ..empty()
    };
    let (queues, mut inboxes) = queues();
    let mut router = Router::default();
    let mut labelled = |version: &str, labels: serde_json::Value| {
        let metadata = json!({"name": "team-a", "resourceVersion": version, "labels": labels});
        apply::<Namespace>(&mut namespaces_in, from(json!({"metadata": metadata})));
        router.hand_on(&queues, &world, HashSet::from([Change::Namespace("team-a".to_owned())]));
        let woken = std::iter::from_fn(|| inboxes.networks.try_recv().ok());
        let woken: Vec<String> = woken
            .map(|network| format!("{}/{}", network.namespace.unwrap_or_default(), network.name))
            .collect();
        woken
    };
    assert_eq!(labelled("1", json!({})), ["team-a/reserved-False"], "it came");
    assert!(labelled("2", json!({})).is_empty(), "nothing of it is another");
    assert_eq!(labelled("3", json!({"tier": "prod"})), ["team-a/reserved-False"]);
    assert_eq!(labelled("4", json!({"tier": "dev"})), ["team-a/reserved-False"]);
}

#[test]
fn what_a_quota_turned_away_looks_again_when_its_own_namespace_lets_go_or_its_quota_changes() {
    let (networks, mut networks_in) = store();
    let (ledgers, mut ledgers_in) = store();
    let (quotas, mut quotas_in) = store();
    for (namespace, reason) in [
        ("team-a", "QuotaExceeded"),
        ("team-a", "PoolExhausted"),
        ("team-b", "QuotaExceeded"),
    ] {
        let mut network = fixtures::network(2);
        network.metadata.namespace = Some(namespace.to_owned());
        network.metadata.name = Some(reason.to_owned());
        network.status = from(
            json!({"conditions": [{"type": "Reserved", "status": "False", "reason": reason,
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        );
        apply(&mut networks_in, network);
    }
    let world = World {
        networks,
        ledgers,
        quotas: Quotas::new(quotas),
        ..empty()
    };
    let (queues, mut inboxes) = queues();
    let mut router = Router::default();
    let mut woken = |change: Change| {
        router.hand_on(&queues, &world, HashSet::from([change]));
        let woken = std::iter::from_fn(|| inboxes.networks.try_recv().ok());
        let mut woken: Vec<String> = woken
            .map(|network| format!("{}/{}", network.namespace.unwrap_or_default(), network.name))
            .collect();
        woken.sort_unstable();
        woken
    };
    let mut holders = |holders: &[&str]| {
        let entries: Vec<_> = holders
            .iter()
            .zip(0..)
            .map(|(namespace, place)| {
                json!({"base": place * 8, "size": 8, "vlan": 1000 + place, "sequence": 1, "state": "Held",
                    "owner": {"namespace": namespace, "name": "x", "uid": namespace}})
            })
            .collect();
        let ledger = json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "backend"},
            "spec": {"version": 1, "sequence": 1, "entries": entries}});
        apply(&mut ledgers_in, from(ledger));
        Change::Ledger {
            fabric: "backend".to_owned(),
        }
    };
    woken(holders(&["team-a", "team-b", "team-c"]));
    assert_eq!(
        woken(holders(&["team-a", "team-b"])),
        ["team-a/PoolExhausted"],
        "of another namespace"
    );
    assert_eq!(
        woken(holders(&["team-a"])),
        ["team-a/PoolExhausted", "team-b/QuotaExceeded"]
    );
    let mut quota = |generation: u32, used: u32| {
        let quota = json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkQuota",
            "metadata": {"name": "rails", "namespace": "team-a", "generation": generation},
            "spec": {"hard": {"networks": generation}}, "status": {"conditions": [], "used": [
                {"fabricName": "backend", "networks": used, "pods": 0, "bandwidth": "0M", "vlans": 0}]}});
        apply(&mut quotas_in, from(quota));
        Change::Quota(fixtures::named("rails"))
    };
    woken(quota(1, 0));
    assert!(woken(quota(1, 1)).is_empty(), "only its status");
    assert_eq!(woken(quota(2, 1)), ["team-a/PoolExhausted", "team-a/QuotaExceeded"]);
}

fn turned_away() -> Pod {
    let mut pod = fixtures::pod(0);
    pod.status = from(json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}));
    pod
}

fn port() -> ResourceSlice {
    from(json!({
        "metadata": {"name": "node1-railhead"},
        "spec": {"driver": "railhead.dev", "nodeName": "node1",
            "pool": {"name": "node1", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "rail0", "attributes": {"rail": {"int": 0}, "fabric": {"string": "backend"}},
                "capacity": {"bandwidth": {"value": "1T"}, "vfs": {"value": "4"}}}]},
    }))
}

fn claim(name: &str, driver: &str) -> ResourceClaim {
    from(json!({
        "metadata": {"name": name, "namespace": "team-a"}, "spec": {},
        "status": {"allocation": {"devices": {"results": [{"driver": driver, "pool": "node1", "device": "rail0",
            "request": "rail0", "consumedCapacity": {"bandwidth": "200M", "vfs": "1"}}]}}},
    }))
}

fn from<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn apply<K: Resource<DynamicType = ()> + Clone + 'static>(writer: &mut Writer<K>, object: K) {
    writer.apply_watcher_event(&Event::Apply(object));
}
