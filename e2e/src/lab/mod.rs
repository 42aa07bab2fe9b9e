//! The lab: a real Kubernetes with real SR-IOV nodes on one machine, all of it inside one network namespace.

pub mod cache;
mod capture;
mod control_plane;
mod image_store;
pub mod images;
mod lifecycle;
mod machine;
pub mod namespace;
mod node;
mod oci;
pub mod pins;
mod pki;
mod power;
pub mod prepare;
pub mod progress;
mod qmp;
pub mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use cache::Cache;
pub use capture::{Capture, Frame};
pub use control_plane::SilentApiServer;
use namespace::Namespace;
pub use node::Node;
use pins::Pins;
use prepare::Parts;
use run::{Output, capture, capture_with_input, tail};

/// Rails of every lab: one igb port per node and rail.
pub const RAILS: usize = 2;
/// The lab with nodes.
pub const DEFAULT_NAME: &str = "lab";
/// The control plane without nodes, for tests that need no node.
pub const CONTROL_PLANE_NAME: &str = "cp";

const COMMAND_LIMIT: Duration = Duration::from_mins(5);
/// Longer than helm waits for hooks.
const HELM_LIMIT: Duration = Duration::from_mins(7);

/// A lab: where its parts, state and logs are, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Lab {
    name: String,
    namespace: Namespace,
    state: PathBuf,
    parts: Parts,
    cache: Cache,
    nodes: usize,
}

impl Lab {
    fn describe(name: &str, nodes: usize) -> Result<Self> {
        if name.is_empty() || name.len() > 16 || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("`{name}` is no name for a lab: use up to 16 lower-case letters and digits");
        }
        let cache = Cache::open()?;
        Ok(Self {
            name: name.to_owned(),
            namespace: Namespace::named(format!("railhead-{name}")),
            state: cache.root().join("state").join(name),
            parts: Parts::expected(&cache, &Pins::load()?)?,
            nodes,
            cache,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many nodes it has.
    pub fn node_count(&self) -> usize {
        self.nodes
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its folder of state and logs.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The third-party programs and the node's root and kernel.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A node, by its number from 1.
    pub fn node(&self, number: usize) -> Result<Node> {
        if (1..=self.nodes).contains(&number) {
            return Ok(Node::of(self, number));
        }
        bail!("the lab `{}` has {} nodes and no node{number}", self.name, self.nodes)
    }

    /// All nodes.
    pub fn nodes(&self) -> Vec<Node> {
        (1..=self.nodes).map(|number| Node::of(self, number)).collect()
    }

    /// Puts images into all nodes, where they are not there yet.
    pub fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        thread::scope(|scope| {
            let load = |node: Node| archives.iter().try_for_each(|archive| node.load_image(archive));
            let loads: Vec<_> = self
                .nodes()
                .into_iter()
                .map(|node| scope.spawn(move || load(node)))
                .collect();
            let panicked = || anyhow!("the thread that loads images panicked");
            loads
                .into_iter()
                .try_for_each(|load| load.join().map_err(|_| panicked())?)
        })
    }

    /// Control sockets have a folder of their own: their paths must be short.
    fn sockets(&self) -> PathBuf {
        Path::new("/run").join(self.namespace.name())
    }

    fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// The log of one of its parts.
    pub fn log(&self, part: &str) -> PathBuf {
        self.state.join("logs").join(format!("{part}.log"))
    }

    /// Credentials of the cluster's administrator. The API server can be reached from inside the namespace only.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// A command inside the namespace, with `KUBECONFIG` set and kubectl, helm and etcd on the `PATH`.
    pub fn command(&self, program: &str) -> Command {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let own = [
            &self.parts.kubernetes,
            &self.parts.helm,
            &self.parts.etcd,
            &self.parts.cnitool,
        ];
        let own = own.map(|path| path.display().to_string()).join(":");
        // nsenter looks the program up, so the PATH has to be set for it already.
        let mut command = self.namespace.command(program);
        command
            .env("PATH", format!("{own}:{inherited}"))
            .env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        capture(self.command("kubectl").args(arguments), COMMAND_LIMIT)
    }

    /// Runs kubectl with something on standard input, as for `apply -f -`.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<Output> {
        capture_with_input(
            self.command("kubectl").args(arguments),
            input.as_bytes().to_vec(),
            COMMAND_LIMIT,
        )
    }

    /// Runs helm as the administrator.
    pub fn helm(&self, arguments: &[&str]) -> Result<Output> {
        capture(self.command("helm").args(arguments), HELM_LIMIT)
    }

    /// Moves the calling thread into the namespace; call it first in `main`, before any thread is made.
    pub fn enter_netns(&self) -> Result<()> {
        self.namespace.enter()
    }

    /// Prints the ends of all logs.
    pub fn show_logs(&self) {
        let Ok(entries) = fs::read_dir(self.state.join("logs")) else {
            return;
        };
        for entry in entries.flatten() {
            eprintln!("--- end of {}\n{}", entry.path().display(), tail(&entry.path(), 15));
        }
    }
}
