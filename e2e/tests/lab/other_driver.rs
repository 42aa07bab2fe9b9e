//! A pod whose rails would be there and whose other device is not.

use anyhow::{Result, ensure};
use railhead_e2e::cluster::PATIENCE_FLAG;
use serde_json::{Value, json};

use crate::{
    jobs,
    pods::pods,
    world::{TEAM_B, World},
};

/// A driver that offers a device and has no plugin on any node.
const DRIVER: &str = "fake.example.com";
const NETWORK: &str = "beside";

/// kubelet asks no driver for anything before it knows all of a pod's drivers (`prepareResources`, pkg/kubelet/cm/dra/manager.go,
/// 1.36), so the pod holds no index and no VF, can be deleted, and keeps nobody from its place.
pub(crate) fn a_pod_whose_other_driver_is_missing_holds_nothing_and_ends(world: &World) -> Result<()> {
    let lab = &world.lab;
    let result = stuck(world);
    // Whatever became of it, no later test is offered the device.
    let cluster = [format!("deviceclass/{DRIVER}"), format!("resourceslice/{DRIVER}")];
    let template = [
        "delete",
        "-n",
        TEAM_B,
        "resourceclaimtemplate/fake",
        "--ignore-not-found",
    ];
    let cluster = lab.kubectl(&["delete", &cluster[0], &cluster[1], "--ignore-not-found"]);
    let template = lab.kubectl(&template);
    result?;
    cluster?.ok()?;
    template?.ok()?;
    world.clear(TEAM_B)
}

fn stuck(world: &World) -> Result<()> {
    let lab = &world.lab;
    for object in offer() {
        world.apply(TEAM_B, &object)?;
    }
    world.apply(TEAM_B, &jobs::network(NETWORK, 1))?;
    lab.wait_condition(&["tnet", "-n", TEAM_B, NETWORK], "Reserved", "True")?;
    let mut pod = jobs::pod("stuck", Some(NETWORK), "node1");
    pod["spec"]["resourceClaims"] = json!([{"name": "fake", "resourceClaimTemplateName": "fake"}]);
    pod["spec"]["containers"][0]["resources"] = json!({"claims": [{"name": "fake"}]});
    world.apply(TEAM_B, &pod)?;
    lab.wait_event(TEAM_B, "Pod", "stuck", &["FailedPrepareDynamicResources", DRIVER])?;
    let attachments = lab.list(&["networkattachments", "-n", TEAM_B])?;
    ensure!(attachments.is_empty(), "it holds {attachments:?}");
    // The network has one index, and the next pod gets it while this one is still there.
    world.apply(TEAM_B, &jobs::pod("next", Some(NETWORK), "node1"))?;
    world.wait_running(TEAM_B, "next")?;
    let deleted = lab.kubectl(&["delete", "-n", TEAM_B, "pod/stuck", PATIENCE_FLAG])?;
    deleted.ok()?;
    pods(lab, TEAM_B, NETWORK, 1).map(drop)
}

/// What such a driver and its administrator make.
fn offer() -> [Value; 3] {
    let selector = format!("device.driver == \"{DRIVER}\"");
    [
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": DRIVER},
            "spec": {"selectors": [{"cel": {"expression": selector}}]},
        }),
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": DRIVER},
            "spec": {
                "driver": DRIVER, "nodeName": "node1",
                "pool": {"name": "fake", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "device"}],
            },
        }),
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "fake"},
            "spec": {"spec": {"devices": {"requests": [{"name": "device", "exactly": {"deviceClassName": DRIVER}}]}}},
        }),
    ]
}
