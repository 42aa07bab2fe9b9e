//! A node as its users see it: commands on it, its cables, its images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Lab;
use super::machine::link_or_copy;
use super::namespace::node_address;
use super::progress::{say, step};
use super::qmp::Qmp;
use super::run::{Output, capture, capture_with_input, quoted, tail};

const LIMIT: Duration = Duration::from_mins(1);
const PATH: &str = "export PATH=/lab/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Half a second per megabyte under emulation, more when others use the processor.
const IMPORT_LIMIT: Duration = Duration::from_mins(5);

/// A node of a lab.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) lab: Lab,
    pub(super) number: usize,
}

impl Node {
    pub(super) fn of(lab: &Lab, number: usize) -> Self {
        Self {
            lab: lab.clone(),
            number,
        }
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Its number, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.lab.state().join(self.name())
    }

    /// What the machine printed on its serial console.
    pub fn console_log(&self) -> PathBuf {
        self.lab.log(&format!("{}-console", self.name()))
    }

    /// Copies the console's log to where no later start of the lab writes over it.
    pub fn keep_console_log(&self) -> Result<PathBuf> {
        let kept = format!("{}-{}-hung-console.log", self.lab.name(), self.name());
        let kept = self.lab.state().with_file_name(kept);
        fs::copy(self.console_log(), &kept)
            .with_context(|| format!("cannot copy {} to {}", self.console_log().display(), kept.display()))?;
        Ok(kept)
    }

    /// Runs a shell command as root on the node. Needs neither Kubernetes nor a pod.
    pub fn exec(&self, command: &str, limit: Duration) -> Result<Output> {
        self.exec_with_input(command, Vec::new(), limit)
    }

    /// Like [`Node::exec`], with something to read on standard input.
    pub fn exec_with_input(&self, command: &str, input: Vec<u8>, limit: Duration) -> Result<Output> {
        let mut ssh = self.ssh(&[]);
        ssh.arg(format!("{PATH}; {command}"));
        let output = if input.is_empty() {
            capture(&mut ssh, limit)
        } else {
            capture_with_input(&mut ssh, input, limit)
        };
        let mut output = output.with_context(|| format!("on {}", self.name()))?;
        output.command = format!("{} on {}", command, self.name());
        Ok(output)
    }

    /// An ssh that starts a program on the node with exactly these arguments, or a shell where there are none.
    pub fn ssh_for(&self, words: &[String], terminal: bool) -> Command {
        let mut ssh = self.ssh(if terminal { &["-t"] } else { &[] });
        let program = if words.is_empty() {
            "exec bash -l".to_owned()
        } else {
            words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
        };
        ssh.arg(format!("{PATH}; {program}"));
        ssh
    }

    /// An ssh to the node, ready for a command or for a terminal.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut ssh = self.lab.namespace().command("ssh");
        ssh.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "ConnectTimeout=10",
            // A connection outlives a reset of the node only for so long.
            "-o",
            "ServerAliveInterval=15",
        ]);
        // The machine was made a minute ago and its wire is a bridge of ours: there is no older key to compare with.
        ssh.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "HostKeyAlgorithms=ssh-ed25519",
        ]);
        ssh.arg("-o")
            .arg(format!("ControlPath={}", self.socket("ssh").display()));
        ssh.arg("-i").arg(self.lab.state().join("ssh.key")).args(options);
        ssh.arg(format!("root@{}", node_address(self.number)));
        ssh
    }

    pub(super) fn socket(&self, kind: &str) -> PathBuf {
        self.lab.sockets().join(format!("{}.{kind}", self.name()))
    }

    /// Pulls or plugs the cable of a rail: the port and its functions see their carrier go or come.
    pub fn cable(&self, rail: usize, plugged: bool) -> Result<()> {
        self.qmp()?
            .execute("set_link", &json!({"name": format!("rail{rail}"), "up": plugged}))
            .map(|_| ())
    }

    pub(super) fn qmp(&self) -> Result<Qmp> {
        Qmp::connect(&self.socket("qmp"))
    }

    /// The end of what the node has to say about a failure.
    pub fn last_words(&self) -> String {
        let logs = self.exec(
            "tail -n 25 /var/log/containerd.log /var/log/kubelet.log /var/log/kube-proxy.log",
            LIMIT,
        );
        let logs = logs
            .and_then(Output::ok)
            .map_or_else(|error| format!("(no way in: {error})"), |output| output.stdout);
        format!(
            "--- console of {}\n{}\n{logs}",
            self.name(),
            tail(&self.console_log(), 25)
        )
    }

    /// Puts an image into the running node, unless it is the one that the node has.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let name = archive
            .file_name()
            .with_context(|| format!("{} is no file", archive.display()))?;
        let bytes = fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
        let present = self.folder().join("images").join(name);
        let what = format!("{} on {}", name.to_string_lossy(), self.name());
        if fs::read(&present).is_ok_and(|loaded| loaded == bytes) {
            say(format!("{what} is this one already"));
            return Ok(());
        }
        step(&format!("loading {what}"), || {
            let import = "cat > /var/lib/lab-image.tar && ctr -n k8s.io images import --snapshotter overlayfs \
                          /var/lib/lab-image.tar; code=$?; rm -f /var/lib/lab-image.tar; exit $code";
            self.exec_with_input(import, bytes, IMPORT_LIMIT)?.ok()
        })?;
        link_or_copy(archive, &present)
    }
}
