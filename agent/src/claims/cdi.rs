//! The CDI spec of a claim: what the container runtime adds to the pod's containers.
//!
//! Final when Prepare answers, but for the character devices of software RoCE, which exist only after ADD.

use railhead_host::{DurableError, InterfaceName, RdmaName, SysfsError, read_state_file, replace};
use railhead_plan::{
    AttachmentPlan, AttachmentRecord, Layout, NCCL_CONF, NCCL_CONF_FILE, PEERS_FILE, POD_FOLDER, RdmaPlan,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

use crate::agent::Agent;

/// Kind of all CDI devices.
const KIND: &str = "railhead.dev/rail";
/// The oldest CDI version that has everything used here.
const VERSION: &str = "0.6.0";
/// The connection manager's device, needed by every RDMA program beside its uverbs device.
const RDMA_CM: &str = "/dev/infiniband/rdma_cm";

/// Why a spec could not be written or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum CdiError {
    /// The folder could not be made.
    #[error("make the CDI folder {path}: {source}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Sysfs could not be read.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The RDMA device has no character device.
    #[error("rail {rail}: RDMA device {device} has no character device; load the module ib_uverbs on the node")]
    NoUverbs {
        /// Rail name.
        rail: InterfaceName,
        /// RDMA device.
        device: RdmaName,
    },
    /// The file could not be written or removed.
    #[error("CDI spec: {0}")]
    File(#[from] DurableError),
}

/// The fully qualified name of a claim's CDI device.
pub(crate) fn device_id(claim_uid: &str) -> String {
    format!("{KIND}={claim_uid}")
}

/// The spec of a plan on this node: with the character devices that the pod's functions have, or that ADD has made.
pub(crate) fn of_plan(agent: &Agent, plan: &AttachmentPlan) -> Result<Value, CdiError> {
    let uverbs = match wired(&agent.layout, &plan.pod.uid) {
        Some(uverbs) => uverbs,
        None => own_uverbs(agent, plan)?,
    };
    Ok(spec(&agent.layout, plan, &uverbs, &agent.cni_binary))
}

/// The character devices of a wired pod, which ADD has seen.
fn wired(layout: &Layout, pod_uid: &str) -> Option<Vec<String>> {
    let record: AttachmentRecord = railhead_store::read(&layout.record(pod_uid)).ok()?;
    Some(
        record
            .rails
            .into_iter()
            .filter_map(|rail| Some(rail.rdma?.uverbs))
            .collect(),
    )
}

/// The character devices of the functions' own RDMA devices.
fn own_uverbs(agent: &Agent, plan: &AttachmentPlan) -> Result<Vec<String>, CdiError> {
    let sysfs = agent.sysfs();
    let mut uverbs = Vec::new();
    for rail in &plan.rails {
        if let RdmaPlan::Function { device } = &rail.rdma {
            let node = sysfs.uverbs(device.as_str())?;
            uverbs.push(node.ok_or_else(|| CdiError::NoUverbs {
                rail: rail.name.clone(),
                device: device.clone(),
            })?);
        }
    }
    Ok(uverbs)
}

/// The spec of a plan. `uverbs` are the character devices of the functions' own RDMA devices, `cni_binary` is where the
/// host has the CNI binary.
fn spec(layout: &Layout, plan: &AttachmentPlan, uverbs: &[String], cni_binary: &Path) -> Value {
    let mut mounts = vec![mount(&layout.attachment(&plan.pod.uid), POD_FOLDER)];
    let mut env = vec![
        format!("RAILHEAD_NETWORK={}", plan.network.name),
        format!("RAILHEAD_INDEX={}", plan.index),
        format!("RAILHEAD_PODS={}", plan.pods),
    ];
    if !wired_without_peers(layout, &plan.pod.uid) {
        env.push(format!("RAILHEAD_PEERS={POD_FOLDER}/{PEERS_FILE}"));
    }
    if plan.nccl_file && !plan.nccl_by_variable {
        mounts.push(mount(&layout.nccl_conf(&plan.pod.uid), NCCL_CONF));
    }
    // A variable of a spec replaces the container's own, so none is named here that somebody sets, or that a library reads before
    // its files.
    if plan.nccl_file && plan.nccl_by_variable && !plan.sets(NCCL_CONF_FILE) {
        env.push(format!("{NCCL_CONF_FILE}={POD_FOLDER}/nccl.conf"));
    }
    let mut edits = json!({
        "env": env,
        "mounts": mounts,
        "hooks": [container_hook(cni_binary, &plan.pod.uid)],
    });
    if !uverbs.is_empty() {
        let nodes: Vec<Value> = uverbs
            .iter()
            .map(String::as_str)
            .chain(rdma_cm(layout))
            .map(|path| json!({ "path": path }))
            .collect();
        edits["deviceNodes"] = Value::Array(nodes);
    }
    json!({
        "cdiVersion": VERSION,
        "kind": KIND,
        "devices": [{ "name": plan.claim_uid, "containerEdits": edits }],
    })
}

/// Whether the pod was wired by a CNI binary of a release that left no list of peers.
fn wired_without_peers(layout: &Layout, pod_uid: &str) -> bool {
    let folder = layout.attachment(pod_uid);
    folder.exists() && !folder.join(PEERS_FILE).exists()
}

/// Lets the containers that hold the device lock memory, which RDMA programs cannot do without, and keeps one from starting
/// with an RDMA device that is another pod's by now. `args` begin with the program's name, as for execv.
fn container_hook(cni_binary: &Path, pod_uid: &str) -> Value {
    json!({
        "hookName": "createRuntime",
        "path": cni_binary,
        "args": ["railhead", "container-hook", pod_uid],
    })
}

/// The connection manager's device where the node has one: a spec that names a device which is not there keeps every container of
/// the pod from being created.
fn rdma_cm(layout: &Layout) -> Option<&'static str> {
    let there = railhead_host::Sysfs::new(layout.sysfs()).has_rdma_cm();
    there.then_some(RDMA_CM)
}

