//! The RDMA device of a VF is whatever the VF has when the pod is wired. The kernel is real but for RDMA, of which a tree of
//! files tells what a node with ConnectX ports shows below /sys (`<vf>/infiniband`, `class/infiniband`, `class/infiniband_verbs`).

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{fs, path::Path};

use node::{CLAIM_UID, Node, POD_UID, Sandbox, StandIn, answer, call, on_a_node, plan, succeeded};
use railhead_plan::{AttachmentPlan, AttachmentRecord, RdmaPlan, Versioned};
use serde_json::{Value, json};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Shows an RDMA device of a VF, as the driver mlx5_ib would make it.
fn show(node: &Node, vf: &StandIn, device: &str, uverbs: &str) {
    let sysfs = node.layout().sysfs();
    let pci = sysfs.join("bus/pci/devices").join(vf.pci_address.as_str());
    fs::create_dir_all(pci.join("infiniband").join(device)).unwrap();
    let port = sysfs.join("class/infiniband").join(device).join("ports/1");
    write(&port.join("state"), "4: ACTIVE\n");
    write(&port.join("gids/3"), "0000:0000:0000:0000:0000:ffff:0a00:0007\n");
    write(&port.join("gid_attrs/types/3"), "RoCE v2\n");
    write(
        &sysfs.join("class/infiniband_verbs").join(uverbs).join("ibdev"),
        &format!("{device}\n"),
    );
}

fn hide(node: &Node, vf: &StandIn, device: &str, uverbs: &str) {
    let sysfs = node.layout().sysfs();
    let pci = sysfs.join("bus/pci/devices").join(vf.pci_address.as_str());
    fs::remove_dir_all(pci.join("infiniband").join(device)).unwrap();
    fs::remove_dir_all(sysfs.join("class/infiniband").join(device)).unwrap();
    fs::remove_dir_all(sysfs.join("class/infiniband_verbs").join(uverbs)).unwrap();
}

/// The plan and the CDI spec as Prepare leaves them when the VF's device is `mlx5_9` with `uverbs9`.
fn prepare(node: &Node) -> AttachmentPlan {
    let mut plan = plan(&[0]);
    plan.rails[0].rdma = RdmaPlan::Function {
        device: "mlx5_9".parse().unwrap(),
    };
    node.write_plan(&plan);
    let spec = json!({"cdiVersion": "0.6.0", "kind": "railhead.dev/rail", "devices": [{
        "name": CLAIM_UID,
        "containerEdits": {"env": ["A=b"], "deviceNodes": [{"path": "/dev/infiniband/uverbs9"}]}
    }]});
    write(&node.layout().cdi_spec(CLAIM_UID), &spec.to_string());
    plan
}

fn device_nodes(node: &Node) -> Value {
    let spec: Value = serde_json::from_slice(&fs::read(node.layout().cdi_spec(CLAIM_UID)).unwrap()).unwrap();
    spec["devices"][0]["containerEdits"]["deviceNodes"].clone()
}

#[test]
fn a_device_that_was_renamed_since_the_pod_was_prepared_is_found_by_its_vf() {
    on_a_node(|node| {
        let vf = node.add_function(0);
        prepare(node);
        // What udev makes of mlx5_9; and mlx5_9 is somebody else's by now.
        show(node, &vf, "rocep24s0f0v3", "uverbs4");
        let other = node.add_function(1);
        show(node, &other, "mlx5_9", "uverbs9");
        let sandbox = Sandbox::new("c1");
        let added = call(&node.context(), "ADD", &sandbox);
        succeeded(&added);
        assert!(
            added.log.iter().any(|line| line.contains("rocep24s0f0v3")),
            "{:?}",
            added.log
        );

        let record = AttachmentRecord::parse(&fs::read(node.layout().record(POD_UID)).unwrap()).unwrap();
        let rdma = record.rails[0].rdma.as_ref().unwrap();
        assert_eq!(
            (rdma.device.as_str(), rdma.uverbs.as_str()),
            ("rocep24s0f0v3", "/dev/infiniband/uverbs4")
        );
        assert_eq!(rdma.gid_index, 3);
        assert_eq!(
            device_nodes(node),
            json!([{"path": "/dev/infiniband/uverbs4"}]),
            "the other pod's device is not handed out"
        );
        let nccl = fs::read_to_string(node.layout().nccl_conf(POD_UID)).unwrap();
        assert!(nccl.contains("\nNCCL_IB_GID_INDEX=3\n"), "{nccl}");
        assert!(nccl.contains("NCCL_IB_HCA==rocep24s0f0v3\n"), "{nccl}");
        let folder = node.layout().attachment(POD_UID);
        let ucx = fs::read_to_string(folder.join("ucx.conf")).unwrap();
        assert!(
            ucx.contains("\nUCX_NET_DEVICES=rocep24s0f0v3:1\n") && ucx.contains("\nUCX_IB_GID_INDEX=3\n"),
            "{ucx}"
        );
        assert!(!ucx.contains("DGID_CHECK"), "it is hardware: {ucx}");
        let env = fs::read_to_string(folder.join("env")).unwrap();
        assert!(env.contains("\nNVSHMEM_IB_GID_INDEX=3\n"), "{env}");
        succeeded(&call(&node.context(), "CHECK", &sandbox));

        succeeded(&call(&node.context(), "DEL", &sandbox));
        vf.assert_at_home("after DEL");
        hide(node, &vf, "rocep24s0f0v3", "uverbs4");
        show(node, &vf, "rocep24s0f0v3", "uverbs5");
        succeeded(&call(&node.context(), "ADD", &Sandbox::new("c2")));
        assert_eq!(
            device_nodes(node),
            json!([{"path": "/dev/infiniband/uverbs5"}]),
            "what the sandbox before had is not handed out"
        );
    });
}

#[test]
fn a_device_that_its_driver_made_anew_under_a_running_pod_is_noticed() {
    on_a_node(|node| {
        let vf = node.add_function(0);
        prepare(node);
        show(node, &vf, "mlx5_9", "uverbs9");
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        succeeded(&call(&node.context(), "CHECK", &sandbox));

        hide(node, &vf, "mlx5_9", "uverbs9");
        show(node, &vf, "mlx5_9", "uverbs2");
        let error = answer(&call(&node.context(), "CHECK", &sandbox));
        assert_eq!(error["code"], 101);
        assert!(
            error["msg"].as_str().unwrap().contains("/dev/infiniband/uverbs2"),
            "{error}"
        );

        hide(node, &vf, "mlx5_9", "uverbs2");
        let other = node.add_function(1);
        show(node, &other, "mlx5_9", "uverbs9");
        let error = answer(&call(&node.context(), "CHECK", &sandbox));
        assert!(
            error["msg"]
                .as_str()
                .unwrap()
                .contains("mlx5_9 is none of VF 0000:18:00.3"),
            "the same names, and another pod's device: {error}"
        );
    });
}

#[test]
fn a_vf_without_an_rdma_device_is_named() {
    on_a_node(|node| {
        let vf = node.add_function(0);
        prepare(node);
        let failed = call(&node.context(), "ADD", &Sandbox::new("c1"));
        let error = answer(&failed);
        assert!(
            error["msg"]
                .as_str()
                .unwrap()
                .contains("VF 0000:18:00.3 has no RDMA device"),
            "{error}"
        );
        vf.assert_at_home("after a failed ADD");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}
