//! The workspace's own programs that run beside the API server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::lab::run::cargo;

/// Where they are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The operator.
    pub operator: PathBuf,
    /// A node without a machine.
    pub hollow_node: PathBuf,
    /// `kubectl railhead`.
    pub plugin: PathBuf,
}

impl Programs {
    /// Builds them, all in one call: cargo builds what they have in common once then.
    pub fn build() -> Result<Self> {
        let packages = ["railhead-operator", "railhead-hollow", "railhead-cli"];
        let packages = packages.iter().flat_map(|package| ["--package", package]);
        let status = cargo().args(["build", "--quiet"]).args(packages).status()?;
        if !status.success() {
            bail!("`cargo build` of operator, hollow nodes and plugin ended with {status}");
        }
        let this = std::env::current_exe()?;
        Ok(Self {
            operator: built(&this, "railhead-operator")?,
            hollow_node: built(&this, "hollow-node")?,
            plugin: built(&this, "kubectl-railhead")?,
        })
    }
}

/// A program in the target folder in which `this` lies too.
fn built(this: &Path, name: &str) -> Result<PathBuf> {
    let places = this.ancestors().map(|folder| folder.join("debug").join(name));
    let binary = places.into_iter().find(|binary| binary.exists());
    binary.with_context(|| format!("{name} was built, and not into a folder above {}", this.display()))
}
