//! Workloads on hollow nodes: the API server, its controllers and scheduler, the operator, agents and CNI binaries are all real;
//! ports are stand-ins. Nobody writes an agent's objects by hand here.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use railhead_e2e::control_plane::hollow::HollowNode;
use serde_json::{Value, json};

use crate::World;
use crate::networks::{ledger_is_empty, reserved};
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Nodes of one fabric, with the folders that stand for their disks.
pub(crate) struct HollowFabric<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: &'static str,
    pub(crate) namespace: String,
    identities: BTreeMap<String, SimulatedNode>,
    /// They end before their disks go.
    nodes: Vec<HollowNode>,
    disks: tempfile::TempDir,
}

impl<'a> HollowFabric<'a> {
    /// A fabric with so many nodes of two 1G ports, which have all joined.
    pub(crate) fn new(world: &'a World, name: &'static str, nodes: usize) -> Result<Self> {
        let cluster = &world.cluster;
        let mut fabric = samples::fabric(name);
        fabric["spec"]["linkType"] = json!("Ethernet");
        for rail in 0..2 {
            fabric["spec"]["rails"][rail]["ports"][0]["pciAddress"] = json!(format!("0000:1{rail}:00.0"));
        }
        cluster.create(&cluster.admin(), &[fabric])?;
        let mut made = Self {
            world,
            name,
            namespace: cluster.namespace(name)?,
            disks: tempfile::tempdir()?,
            identities: BTreeMap::new(),
            nodes: Vec::new(),
        };
        for number in 0..nodes {
            let node = format!("{name}-{number}");
            let identity = SimulatedNode::add(cluster, &node, name)?;
            made.identities.insert(node.clone(), identity);
            let running = made.start(&node)?;
            made.nodes.push(running);
        }
        for node in made.identities.keys() {
            cluster.condition(("default", "nodenetwork", node), "Ready", "True", "Ready")?;
        }
        Ok(made)
    }

    /// The node's processes, on the disk that it has.
    fn start(&self, node: &str) -> Result<HollowNode> {
        let identity = self.identities.get(node).context("no such node")?;
        HollowNode::start(
            &self.world.cluster,
            &self.world.programs.hollow_node,
            node,
            &identity.agent,
            &self.disks.path().join(node),
        )
    }

    /// Makes a network of so many pods with 100M each, and gives the name of its slice once it is reserved.
    pub(crate) fn network(&self, name: &str, pods: u32) -> Result<String> {
        self.network_of(samples::network(&self.namespace, name, self.name, pods))
    }

    /// Makes this network in the test's namespace and on its fabric, with 100M for each pod, and gives the name of its slice.
    pub(crate) fn network_of(&self, mut network: Value) -> Result<String> {
        network["metadata"]["namespace"] = json!(self.namespace);
        network["spec"]["fabricName"] = json!(self.name);
        network["spec"]["bandwidthPerRail"] = json!("100M");
        let name = network["metadata"]["name"]
            .as_str()
            .context("a network without a name")?
            .to_owned();
        self.world.cluster.create(&self.world.cluster.admin(), &[network])?;
        reserved(self.world, &self.namespace, &name)
    }

    /// An Indexed Job on a network.
    fn job(&self, network: &str, pods: u32) -> Value {
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": network, "namespace": self.namespace},
            "spec": {
                "completions": pods,
                "parallelism": pods,
                "completionMode": "Indexed",
                "template": {
                    "metadata": {"labels": {"railhead.dev/network": network}},
                    "spec": {
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": 0,
                        "containers": [{"name": "train", "image": "train"}],
                    },
                },
            },
        })
    }

    /// The network's attachments once this many are wired, by index.
    pub(crate) fn wired(&self, slice: &str, count: usize) -> Result<BTreeMap<u64, Value>> {
        let cluster = &self.world.cluster;
        eventually(&format!("{count} attachments of {slice} are wired"), || {
            let attachments = cluster.list(&self.namespace, "networkattachments")?;
            let wired: BTreeMap<u64, Value> = attachments
                .into_iter()
                .filter(|found| found["spec"]["sliceName"] == slice && is_true(found, "Wired"))
                .filter_map(|found| Some((found["spec"]["index"].as_u64()?, found)))
                .collect();
            ensure!(wired.len() == count, "{} are", wired.len());
            Ok(wired)
        })
    }
}

