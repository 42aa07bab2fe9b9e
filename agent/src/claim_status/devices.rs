//! `status.devices` of a claim: pure.

use k8s_openapi::{
    api::resource::v1::{AllocatedDeviceStatus, DeviceRequestAllocationResult, NetworkDeviceData, ResourceClaim},
    apimachinery::pkg::runtime::RawExtension,
    jiff::Timestamp,
};
use railhead_crds::{names, reasons::Reason};
use railhead_plan::{AttachmentPlan, AttachmentRecord, RailPlan, RailRecord, Vlan};
use serde_json::json;

use crate::{
    conditions::{self, Finding},
    drift::words,
};

/// The one condition of a device, by the convention of `AllocatedDeviceStatus`.
const READY: &str = "Ready";
/// The pod's sandbox is gone, or was made without this rail.
/// How many addresses an entry may have (`NetworkDeviceDataMaxIPs`, pkg/apis/resource/types.go).
const MAX_ADDRESSES: usize = 16;

/// The entries of our driver in a claim's status as they should be, one per allocated port; `None` where they are so, or where
/// there is nothing to say yet because the pod was never wired.
pub(super) fn devices(
    claim: &ResourceClaim,
    plan: &AttachmentPlan,
    record: Option<&AttachmentRecord>,
    drift: &[String],
    now: Timestamp,
) -> Option<Vec<AllocatedDeviceStatus>> {
    let status = claim.status.as_ref()?;
    let there = || {
        status
            .devices
            .iter()
            .flatten()
            .filter(|device| device.driver == names::DRIVER)
    };
    if record.is_none() && there().next().is_none() {
        return None;
    }
    let allocation = status.allocation.as_ref()?.devices.as_ref()?;
    let ours = allocation
        .results
        .iter()
        .flatten()
        .filter(|result| result.driver == names::DRIVER);
    let devices: Vec<_> = ours
        .filter_map(|result| {
            // Our own ResourceSlice named the device, so its name says the rail.
            let rail = plan
                .rails
                .iter()
                .find(|rail| names::rail_device(rail.rail) == result.device)?;
            let wired = record.and_then(|record| record.rails.iter().find(|found| found.rail == rail.rail));
            let before = there().find(|device| is_of(device, result));
            let finding = finding(plan, rail, record.is_some(), wired, drift);
            Some(device(result, wired, finding, before, now))
        })
        .collect();
    let as_there =
        devices.len() == there().count() && devices.iter().all(|device| there().any(|other| other == device));
    (!as_there).then_some(devices)
}

fn is_of(device: &AllocatedDeviceStatus, result: &DeviceRequestAllocationResult) -> bool {
    device.pool == result.pool && device.device == result.device && device.share_id == result.share_id
}

fn finding(
    plan: &AttachmentPlan,
    rail: &RailPlan,
    sandbox: bool,
    wired: Option<&RailRecord>,
    drift: &[String],
) -> Finding {
    if !sandbox {
        return Finding::no(READY, Reason::NotWired, "the pod's sandbox is gone");
    }
    if wired.is_none() {
        return Finding::no(READY, Reason::NotWired, format!("{} is not wired", rail.name));
    }
    let rails: Vec<(u32, &str)> = plan.rails.iter().map(|rail| (rail.rail, rail.name.as_str())).collect();
    let of_rail = drift
        .iter()
        .filter(|difference| words::concerns(difference, (rail.rail, rail.name.as_str()), &rails));
    match words::told(of_rail) {
        Some((reason, message)) => Finding::no(READY, reason, message),
        None => Finding::yes(
            READY,
            Reason::Wired,
            format!("{} is in pod {}", rail.name, plan.pod.name),
        ),
    }
}

fn device(
    result: &DeviceRequestAllocationResult,
    wired: Option<&RailRecord>,
    finding: Finding,
    before: Option<&AllocatedDeviceStatus>,
    now: Timestamp,
) -> AllocatedDeviceStatus {
    let previous = before
        .and_then(|device| device.conditions.as_deref())
        .unwrap_or_default();
    AllocatedDeviceStatus {
        driver: result.driver.clone(),
        pool: result.pool.clone(),
        device: result.device.clone(),
        share_id: result.share_id.clone(),
        conditions: Some(conditions::merge(previous, vec![finding], None, now)),
        data: wired.map(|rail| RawExtension(data(rail))),
        network_data: wired.map(network_data),
    }
}

