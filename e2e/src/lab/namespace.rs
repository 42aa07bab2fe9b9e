//! The network namespace that holds the whole lab: its bridges and taps, the programs in it, and the end of all of them.
//!
//! Ports never collide with the machine's, traffic stays inside, and what is left over is found by asking who is in the namespace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::run::{capture, capture_with_input, describe, tail};

const LIMIT: Duration = Duration::from_secs(30);
const NAMED: &str = "/run/netns";

/// The lab's own address on the management network; API server, images and the way into nodes are here.
pub const HOST_ADDRESS: &str = "10.200.0.1";
/// Management address of a node.
pub fn node_address(node: usize) -> String {
    format!("10.200.0.{}", 10 + node)
}
/// Pod prefix of a node.
pub fn pod_prefix(node: usize) -> String {
    format!("10.244.{node}.0/24")
}
/// The tap that is the cable between a node's rail port and the leaf.
pub fn rail_tap(node: usize, rail: usize) -> String {
    format!("n{node}r{rail}")
}
/// The tap of a node's management port.
pub fn mgmt_tap(node: usize) -> String {
    format!("n{node}m")
}

/// A named network namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace with this name, whether it exists or not.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMED).join(&self.name)
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Makes the namespace with a management bridge, one bridge per rail, and a tap per node and bridge. The bridges do no VLAN
    /// filtering, so they pass tagged frames as a leaf switch does, and `tcpdump -e` on a tap sees them as on the cable.
    pub fn create(&self, nodes: usize, rails: usize) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!("making a network namespace needs root: run `lab` as root");
        }
        capture(Command::new("ip").args(["netns", "add", &self.name]), LIMIT)?.ok()?;
        let mut script = vec![
            "link set lo up".to_owned(),
            "link add mgmt type bridge".to_owned(),
            format!("addr add {HOST_ADDRESS}/24 dev mgmt"),
            "link set mgmt up".to_owned(),
        ];
        for rail in 0..rails {
            script.push(format!("link add rail{rail} type bridge"));
            script.push(format!("link set rail{rail} mtu 9216 up"));
        }
        for node in 1..=nodes {
            script.push(format!("tuntap add {} mode tap", mgmt_tap(node)));
            script.push(format!("link set {} master mgmt up", mgmt_tap(node)));
            for rail in 0..rails {
                let tap = rail_tap(node, rail);
                script.push(format!("tuntap add {tap} mode tap"));
                script.push(format!("link set {tap} mtu 9216 master rail{rail} up"));
            }
            script.push(format!("route add {} via {}", pod_prefix(node), node_address(node)));
        }
        let input = (script.join("\n") + "\n").into_bytes();
        capture_with_input(self.command("ip").args(["-batch", "-"]), input, LIMIT)?.ok()?;
        Ok(())
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Starts a program inside that outlives this one. Its output goes to the log.
    pub fn daemon(&self, name: &str, program: &Path, arguments: &[String], log: &Path) -> Result<Daemon> {
        let mut command = self.command(program);
        command.args(arguments);
        Self::daemon_of(&command, name, log)
    }

    /// Starts a command made by [`Namespace::command`] so that it outlives this program.
    pub fn daemon_of(inside: &Command, name: &str, log: &Path) -> Result<Daemon> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setsid");
        command.arg(inside.get_program()).args(inside.get_args());
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", describe(&command)))?;
        Ok(Daemon {
            name: name.to_owned(),
            log: log.to_path_buf(),
            child,
        })
    }

    /// Moves the calling thread inside. Threads that it makes afterwards are inside too, so call this first in `main`.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(self.path())
            .with_context(|| format!("there is no network namespace {}: is the lab up?", self.name))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter the network namespace {}", self.name))
    }

    /// Processes inside, without this one and those that wait for it.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let listed = capture(Command::new("ip").args(["netns", "pids", &self.name]), LIMIT)?.ok()?;
        let own = own_line();
        let pids = listed.stdout.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok(pids.filter(|pid| !own.contains(pid)).map(Pid::from_raw).collect())
    }

    /// Ends everything inside and removes the namespace. Nothing to do is fine too.
    pub fn destroy(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        for (signal, patience) in [(Signal::SIGTERM, 1), (Signal::SIGKILL, 10)] {
            let deadline = Instant::now() + Duration::from_secs(patience);
            for pid in self.processes()? {
                // It may have ended by itself since it was listed.
                kill(pid, signal).ok();
            }
            while !self.processes()?.is_empty() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let left = self.processes()?;
        if !left.is_empty() {
            bail!(
                "processes {left:?} in the namespace {} do not end, not even by SIGKILL",
                self.name
            );
        }
        capture(Command::new("ip").args(["netns", "del", &self.name]), LIMIT)?.ok()?;
        // `ip netns add` mounts this folder on itself; without a namespace in it, it is ours to take away.
        if fs::read_dir(NAMED).is_ok_and(|mut entries| entries.next().is_none()) {
            capture(Command::new("umount").arg(NAMED), LIMIT).ok();
            fs::remove_dir(NAMED).ok();
        }
        Ok(())
    }
}

/// This process and its ancestors: `lab down` from a shell inside the lab must not end that shell.
fn own_line() -> Vec<i32> {
    let mut line = vec![Pid::this().as_raw()];
    while let Some(parent) = line.last().and_then(|pid| parent_of(*pid)).filter(|pid| *pid > 1) {
        line.push(parent);
    }
    line
}

fn parent_of(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// A started program that outlives this one.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Daemon {
    /// An error with the end of its log, where it is no longer running.
    pub fn check(&mut self) -> Result<()> {
        match self
            .child
            .try_wait()
            .with_context(|| format!("cannot look after {}", self.name))?
        {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended with {status}; end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log, 20)
            ),
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self, limit: Duration) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id is too large")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("{} ended too early", self.name))?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                start.elapsed() < limit,
                "{} does not end within {}s",
                self.name,
                limit.as_secs()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it at once.
    pub fn end(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("cannot end {}", self.name))
            .map(|_| ())
    }
}

/// Asks again until the answer is yes, and gives up at once when one of the programs has ended.
pub fn wait_while_alive(
    daemons: &mut [Daemon],
    what: &str,
    limit: Duration,
    every: Duration,
    mut ask: impl FnMut() -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let Err(reason) = ask() else { return Ok(()) };
        daemons.iter_mut().try_for_each(Daemon::check)?;
        if start.elapsed() > limit {
            return Err(reason.context(format!("{what}: not within {}s", limit.as_secs())));
        }
        thread::sleep(every);
    }
}
