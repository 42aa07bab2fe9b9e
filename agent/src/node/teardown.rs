//! Gives back everything that Railhead changed on the node: when the Fabric says `teardown: true`, and when no Fabric
//! selects the node any more.
//!
//! Order: no claim may come any more (kubelet, scheduler), the entry, the functions, the binary. Refused while a pod has
//! something: a plan, also one that cannot be read, or a journal of this boot.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use railhead_crds::{NodeNetwork, NodeNetworkStatus, reasons::Reason};
use railhead_host::FileLock;
use railhead_plan::{AttachmentPlan, Layout};
use railhead_vf::{self as vf, Host, HostError, Originals, OriginalsError, OwedError};
use thiserror::Error;

use super::give_back::{self, GiveBackError};
use crate::{
    agent::{Agent, Phase},
    chain::{Chain, ChainError},
    claims::{
        plans::{self, PlansError},
        release::sandboxes,
    },
    conditions::Finding,
    publish::{self, PublishError},
};

/// Type of the condition that the uninstall hook waits for.
const TORN_DOWN: &str = "TornDown";
/// How long a Prepare may hold the node's lock.
const NODE_LOCK: Duration = Duration::from_secs(10);

/// How long functions that nobody gave back are tried, and how often.
const TAKE_BACK: Duration = Duration::from_mins(1);
const TAKE_BACK_AGAIN: Duration = Duration::from_secs(2);

