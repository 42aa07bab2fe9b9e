//! The operator's binary as a process, with the rights of its service account, and what the kernel says of it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use railhead_e2e::{
    control_plane::operator::command,
    lab::{Lab, run::cargo},
};
use serde_json::{Value, json};

use crate::{SYSTEM, api::Server};

/// How long an operator may take to know the whole cluster.
const READY: Duration = Duration::from_mins(3);

/// How operators are started.
pub(crate) struct Installed {
    binary: PathBuf,
    kubeconfig: PathBuf,
    logs: PathBuf,
}

impl Installed {
    /// Builds the operator for release, unless there is one already, and makes a kubeconfig of its service account.
    pub(crate) fn new(lab: &Lab, binary: Option<&Path>) -> Result<Self> {
        let token = [
            "create",
            "token",
            "railhead-operator",
            "--namespace",
            SYSTEM,
            "--duration",
            "8h",
        ];
        let token = lab.kubectl(&token)?.ok()?.stdout;
        let view = lab
            .kubectl(&["config", "view", "--raw", "--output", "json"])?
            .ok()?
            .stdout;
        let mut config: Value = serde_json::from_str(&view)?;
        config["users"] = json!([{"name": "account", "user": {"token": token.trim()}}]);
        config["contexts"][0]["context"]["user"] = json!("account");
        let kubeconfig = lab.state().join("operator.kubeconfig");
        fs::write(&kubeconfig, config.to_string())?;
        Ok(Self {
            binary: binary.map_or_else(
                || build("railhead-operator", "railhead-operator"),
                |binary| Ok(binary.to_owned()),
            )?,
            kubeconfig,
            logs: lab.state().join("logs"),
        })
    }

    /// Starts one, and waits until it knows the cluster.
    pub(crate) async fn start(&self, name: &str) -> Result<Operator> {
        let log = File::create(self.logs.join(format!("{name}.log")))?;
        let child = command(&self.binary, &self.kubeconfig, name, log)?
            // Pages are of no interest here; any free port will do.
            .env("RAILHEAD_HTTP", "127.0.0.1:0")
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let log = self.logs.join(format!("{name}.log"));
        let mut operator = Operator {
            child,
            name: name.to_owned(),
            log: log.clone(),
        };
        let start = Instant::now();
        while !fs::read_to_string(&log)?.contains("knows the cluster") {
            if let Some(status) = operator.child.try_wait()? {
                bail!("{name} ended with {status}; its log is {}", log.display());
            }
            ensure!(
                start.elapsed() < READY,
                "{name} does not know the cluster after {READY:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(operator)
    }
}

/// Builds a program for release.
pub(crate) fn build(package: &str, program: &str) -> Result<PathBuf> {
    let status = cargo()
        .args(["build", "--quiet", "--release", "--locked", "--package", package])
        .status()?;
    ensure!(
        status.success(),
        "cargo build --release --package {package} ended with {status}"
    );
    let this = std::env::current_exe()?;
    let target = this
        .ancestors()
        .nth(2)
        .context("this program does not lie in a target folder")?;
    Ok(target.join("release").join(program))
}

/// Resident memory of a process now, and the most that it ever was, in MB.
pub(crate) fn resident(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |key: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.with_context(|| format!("no {key} in {status}"))?.parse()?)
    };
    Ok((kilobytes("VmRSS:")? * 1024e-6, kilobytes("VmHWM:")? * 1024e-6))
}

/// A running operator; it ends with this value.
pub(crate) struct Operator {
    child: Child,
    pub(crate) name: String,
    log: PathBuf,
}

impl Operator {
    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// An error where it has ended: what is measured of one that does nothing is worth nothing.
    pub(crate) fn runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; its log is {}", self.name, self.log.display()),
        }
    }

    /// [`resident`] of it.
    pub(crate) fn resident(&self) -> Result<(f64, f64)> {
        resident(self.child.id())
    }

    /// Processor time so far, seconds.
    pub(crate) fn processor(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name, which is in parentheses: user and system time are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').context("no process name")?;
        let ticks: f64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum();
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        Ok(ticks / f64::from(i32::try_from(per_second)?))
    }

    /// As when its node loses power.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) -> Result<()> {
        Ok(kill(self.pid()?, Signal::SIGTERM)?)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until this one leads.
pub(crate) async fn led(server: &Server, name: &str) -> Result<()> {
    let start = Instant::now();
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/railhead-operator");
    loop {
        let lease = server.get(&path).await.unwrap_or_default();
        // Behind the name is what tells two processes of one name from each other.
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.starts_with(name) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < READY,
            "{name} does not lead after {READY:?}: {holder:?} does"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
