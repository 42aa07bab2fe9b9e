use railhead_crds::{FabricSpec, NetworkRails, TrainingNetworkSpec};
use serde_json::json;

use super::*;
use crate::ledger::{Request, Wanted, empty, reserve};
use crate::{pools::Written, quota::Bounds, tenant::Tenant};

const NO_NODES: &[railhead_crds::NodeNetwork] = &[];

/// A namespace without labels.
pub(crate) const ANYBODY: Tenant<'static> = Tenant {
    namespace: "team-a",
    has: &|_, _| false,
};

pub(crate) fn fabric() -> Fabric {
    let spec: FabricSpec = serde_json::from_value(json!({
        "default": true,
        "vlan": {"range": {"min": 1000, "max": 1999}},
        "softRoCE": "WhereMissing",
        "rails": [
            {"id": 1, "name": "rail1", "ports": [{"netdev": "eth2"}], "pools": [{"cidr": "10.1.0.0/16"}]},
            {"id": 0, "name": "rail0", "ports": [{"netdev": "eth1"}], "pools": [{"cidr": "10.0.0.0/16"}]},
        ],
    }))
    .unwrap();
    let mut fabric = Fabric::new("backend", spec);
    fabric.metadata.uid = Some("f-1".into());
    fabric
}

pub(crate) fn class() -> QosClass {
    QosClass::new(
        "production",
        serde_json::from_value(json!({
            "default": true, "dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "200M", "maximum": "400M"},
        }))
        .unwrap(),
    )
}

pub(crate) fn network(spec: serde_json::Value) -> TrainingNetwork {
    let spec: TrainingNetworkSpec = serde_json::from_value(spec).unwrap();
    let mut network = TrainingNetwork::new("llama", spec);
    network.metadata.namespace = Some("team-a".into());
    network.metadata.uid = Some("7f3a9c21-0000-4000-8000-000000000000".into());
    network
}

const NO_SLICES: &[NetworkSlice] = &[];

pub(crate) fn reserved(network: &TrainingNetwork) -> (Resolved, NetworkSlice) {
    let resolved = resolve(network, &ANYBODY, &[fabric()], &[class()], NO_NODES).unwrap();
    let space = SlotSpace::new(&resolved.fabric.spec.rails).unwrap();
    let request = Request {
        owner: railhead_crds::LedgerOwner::new("team-a", "llama", network.metadata.uid.clone().unwrap()),
        wanted: Wanted::Block {
            pods: network.spec.room(),
            takes: takes(network, &resolved),
            written: Written::of_fabric(&fabric(), Vec::new()).into(),
        },
    };
    let entry = reserve(&empty(), NO_SLICES, &[request], &Bounds::default())
        .results
        .remove(0)
        .unwrap();
    let slice = slice(network, &resolved, &space, &entry).unwrap();
    (resolved, slice)
}