fn is_true(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == condition && c["status"] == "True")
}

/// The main path, with every part but the ports: a Job's pods get their indices and addresses, and give all back.
pub(crate) fn a_job_on_real_agents_gets_its_indices_and_gives_all_back(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = HollowFabric::new(world, "hollow", 2)?;
    let namespace = &fabric.namespace;
    let slice = fabric.network("llama", 4)?;
    cluster.create(&cluster.admin(), &[fabric.job("llama", 4)])?;
    let wired = fabric.wired(&slice, 4)?;
    let spec = cluster.get(namespace, "networkslice", &slice)?["spec"].clone();
    let base = u32::try_from(spec["base"].as_u64().context("no base")?)?;
    for (index, attachment) in &wired {
        let pod = cluster.get(
            namespace,
            "pod",
            attachment["spec"]["podName"].as_str().unwrap_or_default(),
        )?;
        let of_pod = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str();
        ensure!(
            of_pod == Some(&index.to_string()),
            "index {index} is held by the pod with {of_pod:?}"
        );
        for rail in 0..2 {
            let address = samples::address(fabric.name, rail, base + u32::try_from(*index)?)?;
            let found = attachment["status"]["rails"][rail]["addresses"][0]
                .as_str()
                .unwrap_or_default();
            ensure!(
                found.starts_with(&format!("{address}/")),
                "rail {rail} of index {index} has {found}, not {address}"
            );
        }
    }
    cluster.condition((namespace, "tnet", "llama"), "Attached", "True", "AllAttached")?;
    cluster.ok(&[
        "delete",
        "job",
        "llama",
        "--namespace",
        namespace,
        "--cascade=foreground",
    ])?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", namespace])?;
    cluster.gone(namespace, "networkslice", &slice)?;
    ledger_is_empty(world, fabric.name)?;
    // The nodes give back what they changed, and then forget the fabric.
    cluster.ok(&["delete", "fabric", fabric.name])?;
    for node in fabric.identities.keys() {
        cluster.gone("default", "nodenetwork", node)?;
        let plans = fabric.disks.path().join(node).join("run/railhead/plans");
        let left = std::fs::read_dir(&plans)?.count();
        ensure!(left == 0, "{left} plans are left in {}", plans.display());
    }
    for node in fabric.nodes {
        node.stop()?;
    }
    Ok(())
}

/// When all programs of a node have ended, its indices are kept although the pods are gone; the next agent gives them back.
pub(crate) fn an_index_outlives_the_programs_of_its_node(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let mut fabric = HollowFabric::new(world, "ended", 1)?;
    let namespace = fabric.namespace.clone();
    let slice = fabric.network("llama", 1)?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "first", "llama", 0)])?;
    let wired = fabric.wired(&slice, 1)?;
    let mut node = fabric.nodes.pop().context("no node")?;
    node.kill()?;
    cluster.ok(&[
        "delete",
        "pod",
        "first",
        "--namespace",
        &namespace,
        "--force",
        "--grace-period=0",
    ])?;
    let is_held = || {
        let held = cluster.list(&namespace, "networkattachments")?;
        let [held] = &held[..] else {
            bail!("{} attachments", held.len())
        };
        let (now, before) = (&held["metadata"], &wired[&0]["metadata"]);
        ensure!(now["uid"] == before["uid"], "another one holds the index: {now}");
        ensure!(
            now["deletionTimestamp"].is_null(),
            "the index is being given away: {now}"
        );
        Ok(())
    };
    cluster.gone(&namespace, "pod", "first")?;
    for _ in 0..10 {
        is_held()?;
        thread::sleep(Duration::from_secs(1));
    }
    is_held()?;
    // The next agent finds on the disk what the one before had lent.
    fabric.nodes.push(fabric.start(&node.name)?);
    cluster.gone(&namespace, "networkattachment", &format!("{slice}-0"))?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "second", "llama", 0)])?;
    fabric.wired(&slice, 1)?;
    Ok(())
}
