//! A plan and rails, for the tests of the files.

use railhead_plan::{
    AttachmentPlan, NcclSetting, NetworkRef, PLAN_VERSION, PodRef, RailPlan, RailRecord, RdmaPlan, RdmaRecord,
    TrafficClass, VfPlan,
};

/// Index 1 of 2, with no rails planned.
pub(super) fn plan() -> AttachmentPlan {
    AttachmentPlan {
        version: PLAN_VERSION,
        boot_id: "b".to_owned(),
        pod: PodRef {
            namespace: "ml".to_owned(),
            name: "train-1".to_owned(),
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
        nccl_by_variable: false,
        nccl: vec![NcclSetting {
            name: "NCCL_IB_TC".to_owned(),
            value: "104".to_owned(),
            origin: "QosClass roce: DSCP 26 times 4".to_owned(),
        }],
        nccl_environment: vec![],
        traffic_class: Some(TrafficClass {
            value: 104,
            origin: "QosClass roce: DSCP 26 times 4".to_owned(),
        }),
    }
}

/// A wired rail, with an RDMA device and the index of its GID.
pub(super) fn rail(rail: u32, rdma: Option<(&str, u32)>) -> RailRecord {
    RailRecord {
        rail,
        name: format!("rail{rail}").parse().unwrap(),
        vf: format!("0000:18:{rail:02x}.3").parse().unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 9000,
        addresses: vec![format!("10.{rail}.64.1/16").parse().unwrap()],
        vlan: None,
        max_rate_mbps: 0,
        min_rate_mbps: 0,
        spoof_check: true,
        rdma: rdma.map(|(device, gid_index)| RdmaRecord {
            device: device.parse().unwrap(),
            uverbs: "/dev/infiniband/uverbs0".to_owned(),
            gid_index,
            gid: String::new(),
        }),
    }
}

/// What is planned for a rail with a soft-RoCE device; this pod's address is the second of its block.
pub(super) fn soft_rail_plan(rail: u32) -> RailPlan {
    RailPlan {
        rail,
        name: format!("rail{rail}").parse().unwrap(),
        vf: VfPlan {
            pci_address: format!("0000:18:{rail:02x}.3").parse().unwrap(),
            pf_pci_address: format!("0000:18:{rail:02x}.0").parse().unwrap(),
            index: 2,
            vlan: None,
            max_rate_mbps: 0,
            min_rate_mbps: 0,
            spoof_check: true,
            trust: false,
        },
        mac: "02:00:00:00:00:01".parse().unwrap(),
        mtu: 9000,
        addresses: vec![format!("10.{rail}.64.1/16").parse().unwrap()],
        on_link: vec![],
        gateway: None,
        table: 1000 + rail,
        rdma: RdmaPlan::Soft {
            device: format!("rxe{rail}").parse().unwrap(),
        },
    }
}