fn mount(source: &Path, target: &str) -> Value {
    json!({
        "hostPath": source,
        "containerPath": target,
        "options": ["ro", "nosuid", "nodev", "bind"],
    })
}

/// A claim's spec as it is; `None` if there is none that can be read.
pub(crate) fn read(layout: &Layout, claim_uid: &str) -> Option<Value> {
    let bytes = read_state_file(&layout.cdi_spec(claim_uid)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The devices that a spec hands out.
pub(crate) fn nodes(spec: &Value) -> BTreeSet<&str> {
    let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array();
    nodes
        .into_iter()
        .flatten()
        .filter_map(|node| node["path"].as_str())
        .collect()
}

/// Writes a claim's spec by rename, so that the runtime never reads half of it.
pub(crate) fn write(layout: &Layout, claim_uid: &str, spec: &Value) -> Result<(), CdiError> {
    let folder = layout.cdi();
    fs::create_dir_all(&folder).map_err(|source| CdiError::Folder { path: folder, source })?;
    // Not secret, and read by tools that run as other users.
    Ok(replace(
        &layout.cdi_spec(claim_uid),
        spec.to_string().as_bytes(),
        0o644,
    )?)
}

/// Removes a claim's spec; an absent one is fine. One that a power cut brings back has no plan, and the collector removes it.
pub(crate) fn remove(layout: &Layout, claim_uid: &str) -> Result<(), CdiError> {
    Ok(railhead_host::remove(&layout.cdi_spec(claim_uid))?)
}

#[cfg(test)]
mod tests {
    use railhead_plan::ContainerVariable;

    use super::*;
    use crate::claims::plans::tests::plan;

    #[test]
    fn a_pod_gets_its_place_and_sources_that_only_add_makes() {
        let layout = Layout::default();
        let plan = plan("uid-1", "boot", ["0000:18:00.3", "0000:19:00.3"]);
        let spec = spec(&layout, &plan, &[], Path::new("/opt/cni/bin/railhead"));
        let edits = &spec["devices"][0]["containerEdits"];
        assert_eq!(spec["devices"][0]["name"], "claim-uid-1");
        assert_eq!(device_id("claim-uid-1"), "railhead.dev/rail=claim-uid-1");
        assert_eq!(edits["env"][1], "RAILHEAD_INDEX=5");
        assert_eq!(edits["env"][3], "RAILHEAD_PEERS=/run/railhead/hosts");
        assert_eq!(edits["mounts"][0]["hostPath"], "/run/railhead/attachments/uid-1");
        assert_eq!(edits["mounts"][1]["containerPath"], "/etc/nccl.conf");
        assert!(edits.get("deviceNodes").is_none(), "ADD adds them for software RoCE");
        assert_eq!(
            edits["hooks"],
            json!([{
                "hookName": "createRuntime",
                "path": "/opt/cni/bin/railhead",
                "args": ["railhead", "container-hook", "uid-1"]
            }])
        );
    }

    #[test]
    fn hardware_rdma_is_in_the_spec_from_the_start_and_nccl_conf_only_on_request() {
        let mut plan = plan("uid-1", "boot", ["0000:18:00.3", "0000:19:00.3"]);
        plan.nccl_file = false;
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let uverbs = ["/dev/infiniband/uverbs3".to_owned()];
        let nodes = || {
            let spec = spec(&layout, &plan, &uverbs, Path::new("/opt/cni/bin/railhead"));
            let edits = &spec["devices"][0]["containerEdits"];
            assert_eq!(edits["mounts"].as_array().unwrap().len(), 1);
            edits["deviceNodes"].clone()
        };
        assert_eq!(
            nodes(),
            json!([{"path": "/dev/infiniband/uverbs3"}]),
            "rdma_ucm is not loaded"
        );
        fs::create_dir_all(layout.sysfs().join("class/misc/rdma_cm")).unwrap();
        assert_eq!(
            nodes(),
            json!([{"path": "/dev/infiniband/uverbs3"}, {"path": "/dev/infiniband/rdma_cm"}])
        );
    }

    #[test]
    fn an_images_own_nccl_conf_is_left_where_ours_is_named_by_a_variable_that_nobody_else_sets() {
        let mut plan = plan("uid-1", "boot", ["0000:18:00.3", "0000:19:00.3"]);
        plan.nccl_by_variable = true;
        let edits = |plan: &AttachmentPlan| {
            let spec = spec(&Layout::default(), plan, &[], Path::new("/opt/cni/bin/railhead"));
            spec["devices"][0]["containerEdits"].clone()
        };
        let named = json!("NCCL_CONF_FILE=/run/railhead/nccl.conf");
        let made = edits(&plan);
        assert!(made["env"].as_array().unwrap().contains(&named), "{made}");
        assert_eq!(made["mounts"].as_array().unwrap().len(), 1, "{made}");
        plan.nccl_environment = vec![ContainerVariable {
            container: "train".to_owned(),
            name: NCCL_CONF_FILE.to_owned(),
            value: None,
        }];
        assert!(!edits(&plan)["env"].as_array().unwrap().contains(&named), "theirs wins");
        plan.nccl_environment.clear();
        plan.nccl_file = false;
        let alone = edits(&plan);
        assert!(!alone["env"].as_array().unwrap().contains(&named), "{alone}");
    }

    #[test]
    fn a_pod_that_an_older_binary_wired_is_told_of_no_file_that_is_not_there() {
        let plan = plan("uid-1", "boot", ["0000:18:00.3", "0000:19:00.3"]);
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let has_peers = || {
            let spec = spec(&layout, &plan, &[], Path::new("/opt/cni/bin/railhead"));
            spec.to_string().contains("RAILHEAD_PEERS=/run/railhead/hosts")
        };
        assert!(has_peers(), "ADD will leave it");
        fs::create_dir_all(layout.attachment("uid-1")).unwrap();
        assert!(!has_peers());
        fs::write(layout.attachment("uid-1").join("hosts"), "").unwrap();
        assert!(has_peers());
    }

    #[test]
    fn removing_is_fine_without_a_spec_and_without_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        remove(&layout, "claim").unwrap();
        write(&layout, "claim", &json!({})).unwrap();
        remove(&layout, "claim").unwrap();
        assert!(!layout.cdi_spec("claim").exists());
    }
}
