//! The entry in the cluster's CNI chain: the binary, the drop-in file, and the runtime's word that it has loaded both.
//!
//! Binary first, entry second; when it is given back, entry first and binary last. What counts is what the runtime says,
//! never what the files say: it may have read them before they changed.

mod entry;
mod runtime;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use railhead_crds::ChainStatus;
use thiserror::Error;

pub use entry::{Conflist, EntryError};
pub use runtime::RuntimeError;

use crate::conditions::Finding;

/// How long the runtime may take to load a changed configuration.
const LOAD: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(250);
/// How often it is asked when nothing changed.
const VERIFY: Duration = Duration::from_secs(20);

/// Type of the chain's condition.
pub const CHAIN_READY: &str = "ChainReady";

/// Where everything is.
#[derive(Clone, Debug)]
pub struct ChainPaths {
    /// The CNI binary in the agent's image.
    pub source: PathBuf,
    /// The runtime's folder of CNI binaries.
    pub bin_dir: PathBuf,
    /// The runtime's folder of CNI configurations.
    pub conf_dir: PathBuf,
    /// The runtime's socket.
    pub cri_socket: PathBuf,
}

impl ChainPaths {
    /// The installed binary.
    pub fn binary(&self) -> PathBuf {
        self.bin_dir.join(entry::BINARY)
    }
}

/// Why the chain is not in order.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Files.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The runtime has not taken the entry up.
    #[error(
        "the container runtime has not loaded {entry}: it needs libcni 1.3 (containerd 2) and a conflist without loadOnlyInlinedPlugins"
    )]
    NotLoaded {
        /// The drop-in.
        entry: PathBuf,
    },
    /// The runtime still has the entry.
    #[error("the container runtime still calls the chain entry after it was removed; it is asked again")]
    StillLoaded,
    /// A bug.
    #[error("the agent's work on the node panicked; see its log")]
    Panicked,
}

/// What is known of the chain between two looks at it.
#[derive(Debug)]
pub struct Chain {
    paths: ChainPaths,
    status: ChainStatus,
    verified: Option<Instant>,
    overwritten: bool,
    /// This agent has installed its binary once.
    installed: bool,
}

impl Chain {
    /// A chain that has not been looked at.
    pub fn new(paths: ChainPaths) -> Self {
        Self {
            paths,
            status: ChainStatus::default(),
            verified: None,
            overwritten: false,
            installed: false,
        }
    }

    /// The chain, as last seen.
    pub fn status(&self) -> &ChainStatus {
        &self.status
    }

    /// Puts binary and entry in place and asks the runtime, unless it said yes a short time ago.
    ///
    /// An agent installs its own binary when it starts. Later it does so only while it is `alone`: in a rolling update the
    /// older agent would put its binary back, and the newer one again, until one of them ends.
    pub async fn ensure(&mut self, alone: bool) -> Finding {
        match self.try_ensure(alone).await {
            Ok(()) => {
                self.overwritten = false;
                let message = format!("chained to network {}", self.status.network);
                Finding::yes(CHAIN_READY, "Loaded", message)
            }
            Err(error) => {
                self.status.loaded = false;
                self.verified = None;
                tracing::warn!(%error, "the CNI chain is not in order");
                let reason = if self.overwritten {
                    "ChainOverwritten"
                } else {
                    "ChainNotLoaded"
                };
                Finding::no(CHAIN_READY, reason, error.to_string())
            }
        }
    }

    async fn try_ensure(&mut self, alone: bool) -> Result<(), ChainError> {
        let paths = self.paths.clone();
        let replace = alone || !self.installed;
        let files = tokio::task::spawn_blocking(move || {
            let binary = entry::install_binary(&paths.source, &paths.bin_dir, replace)?;
            let conflist = entry::find(&paths.conf_dir)?;
            let inserted = entry::insert(&paths.conf_dir, &conflist)?;
            Ok::<_, EntryError>((conflist, binary, inserted))
        });
        let (conflist, binary, inserted) = files.await.map_err(|_| ChainError::Panicked)??;
        self.installed = true;
        if binary {
            tracing::info!(binary = %self.paths.binary().display(), "installed the CNI binary");
        }
        if inserted {
            // It was loaded before, so somebody else took it out.
            self.overwritten = self.status.loaded;
            tracing::info!(
                network = conflist.name,
                again = self.overwritten,
                "put the entry into the CNI chain"
            );
        }
        let fresh = self.verified.is_some_and(|at| at.elapsed() < VERIFY);
        let same = self.status.loaded && self.status.network == conflist.name;
        if !inserted && fresh && same {
            return Ok(());
        }
        self.status.network.clone_from(&conflist.name);
        if inserted || !runtime::loaded(&self.paths.cri_socket).await? {
            self.reload_until(true)
                .await?
                .then_some(())
                .ok_or_else(|| ChainError::NotLoaded {
                    entry: conflist.entry(&self.paths.conf_dir),
                })?;
        }
        self.status.loaded = true;
        self.verified = Some(Instant::now());
        Ok(())
    }

    /// Makes the runtime read its configurations again and waits until it has, or has not, the entry.
    async fn reload_until(&self, wanted: bool) -> Result<bool, ChainError> {
        let conf_dir = self.paths.conf_dir.clone();
        tokio::task::spawn_blocking(move || entry::wake_runtime(&conf_dir))
            .await
            .map_err(|_| ChainError::Panicked)??;
        let start = Instant::now();
        loop {
            if runtime::loaded(&self.paths.cri_socket).await? == wanted {
                return Ok(true);
            }
            if start.elapsed() >= LOAD {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the entry out and waits until the runtime has forgotten it. On a node without entry and binary there is nothing
    /// to forget, and its runtime is left alone: the binary goes last.
    pub async fn remove_entry(&mut self) -> Result<(), ChainError> {
        let paths = self.paths.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let removed = entry::remove(&paths.conf_dir)?;
            Ok::<_, EntryError>(removed || paths.binary().exists())
        });
        let there = removed.await.map_err(|_| ChainError::Panicked)??;
        self.status.loaded = false;
        self.verified = None;
        self.installed = false;
        if !there {
            return Ok(());
        }
        if self.reload_until(false).await? {
            Ok(())
        } else {
            Err(ChainError::StillLoaded)
        }
    }

    /// Removes the binary; the entry has to be gone before.
    pub async fn remove_binary(&self) -> Result<(), ChainError> {
        let bin_dir = self.paths.bin_dir.clone();
        tokio::task::spawn_blocking(move || entry::remove_binary(&bin_dir))
            .await
            .map_err(|_| ChainError::Panicked)??;
        Ok(())
    }
}