#[test]
fn six_lines_get_all_rails_of_the_default_fabric_in_the_default_class() {
    let (resolved, slice) = reserved(&network(json!({"pods": 2})));
    assert_eq!(resolved.rails.iter().map(|r| r.id).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(slice.metadata.name.as_deref(), Some("llama-7f3a9c21"));
    assert_eq!(slice.spec.rails[1].prefixes[0].prefix.to_string(), "10.1.0.2/31");
    assert_eq!(slice.spec.rails[0].vlan, slice.spec.rails[1].vlan);
    assert_eq!(slice.spec.qos.maximum, Some(Bandwidth::from_mbps(400)));
}

#[test]
fn a_guarantee_above_the_classs_maximum_is_refused_with_the_classes_that_allow_it() {
    let ask = |bandwidth: &str, classes: &[QosClass]| {
        let network = network(json!({"pods": 2, "bandwidthPerRail": bandwidth}));
        resolve(&network, &ANYBODY, &[fabric()], classes, NO_NODES)
    };
    let refused = ask("900M", &[class()]).unwrap_err();
    assert_eq!(refused.reason(), "BandwidthAboveClass");
    assert_eq!(
        refused.to_string(),
        "900M per pod is more than QosClass production lets a network guarantee (400M): lower spec.bandwidthPerRail"
    );
    let mut narrow = class();
    narrow.spec.bandwidth.maximum = None;
    narrow.spec.bandwidth.largest_guarantee = Some(Bandwidth::from_mbps(300));
    let refused = ask("400M", std::slice::from_ref(&narrow)).unwrap_err().to_string();
    assert!(
        refused.contains("production lets a network guarantee (300M)"),
        "{refused}"
    );
    assert_eq!(ask("300M", &[narrow]).unwrap().maximum, None, "it caps no traffic");
    let mut open = class();
    open.metadata.name = Some("large".into());
    open.spec.default = false;
    open.spec.bandwidth.maximum = None;
    let refused = ask("900M", &[class(), open]).unwrap_err().to_string();
    assert!(
        refused.ends_with("or name a class that allows it in spec.qosClassName (large)"),
        "{refused}"
    );
    let exact = ask("400M", &[class()]).unwrap();
    assert_eq!(
        (exact.guaranteed, exact.maximum),
        (Bandwidth::from_mbps(400), Some(Bandwidth::from_mbps(400)))
    );
}

#[test]
fn a_guarantee_below_the_classs_smallest_is_refused_with_the_classes_that_allow_it() {
    let ask = |bandwidth: &str, classes: &[QosClass]| {
        let network = network(json!({"pods": 2, "bandwidthPerRail": bandwidth}));
        resolve(&network, &ANYBODY, &[fabric()], classes, NO_NODES)
    };
    let mut bounded = class();
    bounded.spec.bandwidth.smallest_guarantee = Some(Bandwidth::from_mbps(150));
    let refused = ask("100M", std::slice::from_ref(&bounded)).unwrap_err();
    assert_eq!(refused.reason(), "BandwidthBelowClass");
    assert_eq!(
        refused.to_string(),
        "100M per pod is less than QosClass production lets a network guarantee (150M): raise spec.bandwidthPerRail, leave it out for the class's 200M"
    );
    let mut open = class();
    open.metadata.name = Some("development".into());
    open.spec.default = false;
    let refused = ask("100M", &[bounded.clone(), open]).unwrap_err().to_string();
    assert!(
        refused.ends_with("200M, or name a class that allows it in spec.qosClassName (development)"),
        "{refused}"
    );
    for given in ["150M", "200M", "400M"] {
        let given = ask(given, std::slice::from_ref(&bounded)).unwrap().guaranteed;
        assert!(given.mbps() >= 150, "{given}");
    }
}

#[test]
fn a_class_or_fabric_of_other_namespaces_is_refused_with_labels_and_what_there_is_instead() {
    let allowed = |labels| serde_json::from_value(json!({"matchLabels": labels})).unwrap();
    let mut gold = class();
    gold.spec.allowed_namespaces = Some(allowed(json!({"tier": "prod", "gpu": "yes"})));
    let mut open = class();
    open.metadata.name = Some("open".into());
    open.spec.default = false;
    let mut closed = gold.clone();
    closed.metadata.name = Some("closed".into());
    closed.spec.default = false;
    let classes = [gold, open, closed];
    let prod = Tenant {
        namespace: "team-a",
        has: &|key, value| (key, value) == ("tier", "prod"),
    };
    let both = Tenant {
        namespace: "team-a",
        has: &|key, value| [("tier", "prod"), ("gpu", "yes")].contains(&(key, value)),
    };
    let of_default = network(json!({"pods": 2}));
    let ask =
        |tenant: &Tenant<'_>, network: &TrainingNetwork| resolve(network, tenant, &[fabric()], &classes, NO_NODES);
    let refused = ask(&prod, &of_default).unwrap_err();
    assert_eq!(refused.reason(), "ClassNotAllowed");
    assert_eq!(
        refused.to_string(),
        "namespace team-a may not use QosClass production, which is for namespaces with the labels gpu=yes, tier=prod: \
         apply the network anew with another QosClass in spec.qosClassName (open), or ask the platform team for it, who allow it \
         with kubectl label namespace team-a gpu=yes"
    );
    assert!(ask(&both, &of_default).is_ok());
    assert!(ask(&ANYBODY, &network(json!({"pods": 2, "qosClassName": "open"}))).is_ok());
    // What the namespace may not use is no way out.
    let too_much = network(json!({"pods": 2, "qosClassName": "open", "bandwidthPerRail": "900M"}));
    let mut unbounded = classes.clone();
    unbounded[2].spec.bandwidth.maximum = None;
    let refused = resolve(&too_much, &ANYBODY, &[fabric()], &unbounded, NO_NODES).unwrap_err();
    assert!(
        refused.to_string().ends_with("lower spec.bandwidthPerRail"),
        "{refused}"
    );

    let mut backend = fabric();
    backend.spec.allowed_namespaces = Some(allowed(json!({"tier": "prod"})));
    let alone = |tenant: &Tenant<'_>| {
        resolve(
            &of_default,
            tenant,
            std::slice::from_ref(&backend),
            &[class()],
            NO_NODES,
        )
    };
    let refused = alone(&ANYBODY).unwrap_err();
    assert_eq!(refused.reason(), "FabricNotAllowed");
    assert_eq!(
        refused.to_string(),
        "namespace team-a may not use Fabric backend, which is for namespaces with the labels tier=prod: \
         ask the platform team for it, who allow it with kubectl label namespace team-a tier=prod"
    );
    assert!(alone(&prod).is_ok());
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    let ask = |spec| resolve(&network(spec), &ANYBODY, &[fabric()], &[class()], NO_NODES).unwrap_err();
    let missing = ask(json!({"pods": 2, "fabricName": "backbone"}));
    assert_eq!(missing.reason(), "FabricNotFound");
    assert!(
        missing
            .to_string()
            .contains("\"backbone\" does not exist (there is backend)"),
        "{missing}"
    );
    assert_eq!(
        ask(json!({"pods": 2, "qosClassName": "gold"})).reason(),
        "ClassNotFound"
    );
    assert_eq!(ask(json!({"pods": 2, "rails": {"count": 3}})).reason(), "RailNotFound");
    let mut named = network(json!({"pods": 2}));
    named.spec.rails = Some(NetworkRails {
        count: None,
        names: Some(vec!["rail7".into()]),
    });
    assert_eq!(
        resolve(&named, &ANYBODY, &[fabric()], &[class()], NO_NODES)
            .unwrap_err()
            .reason(),
        "RailNotFound"
    );
}

#[test]
fn more_bandwidth_than_the_fastest_port_is_refused_with_both_numbers() {
    let node: NodeNetwork = serde_json::from_value(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": "node1"},
        "spec": {"fabricName": "backend", "vfManagement": "Managed", "mtu": 9000, "rails": []},
        "status": {"ports": [{"rail": 0, "pciAddress": "0000:01:00.0", "netdev": "eth1", "driver": "igb", "speed": "1G",
            "vfs": {"used": 0, "total": 4}, "state": "Healthy"}]},
    }))
    .unwrap();
    let mut class = class();
    class.spec.bandwidth.maximum = None;
    let refused = resolve(
        &network(json!({"pods": 2, "bandwidthPerRail": "2G"})),
        &ANYBODY,
        &[fabric()],
        &[class],
        &[node],
    )
    .unwrap_err();
    assert_eq!(refused.reason(), "BandwidthUnavailable");
    assert!(
        refused
            .to_string()
            .contains("2G per pod is more than any port of rail0 has (fastest 1G)"),
        "{refused}"
    );
}
