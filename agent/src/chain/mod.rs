//! The entry in the cluster's CNI chain: the binary, the drop-in file, and the runtime's word that it has loaded both.
//!
//! Binary first, entry second; when it is given back, entry first and binary last. What counts is what the runtime says,
//! never what the files say: it may have read them before they changed, or read others. An entry that the runtime could not
//! carry out is worse than none: every pod of the node would fail with it, also those that want no rails. So it is put in only
//! when the runtime would find the binary and speaks a version that the binary speaks, and taken out when that ends.

mod binary;
mod cdi;
mod conflist;
mod entry;
mod error;
mod folders;
mod mounts;
mod runtime;
mod watch;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use railhead_crds::{ChainStatus, reasons::Reason};

pub use binary::BinaryError;
use binary::{BINARY, Installed};
pub use cdi::{CDI_READY, link_cdi};
pub use conflist::Conflist;
pub use entry::EntryError;
pub use error::ChainError;
pub use folders::FolderError;
use mounts::Mounts;
pub use runtime::{CdiSettings, LoadedNetwork, RuntimeError, RuntimeView};
pub(crate) use watch::watch;

use crate::conditions::Finding;

/// How long the runtime may take to load a changed configuration.
const LOAD: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(250);
/// How often it is asked when nothing changed.
const VERIFY: Duration = Duration::from_secs(20);
/// For how long the condition tells that the binary had to be put back.
const REMEMBER: Duration = Duration::from_mins(10);

/// Type of the chain's condition.
pub const CHAIN_READY: &str = "ChainReady";

/// Where everything is.
#[derive(Clone, Debug)]
pub struct ChainPaths {
    /// The CNI binary in the agent's image.
    pub source: PathBuf,
    /// The runtime's folder of CNI binaries.
    pub bin_dir: PathBuf,
    /// The folder of the node that is mounted and holds `bin_dir`.
    pub bin_mount: PathBuf,
    /// The runtime's folder of CNI configurations.
    pub conf_dir: PathBuf,
    /// The folder of the node that is mounted and holds `conf_dir`.
    pub conf_mount: PathBuf,
    /// The folder of CDI specs that the runtime reads.
    pub cdi_dir: PathBuf,
    /// The link to it by which agent and binary find it.
    pub cdi_link: PathBuf,
    /// The runtime's socket.
    pub cri_socket: PathBuf,
}

impl ChainPaths {
    /// The installed binary.
    pub fn binary(&self) -> PathBuf {
        self.bin_dir.join(BINARY)
    }
}

/// What a look at the chain found.
#[derive(Clone, Debug)]
pub struct Look {
    /// The chain.
    pub chain: Finding,
    /// The CDI specs.
    pub cdi: Finding,
    /// What was done to the node just now, for an event: its reason and what happened.
    pub news: Option<(Reason, String)>,
}

/// What is known of the chain between two looks at it.
#[derive(Debug)]
pub struct Chain {
    paths: ChainPaths,
    status: ChainStatus,
    /// What the runtime last said, and when.
    view: Option<(RuntimeView, Instant)>,
    overwritten: bool,
    /// This agent has installed its binary once.
    installed: bool,
    /// The versions that the installed binary speaks.
    spoken: Vec<String>,
    mounts: Mounts,
    /// What was last put back, and when.
    put_back: Option<(String, Instant)>,
}

/// Where the runtime's folders really are, behind symlinks.
struct Real {
    bin_dir: PathBuf,
    conf_dir: PathBuf,
}

/// What was done to the files.
struct Files {
    conflist: Conflist,
    binary: Installed,
    inserted: bool,
}

