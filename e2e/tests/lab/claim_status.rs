//! What the claims of pods say that their pods got.

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{eventually, text},
    evidence::RailInPod,
    lab::Lab,
};
use serde_json::{Value, json};

/// What a pod's claim says of the rail called `rail`: the entry of the port that the scheduler gave the pod.
pub(crate) fn device(lab: &Lab, namespace: &str, pod: &str, rail: &str) -> Result<Value> {
    let claims = lab.list(&["resourceclaims", "-n", namespace])?;
    let its = claims.iter().find(|claim| {
        let owners = claim["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["name"] == pod)
    });
    let claim = its.with_context(|| format!("{pod} has no claim"))?;
    let devices = claim["status"]["devices"].as_array().cloned().unwrap_or_default();
    let named = devices.iter().find(|device| device["device"] == rail).cloned();
    named.with_context(|| {
        format!(
            "its claim says of {rail} nothing; status.devices: {}",
            Value::Array(devices)
        )
    })
}

/// Waits until the claims of a pod say interface, addresses and MAC address as they are inside it.
pub(crate) fn wait_told(lab: &Lab, namespace: &str, pod: &str, rails: &[RailInPod]) -> Result<()> {
    eventually(&format!("the claim of {pod} says what it got"), || {
        for rail in rails {
            let device = device(lab, namespace, pod, &rail.name)?;
            let network = json!({"interfaceName": rail.name, "ips": [rail.address], "hardwareAddress": rail.mac});
            ensure!(device["driver"] == "railhead.dev", "it says {device}");
            ensure!(device["networkData"] == network, "{network} is not in {device}");
            ensure!(
                device["data"]["rdmaDevice"] == rail.rdma_device.as_str(),
                "it says {device}"
            );
            ensure!(device["data"]["gidIndex"] == rail.gid_index, "it says {device}");
            ensure!(ready(&device).0 == "True", "it says {device}");
        }
        Ok(())
    })
}

/// Status and `reason: message` of a device's condition Ready.
pub(crate) fn ready(device: &Value) -> (String, String) {
    let conditions = device["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    let ready = ready.cloned().unwrap_or_default();
    let why = format!("{}: {}", text(&ready["reason"]), text(&ready["message"]));
    (text(&ready["status"]), why)
}
