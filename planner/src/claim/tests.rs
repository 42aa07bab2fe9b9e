use k8s_openapi::{
    api::{
        core::v1::Pod,
        resource::v1::{ResourceClaim, ResourceClaimTemplate},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::json;

use super::{consumer as consumer_of, *};
use crate::network::{
    resolve,
    tests::{ANYBODY, class, fabric, network, reserved},
};

const NO_NODES: &[railhead_crds::NodeNetwork] = &[];

fn allocated(template: &ResourceClaimTemplate) -> (ResourceClaim, Pod) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "llama-0", "namespace": "team-a", "uid": "pod-1", "labels": {"railhead.dev/network": "llama"}},
    }))
    .unwrap();
    let result = |rail: u32| {
        json!({"driver": "railhead.dev", "pool": "node1", "device": format!("rail{rail}"), "request": format!("rail{rail}"),
            "shareID": "s", "consumedCapacity": {"bandwidth": "200M", "vfs": "1"}})
    };
    let claim = serde_json::from_value(json!({
        "metadata": {"name": "llama-0-railhead-x", "namespace": "team-a", "uid": "claim-1",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "llama-0", "uid": "pod-1"}]},
        "spec": serde_json::to_value(&template.spec.spec).unwrap(),
        "status": {"reservedFor": [{"resource": "pods", "name": "llama-0", "uid": "pod-1"}],
            "allocation": {"devices": {"results": [result(1), result(0)]}}},
    }))
    .unwrap();
    (claim, pod)
}

#[test]
fn the_claim_made_from_the_template_is_accepted_with_its_rails_in_order() {
    let network = network(json!({"pods": 2}));
    let (resolved, slice) = reserved(&network);
    let (claim, pod) = allocated(&template(&network, &resolved));
    let rails = check(&claim, &pod, &network, &slice, "node1").unwrap();
    assert_eq!(
        rails.iter().map(|r| (r.rail, r.bandwidth.mbps())).collect::<Vec<_>>(),
        [(0, 200), (1, 200)]
    );
}

#[test]
fn a_tenant_cannot_slip_in_with_a_claim_of_its_own() {
    let network = network(json!({"pods": 2}));
    let (resolved, slice) = reserved(&network);
    let (good, pod) = allocated(&template(&network, &resolved));
    let refused = |change: &dyn Fn(&mut ResourceClaim, &mut Pod)| {
        let (mut claim, mut pod) = (good.clone(), pod.clone());
        change(&mut claim, &mut pod);
        check(&claim, &pod, &network, &slice, "node1").unwrap_err()
    };
    let by_hand = refused(&|c, _| c.spec.devices.as_mut().unwrap().config = None);
    assert!(matches!(by_hand, ClaimRefused::NotOurs { .. }));
    let elsewhere = refused(&|c, _| c.metadata.namespace = Some("team-b".into()));
    assert!(matches!(elsewhere, ClaimRefused::OtherNetwork { .. }));
    let shared = refused(&|c, _| {
        let status = c.status.as_mut().unwrap();
        let first = status.reserved_for.as_ref().unwrap()[0].clone();
        status.reserved_for.as_mut().unwrap().push(first);
    });
    assert!(matches!(shared, ClaimRefused::Shared { .. }));
    let unlabelled = refused(&|_, p| p.metadata.labels = None);
    assert!(matches!(unlabelled, ClaimRefused::OtherLabel { .. }));
    let less = refused(&|c, _| {
        let devices = c
            .status
            .as_mut()
            .unwrap()
            .allocation
            .as_mut()
            .unwrap()
            .devices
            .as_mut()
            .unwrap();
        let capacity = devices.results.as_mut().unwrap()[0].consumed_capacity.as_mut().unwrap();
        capacity.insert("bandwidth".into(), Quantity("1M".into()));
    });
    assert!(
        matches!(less, ClaimRefused::TooLittleBandwidth { rail: 1, .. }),
        "{less}"
    );
    let one_rail = refused(&|c, _| {
        let devices = c
            .status
            .as_mut()
            .unwrap()
            .allocation
            .as_mut()
            .unwrap()
            .devices
            .as_mut()
            .unwrap();
        devices.results.as_mut().unwrap().pop();
    });
    assert!(matches!(one_rail, ClaimRefused::OtherRails { .. }));
}

/// Names and UIDs become part of paths: to the API server, and on the node.
#[test]
fn a_claim_cannot_name_something_else_than_a_network() {
    let network = network(json!({"pods": 2}));
    let (resolved, _) = reserved(&network);
    let (good, _) = allocated(&template(&network, &resolved));
    assert!(network_of(&good).is_ok());
    for (field, text) in [
        ("network", "../../../api/v1/namespaces/kube-system/secrets/a"),
        ("network", "llama?watch=true"),
        ("network", ""),
        ("networkUID", "u/../../x"),
        ("networkUID", ""),
    ] {
        let mut claim = good.clone();
        let config = &mut claim.spec.devices.as_mut().unwrap().config.as_mut().unwrap()[0];
        config.opaque.as_mut().unwrap().parameters.0[field] = json!(text);
        let refused = network_of(&claim).unwrap_err();
        assert!(matches!(refused, ClaimRefused::NoNetwork { .. }), "{text}: {refused}");
    }
}

#[test]
fn a_claim_that_no_pod_holds_is_refused() {
    let held_by = |consumer: serde_json::Value| {
        let claim = json!({"metadata": {"name": "c", "namespace": "team-a"}, "spec": {}, "status": {"reservedFor": [consumer]}});
        consumer_of(&serde_json::from_value(claim).unwrap())
    };
    let group = json!({"apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": "g", "uid": "1"});
    assert!(held_by(group).is_err());
    assert!(held_by(json!({"resource": "pods", "name": "a/../b", "uid": "1"})).is_err());
    let pod = held_by(json!({"resource": "pods", "name": "llama-0", "uid": "1"}));
    assert_eq!(pod, Ok(("llama-0".to_owned(), "1".to_owned())));
}

#[test]
fn a_template_that_the_api_server_wrote_back_is_the_same() {
    let network = network(json!({"pods": 2, "bandwidthPerRail": "1000M"}));
    let mut class = class();
    class.spec.bandwidth.maximum = None;
    let resolved = resolve(&network, &ANYBODY, &[fabric()], &[class], NO_NODES).unwrap();
    let wanted = template(&network, &resolved);
    let mut stored = wanted.clone();
    let request = &mut stored.spec.spec.devices.as_mut().unwrap().requests.as_mut().unwrap()[0];
    let exactly = request.exactly.as_mut().unwrap();
    exactly.count = Some(1);
    exactly.allocation_mode = Some("ExactCount".into());
    exactly
        .capacity
        .as_mut()
        .unwrap()
        .requests
        .as_mut()
        .unwrap()
        .insert("bandwidth".into(), Quantity("1G".into()));
    assert!(same_template(&stored, &wanted));
    exactly_bandwidth(&mut stored, "2G");
    assert!(!same_template(&stored, &wanted));
}

fn exactly_bandwidth(template: &mut ResourceClaimTemplate, bandwidth: &str) {
    let request = &mut template.spec.spec.devices.as_mut().unwrap().requests.as_mut().unwrap()[0];
    let capacity = request.exactly.as_mut().unwrap().capacity.as_mut().unwrap();
    capacity
        .requests
        .as_mut()
        .unwrap()
        .insert("bandwidth".into(), Quantity(bandwidth.into()));
}
