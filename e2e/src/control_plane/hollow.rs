//! A hollow node as a process beside the API server: the real agent and CNI binary over stand-in ports (package `railhead-hollow`).

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Cluster, Identity};
use crate::cluster::eventually;

/// A running hollow node; it ends with this value, or with the thread that started it. Its folder stays.
pub struct HollowNode {
    /// Name of the node.
    pub name: String,
    child: Child,
}

impl HollowNode {
    /// Starts one for a Node that is there, with the agent's identity and a folder that stands for the node's disk.
    pub fn start(cluster: &Cluster, binary: &Path, name: &str, agent: &Identity, root: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(cluster.lab.log(name))?;
        let child = Command::new(binary)
            .args(["--node", name])
            .arg("--agent-kubeconfig")
            .arg(&agent.kubeconfig)
            .arg("--kubelet-kubeconfig")
            .arg(cluster.admin().kubeconfig)
            .arg("--root")
            .arg(root)
            .arg("--with-parent")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// Ends all its programs at once: its pods' namespaces and its ports end with them. What is on its disk stays, `/run` too, and the
    /// boot is the same.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it in order, or fails.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let name = self.name.clone();
        let ended = eventually(&format!("{name} ends"), || self.child.try_wait()?.context("it runs"))?;
        ensure!(ended.success(), "{name} ended with {ended}");
        Ok(())
    }
}

impl Drop for HollowNode {
    fn drop(&mut self) {
        // It may have ended already.
        self.kill().ok();
    }
}
