//! What the tests share: the lab with Railhead in it, how everything was before, and the job that most of them use.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, PATIENCE_FLAG, eventually, text},
    evidence::{FunctionState, functions, nothing_left},
    installation,
    lab::{Lab, Node, images::build_workspace_images},
};
use serde_json::json;

use crate::{
    jobs,
    pods::{Pod, pods},
};

/// Namespace of the job that most tests use.
pub(crate) const TEAM_A: &str = "team-a";
/// Namespace of others.
pub(crate) const TEAM_B: &str = "team-b";
/// That job, and its network.
pub(crate) const STEADY: &str = "steady";

/// The lab and its state before the tests.
pub(crate) struct World {
    pub(crate) lab: Lab,
    /// The functions of every node as they were made.
    pub(crate) recorded: Vec<BTreeMap<String, FunctionState>>,
    /// Every node before Railhead was installed: see [`node_state`].
    pub(crate) before: Vec<String>,
}

impl World {
    /// A new lab with Railhead and its fabric, or the one that an earlier run kept.
    pub(crate) fn set_up() -> Result<Self> {
        let keep = std::env::var_os("RAILHEAD_KEEP").is_some();
        let kept = if keep { Self::kept()? } else { None };
        let (lab, before) = match kept {
            Some(kept) => kept,
            None => Self::fresh()?,
        };
        for namespace in [TEAM_A, TEAM_B] {
            installation::namespace(&lab, namespace)?;
        }
        let mut world = Self {
            lab,
            recorded: Vec::new(),
            before,
        };
        if keep {
            // A test that failed in an earlier run may have left something.
            world.clear(TEAM_A)?;
            world.clear(TEAM_B)?;
        }
        world.recorded = world.lab.nodes().iter().map(functions).collect::<Result<_>>()?;
        Ok(world)
    }

    fn fresh() -> Result<(Lab, Vec<String>)> {
        build_workspace_images()?;
        installation::start_lab(2, |lab| {
            let before = lab.nodes().iter().map(node_state).collect::<Result<Vec<_>>>()?;
            fs::write(lab.state().join(BEFORE), serde_json::to_vec(&before)?)?;
            Ok(before)
        })
    }

    /// The lab of an earlier run, if Railhead is in it.
    fn kept() -> Result<Option<(Lab, Vec<String>)>> {
        let Ok(lab) = Lab::attach() else {
            return Ok(None);
        };
        let Ok(before) = fs::read(lab.state().join(BEFORE)) else {
            return Ok(None);
        };
        let before = serde_json::from_slice(&before).context("the record of the nodes does not parse")?;
        let installed = lab.kubectl(&["get", "fabric", installation::FABRIC_NAME])?.success();
        Ok(installed.then_some((lab, before)))
    }

    /// The two pods of the job that most tests use, by index. Makes it if it is not there, and anew if more than one of its pods
    /// was deleted: the Job controller waits 10 s before the next pod, then 20 s, 40 s, up to minutes.
    pub(crate) fn steady(&self) -> Result<Vec<Pod>> {
        let job = [
            "get",
            "job",
            "-n",
            TEAM_A,
            STEADY,
            "--ignore-not-found",
            "-o=jsonpath={.status.failed}",
        ];
        let failed = self.lab.kubectl(&job)?.ok()?.stdout;
        if failed.trim().parse::<u32>().is_ok_and(|failed| failed > 1) {
            self.clear(TEAM_A)?;
        }
        self.apply(TEAM_A, &jobs::network(STEADY, 2))?;
        self.apply(TEAM_A, &jobs::job(STEADY, 2))?;
        let pods = pods(&self.lab, TEAM_A, STEADY, 2)?;
        let network = ["tnet", "-n", TEAM_A, STEADY];
        self.lab.wait_condition(&network, "Attached", "True")?;
        Ok(pods)
    }

    /// Applies an object.
    pub(crate) fn apply(&self, namespace: &str, object: &serde_json::Value) -> Result<()> {
        self.lab.apply(namespace, &object.to_string())
    }