impl Chain {
    /// A chain that has not been looked at.
    pub fn new(paths: ChainPaths) -> Self {
        Self {
            paths,
            status: ChainStatus::default(),
            view: None,
            overwritten: false,
            installed: false,
            spoken: Vec::new(),
            mounts: Mounts::default(),
            put_back: None,
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
    pub async fn ensure(&mut self, alone: bool) -> Look {
        let result = self.try_ensure(alone).await;
        let news = match &result {
            Ok(Some(what)) => {
                tracing::warn!(what, "the CNI chain was put right");
                self.put_back = Some((what.clone(), Instant::now()));
                Some((Reason::ChainPutBack, what.clone()))
            }
            Err(error) if error.is_harmful() => match self.withdraw().await {
                Ok(true) => Some((
                    Reason::ChainWithdrawn,
                    format!(
                        "the entry was taken out of the CNI chain, since every pod of the node would fail with it: {error}"
                    ),
                )),
                Ok(false) => None,
                Err(failed) => {
                    tracing::error!(error = %failed, "the chain entry could not be taken out");
                    None
                }
            },
            Ok(None) | Err(_) => None,
        };
        let chain = match result {
            Ok(_) => {
                self.overwritten = false;
                let message = format!("chained to network {}", self.status.network);
                match self.put_back.as_ref().filter(|(_, at)| at.elapsed() < REMEMBER) {
                    Some((what, _)) => Finding::yes(CHAIN_READY, Reason::PutBack, format!("{message}; {what}")),
                    None => Finding::yes(CHAIN_READY, Reason::Loaded, message),
                }
            }
            Err(error) => {
                self.status.loaded = false;
                self.view = None;
                tracing::warn!(%error, "the CNI chain is not in order");
                let reason = if self.overwritten {
                    Reason::ChainOverwritten
                } else {
                    error.reason()
                };
                Finding::no(CHAIN_READY, reason, error.to_string())
            }
        };
        let cdi = self.cdi().await;
        Look { chain, cdi, news }
    }

    /// Returns what had to be put back, in words.
    async fn try_ensure(&mut self, alone: bool) -> Result<Option<String>, ChainError> {
        let real = self.check_folders()?;
        let (paths, replace) = (self.paths.clone(), alone || !self.installed);
        let bin_dir = real.bin_dir.clone();
        let files = tokio::task::spawn_blocking(move || {
            let binary = binary::install(&paths.source, &bin_dir, replace)?;
            Ok::<_, EntryError>((conflist::find(&paths.conf_dir)?, binary))
        });
        let (conflist, binary) = files.await.map_err(|_| ChainError::Panicked)??;
        if binary != Installed::Present || self.spoken.is_empty() {
            // A binary that does not answer now must not pass for the one that did.
            self.spoken.clear();
            self.spoken = binary::versions(&real.bin_dir.join(BINARY)).await?;
            tracing::info!(binary = %self.paths.binary().display(), speaks = self.spoken.join(" "), "the CNI binary");
        }
        let was_installed = std::mem::replace(&mut self.installed, true);
        let view = self.view(&conflist).await?;
        folders::check_binaries(&self.paths.bin_dir, &real.bin_dir, &view)?;
        folders::check_config(&self.paths.conf_dir, &real.conf_dir, &view)?;
        if let Some(version) = conflist.unspoken(&self.spoken, view.version_of(&conflist.name)) {
            return Err(ChainError::Version {
                path: conflist.path.clone(),
                version: version.to_owned(),
                spoken: self.spoken.join(", "),
            });
        }
        let files = self.insert(conflist, binary).await?;
        self.load(&files, &view).await?;
        Ok(match files.binary {
            Installed::WasMissing if was_installed => Some(format!(
                "the CNI binary was gone from {} and was put back",
                real.bin_dir.display()
            )),
            Installed::Differed if was_installed => Some(format!(
                "another CNI binary lay in {} and was replaced",
                real.bin_dir.display()
            )),
            _ => None,
        })
    }

    /// Whether the runtime's folders can be reached, and where they really are.
    fn check_folders(&mut self) -> Result<Real, ChainError> {
        let mountinfo = mountinfo();
        let paths = &self.paths;
        for mount in [&paths.bin_mount, &paths.conf_mount] {
            self.mounts.check(mount, &mountinfo)?;
        }
        Ok(Real {
            bin_dir: folders::resolve(&paths.bin_dir, &paths.bin_mount, folders::BINARIES_MOUNT)?,
            conf_dir: folders::resolve(&paths.conf_dir, &paths.conf_mount, folders::CONFIG_MOUNT)?,
        })
    }

    /// What the runtime says: asked again after a while, and when the chain is not known to be as it should be.
    async fn view(&mut self, conflist: &Conflist) -> Result<RuntimeView, ChainError> {
        let same = self.status.loaded && self.status.network == conflist.name;
        if let Some((view, at)) = &self.view
            && same
            && at.elapsed() < VERIFY
        {
            return Ok(view.clone());
        }
        let view = runtime::ask(&self.paths.cri_socket).await?;
        self.view = Some((view.clone(), Instant::now()));
        Ok(view)
    }

    async fn insert(&mut self, conflist: Conflist, binary: Installed) -> Result<Files, ChainError> {
        let (conf_dir, list) = (self.paths.conf_dir.clone(), conflist.clone());
        let inserted = tokio::task::spawn_blocking(move || entry::insert(&conf_dir, &list));
        let inserted = inserted.await.map_err(|_| ChainError::Panicked)??;
        if inserted {
            // It was loaded before, so somebody else took it out.
            self.overwritten = self.status.loaded;
            tracing::info!(
                network = conflist.name,
                again = self.overwritten,
                "put the entry into the CNI chain"
            );
        }
        Ok(Files {
            conflist,
            binary,
            inserted,
        })
    }

    async fn load(&mut self, files: &Files, view: &RuntimeView) -> Result<(), ChainError> {
        self.status.network.clone_from(&files.conflist.name);
        if files.inserted || !view.has_entry() {
            self.reload_until(true)
                .await?
                .then_some(())
                .ok_or_else(|| ChainError::NotLoaded {
                    entry: files.conflist.entry(&self.paths.conf_dir),
                })?;
        }
        self.status.loaded = true;
        Ok(())
    }

    /// The condition on CDI specs, from what the runtime last said.
    async fn cdi(&mut self) -> Finding {
        if let Err(error) = cdi::link_cdi(&self.paths.cdi_link, &self.paths.cdi_dir) {
            let message = format!(
                "{} cannot be made a link to {}: {error}; remove what is there",
                self.paths.cdi_link.display(),
                self.paths.cdi_dir.display()
            );
            return Finding::no(cdi::CDI_READY, Reason::NoLink, message);
        }
        let view = match &self.view {
            Some((view, _)) => Some(view.clone()),
            None => runtime::ask(&self.paths.cri_socket).await.ok(),
        };
        let moved = self.mounts.check(&self.paths.cdi_dir, &mountinfo()).err();
        let settings = view.as_ref().and_then(|view| view.cdi.as_ref());
        cdi::finding(&self.paths.cdi_dir, settings, moved.as_ref())
    }

    /// Makes the runtime read its configurations again and waits until it has, or has not, the entry.
    async fn reload_until(&mut self, wanted: bool) -> Result<bool, ChainError> {
        let conf_dir = self.paths.conf_dir.clone();
        tokio::task::spawn_blocking(move || entry::wake_runtime(&conf_dir))
            .await
            .map_err(|_| ChainError::Panicked)??;
        let start = Instant::now();
        loop {
            let view = runtime::ask(&self.paths.cri_socket).await?;
            let has_entry = view.has_entry();
            self.view = Some((view, Instant::now()));
            if has_entry == wanted {
                return Ok(true);
            }
            if start.elapsed() >= LOAD {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the entry out of a chain in which the runtime could not carry it out. Returns whether it was there.
    async fn withdraw(&mut self) -> Result<bool, ChainError> {
        let conf_dir = self.paths.conf_dir.clone();
        let removed = tokio::task::spawn_blocking(move || entry::remove(&conf_dir));
        if !removed.await.map_err(|_| ChainError::Panicked)?? {
            return Ok(false);
        }
        tracing::warn!("took the entry out of the CNI chain: every pod of the node would fail with it");
        if self.reload_until(false).await? {
            Ok(true)
        } else {
            Err(ChainError::StillLoaded)
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
        self.view = None;
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
        tokio::task::spawn_blocking(move || binary::remove(&bin_dir))
            .await
            .map_err(|_| ChainError::Panicked)??;
        Ok(())
    }
}

/// The agent's mounts, as the kernel lists them; nothing where it does not.
fn mountinfo() -> String {
    std::fs::read_to_string(Path::new("/proc/self/mountinfo")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