/// As the kernel reported it when the pod was wired.
fn network_data(rail: &RailRecord) -> NetworkDeviceData {
    let addresses: Vec<String> = rail
        .addresses
        .iter()
        .take(MAX_ADDRESSES)
        .map(ToString::to_string)
        .collect();
    NetworkDeviceData {
        interface_name: Some(rail.name.to_string()),
        hardware_address: Some(rail.mac.to_string()),
        ips: (!addresses.is_empty()).then_some(addresses),
    }
}

/// What only Railhead knows. An absent key is one that does not apply.
fn data(rail: &RailRecord) -> serde_json::Value {
    let mut data = json!({ "rail": rail.rail, "vf": rail.vf.to_string(), "mtu": rail.mtu });
    if let Some(vlan) = rail.vlan.map(Vlan::id) {
        data["vlan"] = vlan.into();
    }
    if let Some(rdma) = &rail.rdma {
        data["rdmaDevice"] = rdma.device.to_string().into();
        data["gidIndex"] = rdma.gid_index.into();
    }
    data
}

#[cfg(test)]
mod tests {
    use railhead_plan::RdmaRecord;
    use serde_json::Value;

    use super::*;
    use crate::claims::plans::tests::plan;

    fn wired(plan: &AttachmentPlan) -> AttachmentRecord {
        let rails = plan.rails.iter().map(|rail| RailRecord {
            rail: rail.rail,
            name: rail.name.clone(),
            vf: rail.vf.pci_address.clone(),
            mac: rail.mac,
            mtu: rail.mtu,
            addresses: rail.addresses.clone(),
            vlan: rail.vf.vlan,
            max_rate_mbps: 400,
            min_rate_mbps: 0,
            spoof_check: true,
            rdma: Some(RdmaRecord {
                device: "rxe0".parse().unwrap(),
                uverbs: "/dev/infiniband/uverbs0".to_owned(),
                gid_index: 1,
                gid: "::ffff:10.0.64.5".to_owned(),
            }),
        });
        AttachmentRecord {
            version: 1,
            container_id: "c1".to_owned(),
            pod: plan.pod.clone(),
            network: plan.network.clone(),
            slice_name: plan.slice_name.clone(),
            index: plan.index,
            pods: plan.pods,
            wired_in_ms: 310,
            rails: rails.collect(),
        }
    }

    /// A claim on two ports of ours and one device of somebody else.
    fn claim(devices: &Value) -> ResourceClaim {
        let ours = |rail: u32| {
            json!({
                "driver": "railhead.dev", "pool": "gpu-1", "device": format!("rail{rail}"), "request": format!("rail{rail}"),
                "shareID": format!("00000000-0000-4000-8000-00000000000{rail}"),
            })
        };
        let gpu = json!({"driver": "gpu.example.com", "pool": "gpu-1", "device": "gpu0", "request": "gpu"});
        serde_json::from_value(json!({
            "metadata": {"name": "llama-5-railhead", "namespace": "team-a", "uid": "claim-u"},
            "spec": {},
            "status": {"allocation": {"devices": {"results": [gpu, ours(0), ours(1)]}}, "devices": devices},
        }))
        .unwrap()
    }

    fn told(devices: &[AllocatedDeviceStatus]) -> Vec<(String, String, String)> {
        let condition = |device: &AllocatedDeviceStatus| device.conditions.as_ref().unwrap()[0].clone();
        devices
            .iter()
            .map(|device| {
                let ready = condition(device);
                assert_eq!(ready.type_, "Ready");
                (ready.status, ready.reason, ready.message)
            })
            .collect()
    }

    fn gpu_status() -> Value {
        json!({"driver": "gpu.example.com", "pool": "gpu-1", "device": "gpu0"})
    }