    /// Deletes all jobs, pods and networks of a namespace and waits until they are gone.
    pub(crate) fn clear(&self, namespace: &str) -> Result<()> {
        let deleted = self
            .lab
            .kubectl(&["delete", "-n", namespace, "--all", PATIENCE_FLAG, "jobs,pods,tnet"])?;
        deleted.ok()?;
        let kinds = "networkslices,networkattachments,resourceclaims";
        eventually(&format!("{namespace} is empty"), || {
            let left = self.lab.list(&[kinds, "-n", namespace])?;
            let names: Vec<String> = left.iter().map(|object| text(&object["metadata"]["name"])).collect();
            ensure!(left.is_empty(), "left: {names:?}");
            Ok(())
        })
    }

    /// Waits until a pod runs.
    pub(crate) fn wait_running(&self, namespace: &str, pod: &str) -> Result<()> {
        eventually(&format!("{pod} in {namespace} runs"), || {
            let found = self.lab.get(&["pod", "-n", namespace, pod])?;
            let running = &found["status"]["containerStatuses"][0]["state"]["running"];
            ensure!(!running.is_null(), "its status: {}", found["status"]);
            Ok(())
        })
    }

    /// Deletes a pod and waits until it is gone.
    pub(crate) fn delete_pod(&self, namespace: &str, pod: &str) -> Result<()> {
        let deleted = self
            .lab
            .kubectl(&["delete", "-n", namespace, "pod", pod, PATIENCE_FLAG])?;
        deleted.ok().map(drop)
    }

    /// Deletes everything that tests make, and waits until it has all come back.
    pub(crate) fn clear_all(&self) -> Result<()> {
        self.clear(TEAM_A)?;
        self.clear(TEAM_B)?;
        nothing_left(&self.lab, &self.recorded)
    }

    /// Waits until every node is as it was before Railhead was installed.
    pub(crate) fn wait_nodes_as_before(&self) -> Result<()> {
        for (node, before) in self.lab.nodes().iter().zip(&self.before) {
            eventually(&format!("{} is as before", node.name()), || {
                let after = node_state(node)?;
                ensure!(after == *before, "{} was\n{before}\nand is\n{after}", node.name());
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Does something while no agent runs; they are back afterwards, whatever came of it.
    pub(crate) fn without_agents<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.park_agents(&json!("yes"))?;
        let result = eventually("the agents are gone", || {
            let pods = self.lab.list(&["pods", "-n", installation::NAMESPACE])?;
            let agents = pods
                .iter()
                .filter(|pod| text(&pod["metadata"]["name"]).starts_with("railhead-agent"));
            ensure!(agents.count() == 0, "some still run");
            Ok(())
        });
        let result = result.and_then(|()| work());
        self.park_agents(&json!(null))?;
        let status = [
            "rollout",
            "status",
            "-n",
            installation::NAMESPACE,
            "daemonset/railhead-agent",
        ];
        let back = self.lab.kubectl(&[&status[..], &[PATIENCE_FLAG]].concat())?.ok();
        let result = result?;
        back?;
        installation::wait_offered(&self.lab)?;
        Ok(result)
    }

    fn park_agents(&self, value: &serde_json::Value) -> Result<()> {
        let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"test.railhead.dev/parked": value}}}}});
        let daemon_set = [
            "patch",
            "-n",
            installation::NAMESPACE,
            "daemonset/railhead-agent",
            "--patch",
        ];
        let patched = self.lab.kubectl(&[&daemon_set[..], &[&patch.to_string()]].concat())?;
        patched.ok().map(drop)
    }
}

/// File of the record of the nodes in a lab's state folder.
const BEFORE: &str = "nodes-before.json";

/// All that an installation changes on a node: CNI folders, ports, and files of its own.
pub(crate) fn node_state(node: &Node) -> Result<String> {
    let command = "cd /sys/class/net; for port in eth1 eth2; do echo $port mtu $(cat $port/mtu) flags $(cat $port/flags) \
                   functions $(cat $port/device/sriov_numvfs); done; find /etc/cni /opt/cni | sort; \
                   find /run/railhead /var/lib/railhead /run/railhead-agent /var/run/cdi -type f 2>/dev/null; \
                   find /var/lib/kubelet/plugins /var/lib/kubelet/plugins_registry -name '*railhead*' 2>/dev/null; true";
    Ok(node.exec(command, NODE_LIMIT)?.ok()?.stdout)
}
