//! `nccl.conf`: the class's settings and the devices that ADD found, each with its origin.

use std::fmt::Write;

use railhead_plan::{AttachmentPlan, RailRecord};

/// The content of the file. `NCCL_IB_HCA` names exactly the pod's devices: in shared mode a pod sees those of others too.
pub(crate) fn nccl_conf(plan: &AttachmentPlan, rails: &[RailRecord]) -> String {
    let mut text = format!(
        "# Network {} of {}, index {} of {}.\n",
        plan.network.name, plan.pod.namespace, plan.index, plan.pods
    );
    let mut line = |origin: &str, name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = write!(text, "# {}\n{}={}\n", one_line(origin), one_line(name), one_line(value));
    };
    for setting in &plan.nccl {
        line(&setting.origin, &setting.name, &setting.value);
    }
    let devices: Vec<&str> = rails
        .iter()
        .filter_map(|rail| rail.rdma.as_ref())
        .map(|rdma| rdma.device.as_str())
        .collect();
    if !devices.is_empty() {
        // The second '=' asks NCCL for exact names; without it rxe1 would match rxe10 as well.
        line(
            "the RDMA devices of this pod's rails",
            "NCCL_IB_HCA",
            &format!("={}", devices.join(",")),
        );
    }
    text
}

/// A value never starts a line of its own.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use railhead_plan::{NcclSetting, NetworkRef, PLAN_VERSION, PodRef, RdmaRecord};

    use super::*;

    fn plan(value: &str) -> AttachmentPlan {
        AttachmentPlan {
            version: PLAN_VERSION,
            boot_id: "b".to_owned(),
            pod: PodRef {
                namespace: "ml".to_owned(),
                name: "train-0".to_owned(),
                uid: "6f1c".to_owned(),
            },
            claim_uid: "77aa".to_owned(),
            claim_name: None,
            network: NetworkRef {
                name: "train".to_owned(),
                uid: "u".to_owned(),
            },
            block: None,
            slice_name: "train-00000000".to_owned(),
            index: 1,
            pods: 2,
            rails: vec![],
            nccl_file: true,
            nccl: vec![NcclSetting {
                name: "NCCL_IB_TC".to_owned(),
                value: value.to_owned(),
                origin: "dscp 26 of QosClass roce".to_owned(),
            }],
        }
    }

    fn rail(rail: u32, device: Option<&str>) -> RailRecord {
        RailRecord {
            rail,
            name: format!("rail{rail}").parse().unwrap(),
            vf: "0000:18:00.3".parse().unwrap(),
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: 9000,
            addresses: vec![],
            vlan: None,
            max_rate_mbps: 0,
            min_rate_mbps: 0,
            spoof_check: true,
            rdma: device.map(|device| RdmaRecord {
                device: device.parse().unwrap(),
                uverbs: "/dev/infiniband/uverbs0".to_owned(),
                gid_index: 1,
                gid: String::new(),
            }),
        }
    }

    #[test]
    fn every_line_has_its_origin_above_it_and_devices_are_named_exactly() {
        let text = nccl_conf(&plan("104"), &[rail(0, Some("rxe0")), rail(1, Some("rxe1"))]);
        assert_eq!(
            text,
            "# Network train of ml, index 1 of 2.\n\
             # dscp 26 of QosClass roce\nNCCL_IB_TC=104\n\
             # the RDMA devices of this pod's rails\nNCCL_IB_HCA==rxe0,rxe1\n"
        );
    }

    #[test]
    fn without_rdma_there_is_no_device_line_and_a_value_stays_on_its_line() {
        let text = nccl_conf(&plan("104\nNCCL_DEBUG=TRACE"), &[rail(0, None)]);
        assert!(!text.contains("NCCL_IB_HCA"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