    #[test]
    fn a_wired_pods_claim_says_interface_addresses_and_mac_of_every_rail_and_nothing_of_others() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let now = Timestamp::now();
        let bare = claim(&json!([gpu_status()]));
        assert_eq!(devices(&bare, &plan, None, &[], now), None, "never wired");
        let record = wired(&plan);
        let written = devices(&bare, &plan, Some(&record), &[], now).unwrap();
        assert_eq!(
            serde_json::to_value(&written[1]).unwrap(),
            json!({
                "driver": "railhead.dev", "pool": "gpu-1", "device": "rail1", "shareID": "00000000-0000-4000-8000-000000000001",
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Wired", "message": "rail1 is in pod llama-5",
                    "lastTransitionTime": serde_json::to_value(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)).unwrap(),
                }],
                "networkData": {"interfaceName": "rail1", "ips": ["10.1.64.5/16"], "hardwareAddress": "02:00:00:00:00:01"},
                "data": {"rail": 1, "vf": "0000:02:10.0", "mtu": 9000, "vlan": 1012, "rdmaDevice": "rxe0", "gidIndex": 1},
            })
        );
        assert_eq!(written.len(), 2, "the GPU is its own driver's to tell of");
        let later = now + k8s_openapi::jiff::SignedDuration::from_secs(60);
        let mut there = vec![gpu_status()];
        there.extend(written.iter().rev().map(|device| serde_json::to_value(device).unwrap()));
        let written = claim(&Value::Array(there));
        assert_eq!(
            devices(&written, &plan, Some(&record), &[], later),
            None,
            "written once"
        );
    }

    #[test]
    fn the_rail_that_differs_is_not_ready_with_the_attachments_reason_and_the_other_one_is() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let (record, now) = (wired(&plan), Timestamp::UNIX_EPOCH);
        let first = devices(&claim(&json!([])), &plan, Some(&record), &[], now).unwrap();
        let there = |devices: &[AllocatedDeviceStatus]| claim(&serde_json::to_value(devices).unwrap());
        let drift = ["rail1: it has no carrier", "rail1: its MTU is 1500 and not 9000"].map(str::to_owned);
        let later = Timestamp::now();
        let pulled = devices(&there(&first), &plan, Some(&record), &drift, later).unwrap();
        let of = |text: [&str; 3]| (text[0].to_owned(), text[1].to_owned(), text[2].to_owned());
        assert_eq!(
            told(&pulled),
            [
                of(["True", "Wired", "rail0 is in pod llama-5"]),
                of(["False", "RailDown", "rail1: it has no carrier (and 1 more)"]),
            ]
        );
        assert_eq!(pulled[0], first[0], "its time has not changed either");
        assert_eq!(
            pulled[1].network_data, first[1].network_data,
            "it is the pod's all the same"
        );
        let again = devices(&there(&pulled), &plan, Some(&record), &[], later).unwrap();
        assert_eq!(told(&again), told(&first));
        let moved = devices(
            &there(&pulled),
            &plan,
            Some(&record),
            &["rail0: its MTU is 1500".to_owned()],
            later,
        )
        .unwrap();
        assert_eq!(told(&moved)[0].1, "Drifted");
        assert_eq!(told(&moved)[1].1, "Wired");
    }

    #[test]
    fn a_sandbox_that_is_gone_leaves_no_address_that_somebody_could_take_for_living() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let (mut record, now) = (wired(&plan), Timestamp::UNIX_EPOCH);
        let first = devices(&claim(&json!([])), &plan, Some(&record), &[], now).unwrap();
        let there = claim(&serde_json::to_value(&first).unwrap());
        let gone = devices(&there, &plan, None, &[], now).unwrap();
        assert!(
            told(&gone)
                .iter()
                .all(|(ready, reason, _)| ready == "False" && reason == "NotWired")
        );
        assert!(
            gone.iter()
                .all(|device| device.network_data.is_none() && device.data.is_none())
        );
        record.rails.pop();
        let half = devices(&there, &plan, Some(&record), &[], now).unwrap();
        assert_eq!(told(&half)[1].2, "rail1 is not wired");
        assert_eq!(half[0], first[0]);
    }

    #[test]
    fn a_claim_without_allocation_gets_nothing_and_one_with_too_many_addresses_no_more_than_it_may_have() {
        let mut plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        plan.rails[0].addresses = (0..40).map(|n| format!("10.0.64.{n}/16").parse().unwrap()).collect();
        let (record, now) = (wired(&plan), Timestamp::now());
        let mut claim = claim(&json!([]));
        let written = devices(&claim, &plan, Some(&record), &[], now).unwrap();
        assert_eq!(
            written[0].network_data.as_ref().unwrap().ips.as_ref().unwrap().len(),
            16
        );
        claim.status.as_mut().unwrap().allocation = None;
        assert_eq!(devices(&claim, &plan, Some(&record), &[], now), None);
    }
}
