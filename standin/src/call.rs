//! One call of the CNI binary over stand-in ports: the library that the binary is made of, in a process of its own, with a file in the place
//! of the one thing that a veth pair lacks, the side of a VF that its PF enforces.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use railhead_cni::Environment;
use railhead_plan::Layout;
use serde_json::{Value, json};

use crate::{node::Node, pf};

/// What the child is told beside CNI's own variables: the folder that stands for `/`.
pub const ROOT: &str = "STANDIN_ROOT";
/// First argument of the child.
pub const CHILD: &str = "cni";
/// Name of the CNI network.
const NETWORK: &str = "pod";

/// What one call is about.
#[derive(Clone, Debug)]
pub struct Call {
    /// ADD, DEL, CHECK, GC.
    pub verb: &'static str,
    /// The sandbox.
    pub container: String,
    /// The pod, which is also the UID in CNI_ARGS.
    pub pod: String,
    /// Path of the sandbox's namespace; none when it is gone.
    pub netns: Option<String>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Exit code 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Whether a signal ended it.
    pub fn was_killed(&self) -> bool {
        self.status.code().is_none()
    }

    /// An error with everything that it said, unless it succeeded.
    pub fn ok(&self, what: &str) -> Result<()> {
        anyhow::ensure!(
            self.success(),
            "{what} ended with {}: {}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(())
    }

    /// The number of the CNI error that it printed.
    pub fn code(&self) -> Option<i64> {
        serde_json::from_str::<Value>(&self.stdout).ok()?["code"].as_i64()
    }
}

impl Call {
    /// The command, and what goes to its standard input. `program` is the `standin` program.
    pub fn command(&self, program: &Path, node: &Node) -> (Command, Vec<u8>) {
        let mut command = Command::new(program);
        command
            .arg(CHILD)
            .env_clear()
            .env(ROOT, node.root())
            .env("CNI_COMMAND", self.verb)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", arguments(&self.pod))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(netns) = &self.netns {
            command.env("CNI_NETNS", netns);
        }
        (command, self.configuration().to_string().into_bytes())
    }

    /// Runs it to its end.
    pub fn run(&self, program: &Path, node: &Node) -> Result<Ended> {
        ended(self.start(program, node)?)
    }

    fn start(&self, program: &Path, node: &Node) -> Result<Child> {
        let (mut command, input) = self.command(program, node);
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        // It fits into the pipe.
        child.stdin.take().context("no standard input")?.write_all(&input)?;
        Ok(child)
    }

    /// Runs it and kills it (`SIGKILL`) after `delay`, unless it has ended by then.
    pub fn run_killed_after(&self, delay: Duration, program: &Path, node: &Node) -> Result<Ended> {
        let mut child = self.start(program, node)?;
        thread::sleep(delay);
        // It may have ended by itself.
        child.kill().ok();
        ended(child)
    }

    /// Runs it inside this process; answers with whether it succeeded and what it printed.
    pub fn run_here(&self, node: &Node) -> (bool, String) {
        let environment = Environment {
            command: Some(self.verb.to_owned()),
            container_id: Some(self.container.clone()),
            netns: self.netns.clone(),
            if_name: Some("eth0".to_owned()),
            arguments: Some(arguments(&self.pod)),
        };
        let input = self.configuration().to_string();
        let outcome = railhead_cni::run(&context(node.root()), &environment, &mut input.as_bytes());
        (outcome.success, outcome.stdout + &outcome.log.join("\n"))
    }

    fn configuration(&self) -> Value {
        let mut configuration = json!({
            "cniVersion": "1.1.0", "name": NETWORK, "type": "railhead",
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"railhead.dev/attach": "train"}},
            "prevResult": {
                "cniVersion": "1.1.0",
                "interfaces": [{"name": "eth0", "sandbox": self.netns.clone().unwrap_or_default()}],
                "ips": [{"address": "10.244.0.5/24", "interface": 0}]
            }
        });
        if self.verb == "GC" {
            configuration["cni.dev/valid-attachments"] = json!([]);
        }
        configuration
    }
}

fn ended(child: Child) -> Result<Ended> {
    let output = child.wait_with_output()?;
    Ok(Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn arguments(pod: &str) -> String {
    format!("K8S_POD_NAMESPACE=ml;K8S_POD_NAME={pod};K8S_POD_UID={pod}")
}

fn context(root: &Path) -> railhead_cni::Context {
    let mut context = railhead_cni::Context::new(Layout::under(root));
    context.pf_side = pf::side(root);
    context
}

/// The child: one call, as `main` of the binary makes it.
pub fn child() -> Result<bool> {
    let root = std::env::var_os(ROOT)
        .map(PathBuf::from)
        .context("STANDIN_ROOT is not set")?;
    crate::trace::stop_for_tracer()?;
    let environment = Environment::of_process();
    let mut context = context(&root);
    context.repair = std::env::var_os(railhead_cni::REPAIR).is_some_and(|value| value == "1");
    let outcome = railhead_cni::run(&context, &environment, &mut std::io::stdin().lock());
    for line in &outcome.log {
        eprintln!("railhead: {line}");
    }
    std::io::stdout().write_all(outcome.stdout.as_bytes())?;
    Ok(outcome.success)
}
