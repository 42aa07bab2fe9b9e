//! Network namespaces of pods, and `ip`: how everything here looks at the kernel.

use std::{
    fs::File,
    os::fd::{AsRawFd, BorrowedFd},
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

/// A pod's network namespace; it ends with this value.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, with its loopback up.
    pub fn new() -> Result<Self> {
        visit(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace (needs root)")?;
            ip("link set lo up")?;
            Ok(Self {
                file: File::open("/proc/thread-self/ns/net")?,
            })
        })
    }

    /// The path by which other processes open it while this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` inside, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        visit(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            work()
        })
    }

    /// Runs `ip -j` inside.
    pub fn ip_json(&self, arguments: &str) -> Result<Value> {
        self.run(|| ip_json(arguments))
    }
}

impl std::os::fd::AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A thread that may change its namespace.
fn visit<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("a visit to a network namespace panicked"))?
}

/// Runs `ip` in the namespace of the thread.
pub fn ip(arguments: &str) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .context("start ip: is iproute2 installed?")?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `ip -j` in the namespace of the thread.
pub fn ip_json(arguments: &str) -> Result<Value> {
    let text = ip(&format!("-j {arguments}"))?;
    let text = if text.trim().is_empty() { "[]" } else { &text };
    serde_json::from_str(text).with_context(|| format!("ip -j {arguments} printed no JSON"))
}