/// Why the node is not as before yet. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
enum TeardownError {
    #[error("{count} pods are attached on this node ({pods}); end them first")]
    Attached { count: usize, pods: String },
    #[error(
        "there are {count} files in {folder} that tell of pods and cannot be read; end the pods that they name first"
    )]
    Unreadable { count: usize, folder: PathBuf },
    #[error("the journal {path} tells of a sandbox that is still wired; the garbage collector gives it back")]
    Journal { path: PathBuf },
    #[error("remove {path}: {source}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Plans(#[from] PlansError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Port(#[from] GiveBackError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Originals(#[from] OriginalsError),
    #[error(transparent)]
    Owed(#[from] OwedError),
    #[error("take the node's lock: {0}")]
    Lock(#[from] railhead_host::LockError),
    #[error("the agent's work on the node panicked; see its log")]
    Panicked,
}

impl TeardownError {
    /// Whether pods have to end first.
    fn waits_for_pods(&self) -> bool {
        matches!(
            self,
            Self::Attached { .. } | Self::Unreadable { .. } | Self::Journal { .. }
        )
    }
}

/// The giving back, over as many passes as it takes.
#[derive(Debug, Default)]
pub(super) struct Teardown {
    /// What could not be given back and never will be, in words.
    left: Vec<String>,
}

impl Teardown {
    /// One pass, where the Fabric says so. Returns whether nothing is left to do.
    pub(super) async fn pass(&mut self, agent: &Arc<Agent>, network: &NodeNetwork, chain: &mut Chain) -> bool {
        let given_back = self.give_back(agent, chain).await;
        let done = given_back.is_ok();
        let findings = findings(&given_back, &self.left);
        // Also when nothing was left to do: who asks now may have missed it, or has made the NodeNetwork anew.
        let held = super::holdings::held(agent, network);
        super::report(agent, network, NodeNetworkStatus::default(), findings, held).await;
        done
    }

    /// One pass, where no fabric selects the node any more, or its Fabric was deleted. Returns whether nothing is left to do.
    pub(super) async fn leave(&mut self, agent: &Arc<Agent>, chain: &mut Chain) -> bool {
        match self.give_back(agent, chain).await {
            Ok(()) => true,
            // Slowly: pods may run for days.
            Err(error) => matches!(error, TeardownError::Attached { .. }),
        }
    }

    /// Tears down unless that was done, and tells the others in the agent how far it is.
    async fn give_back(&mut self, agent: &Arc<Agent>, chain: &mut Chain) -> Result<(), TeardownError> {
        let phase = *agent.phase.borrow();
        if phase == Phase::TornDown {
            return Ok(());
        }
        if phase != Phase::WaitingForPods {
            // Prepare refuses from here on.
            agent.phase.send_replace(Phase::TearingDown);
        }
        match teardown(agent, chain).await {
            Ok(left) => {
                tracing::info!(?left, "nothing else of Railhead is left on this node");
                self.left = left;
                agent.inventory.send_replace(None);
                agent.phase.send_replace(Phase::TornDown);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the node is not as before yet");
                if error.waits_for_pods() {
                    agent.phase.send_replace(Phase::WaitingForPods);
                }
                Err(error)
            }
        }
    }
}

/// What the NodeNetwork says of it.
fn findings(given_back: &Result<(), TeardownError>, left: &[String]) -> Vec<Finding> {
    let torn_down = match given_back {
        Ok(()) if left.is_empty() => Finding::yes(TORN_DOWN, Reason::TornDown, "the node is as before"),
        Ok(()) => Finding::yes(TORN_DOWN, Reason::TornDown, left.join("; ")),
        Err(error) => {
            let reason = match error {
                TeardownError::Attached { .. } => Reason::AttachmentsLeft,
                _ => Reason::Failed,
            };
            Finding::no(TORN_DOWN, reason, error.to_string())
        }
    };
    let not_ready = Finding::no(
        "Ready",
        Reason::TearingDown,
        "what Railhead changed on the node is given back",
    );
    vec![not_ready, torn_down]
}

/// Returns what stays as it is, in words.
async fn teardown(agent: &Arc<Agent>, chain: &mut Chain) -> Result<Vec<String>, TeardownError> {
    publish::withdraw(&agent.client, &agent.node).await?;
    let worker = agent.clone();
    tokio::task::spawn_blocking(move || {
        // A Prepare that came before the phase has written its plan when it lets the lock go; a later one is refused.
        let _lock = FileLock::take(&worker.layout.node_lock(), NODE_LOCK)?;
        refuse_while_attached(&worker)
    })
    .await
    .map_err(|_| TeardownError::Panicked)??;
    chain.remove_entry().await?;
    let worker = agent.clone();
    let left = tokio::task::spawn_blocking(move || give_back_ports(&worker))
        .await
        .map_err(|_| TeardownError::Panicked)??;
    chain.remove_binary().await?;
    Ok(left)
}

fn refuse_while_attached(agent: &Agent) -> Result<(), TeardownError> {
    let plans = plans::all(&agent.layout)?;
    refuse_with_plans(&plans)?;
    let count = plans::files(&agent.layout)?;
    if count > plans.len() {
        return Err(TeardownError::Unreadable {
            count: count - plans.len(),
            folder: agent.layout.plans(),
        });
    }
    match sandboxes::journal_of_boot(&agent.layout, &agent.boot_id) {
        Some(path) => Err(TeardownError::Journal { path }),
        None => Ok(()),
    }
}

fn refuse_with_plans(plans: &[AttachmentPlan]) -> Result<(), TeardownError> {
    if plans.is_empty() {
        return Ok(());
    }
    let pods: Vec<String> = plans
        .iter()
        .take(5)
        .map(|plan| format!("{}/{}", plan.pod.namespace, plan.pod.name))
        .collect();
    Err(TeardownError::Attached {
        count: plans.len(),
        pods: pods.join(", "),
    })
}

/// Returns what stays as it is, in words.
fn give_back_ports(agent: &Agent) -> Result<Vec<String>, TeardownError> {
    let _lock = FileLock::take(&agent.layout.node_lock(), NODE_LOCK)?;
    // Again under the lock under which Prepare writes plans.
    refuse_while_attached(agent)?;
    let originals = agent.originals();
    let mut host = agent.host()?;
    vf::put_autoprobe_back(&host)?;
    take_all_back(&originals, &mut host);
    // Before ports go down: some set no rate then.
    let owed = vf::settle(&mut host, &originals, || Some(BTreeSet::new()))?;
    let mut stays = Vec::new();
    for port in originals.ports()? {
        if host.sysfs.exists(&port.pci_address) {
            stays.extend(give_back::port(&originals, &mut host, &port)?);
        }
        originals.forget_port(&port.pci_address)?;
    }
    // The port may be broken for good; nobody could uninstall if this were an error.
    let rates = owed
        .iter()
        .filter(|original| host.sysfs.exists(&original.pci_address))
        .map(|original| {
            format!(
                "function {} keeps the rate of a pod that has ended, since its port {} sets none without a link; set it by hand",
                original.pci_address, original.pf_pci_address
            )
        });
    stays.extend(rates);
    // What could not be taken back above is tried no more, for the same reason. Their records stay: an agent that is installed
    // again before the next boot gives them back.
    let mut lent = originals.lent()?;
    lent.retain(|vf| host.sysfs.exists(vf));
    stays.extend(lent.iter().map(|vf| {
        format!("function {vf} is not as it was before a pod had it; the agent's log says why; bind it to its driver again by hand")
    }));
    originals.forget_all_vfs_but(&lent)?;
    remove_locks(&agent.layout)?;
    Ok(stays)
}

/// Gives back what pods had and nobody gave back. What does not work may pass by itself: a driver is busy, udev has the device open,
/// an interface is on its way.
fn take_all_back(originals: &Originals, host: &mut Host) {
    let until = Instant::now() + TAKE_BACK;
    while let Err(error) = originals.take_all_back(host) {
        tracing::warn!(%error, "functions that pods had are not given back yet");
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(TAKE_BACK_AGAIN);
    }
}

/// Nobody waits for one of them but a Prepare that is refused as soon as it has it.
fn remove_locks(layout: &Layout) -> Result<(), TeardownError> {
    let folder = layout.locks();
    let error = |path: &Path| {
        let path = path.to_owned();
        move |source| TeardownError::Remove { path, source }
    };
    for entry in fs::read_dir(&folder).map_err(error(&folder))? {
        let path = entry.map_err(error(&folder))?.path();
        match fs::remove_file(&path) {
            // The ticket of one who waited.
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(error(&path))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
