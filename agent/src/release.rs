//! Gives back what a claim holds on this node: for Unprepare, for the garbage collector and for a Prepare that failed.
//!
//! Order: the sandbox (through the CNI binary), the functions, the CDI spec, the index, the plan. The plan goes last: while
//! it exists its functions are nobody else's, and whatever was interrupted is found again. Nothing fails because something
//! is gone already.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use railhead_crds::{NetworkAttachment, names};
use railhead_host::{FunctionLock, LockError};
use railhead_plan::{AttachmentPlan, AttachmentRecord, Layout, PodRef};
use thiserror::Error;
use tokio::io::AsyncWriteExt;

use crate::{
    agent::Agent,
    cdi::{self, CdiError},
    damaged,
    functions::{self, Host, HostError, OriginalsError, RestoreError},
    plans::{self, PlansError},
};

/// How long another agent, or the garbage collector, may be at work on the same claim.
const CLAIM_LOCK: Duration = Duration::from_secs(30);
/// How long a CNI operation may hold a function.
const FUNCTION_LOCK: Duration = Duration::from_secs(15);
/// How long DEL may take.
const DEL: Duration = Duration::from_secs(30);
/// Configuration for DEL outside of a chain.
const DEL_CONFIG: &[u8] = br#"{"cniVersion":"1.0.0","name":"railhead","type":"railhead"}"#;

/// Why something is not given back yet. It is tried again: by kubelet, and every minute by the garbage collector.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Somebody else is at it.
    #[error("claim {claim}: {source}")]
    Lock {
        /// UID of the claim.
        claim: String,
        /// What happened.
        #[source]
        source: LockError,
    },
    /// Plans could not be read or removed.
    #[error(transparent)]
    Plans(#[from] PlansError),
    /// The CNI binary could not be run.
    #[error("run {binary} DEL for sandbox {container}: {source}")]
    Run {
        /// The binary.
        binary: PathBuf,
        /// Container id.
        container: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// DEL did not end.
    #[error("{binary} DEL for sandbox {container} did not end within {} s", DEL.as_secs())]
    Slow {
        /// The binary.
        binary: PathBuf,
        /// Container id.
        container: String,
    },
    /// DEL failed.
    #[error("{binary} DEL for sandbox {container}: {message}")]
    Del {
        /// The binary.
        binary: PathBuf,
        /// Container id.
        container: String,
        /// What it printed.
        message: String,
    },
    /// DEL could not take everything out of the pod yet.
    #[error(
        "sandbox {container} of pod {pod} still holds its functions (its network namespace is in use); look for processes of the pod on the node"
    )]
    StillWired {
        /// Namespace and name.
        pod: String,
        /// Container id.
        container: String,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The record of an original state.
    #[error(transparent)]
    Originals(#[from] OriginalsError),
    /// A function is not as it was found.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The CDI spec could not be removed.
    #[error(transparent)]
    Cdi(#[from] CdiError),
    /// The indices of this node could not be listed.
    #[error("list the NetworkAttachments of node {node}: {source}")]
    List {
        /// This node.
        node: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The index could not be given back.
    #[error("delete NetworkAttachment {namespace}/{name}: {source}")]
    Attachment {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A bug.
    #[error("the agent's work on the node panicked; see its log")]
    Panicked,
}

/// Holds off everybody else who would work on the same claim.
pub async fn lock(agent: &Arc<Agent>, claim_uid: &str) -> Result<FunctionLock, ReleaseError> {
    // Sixteen locks are enough to keep claims apart, and as many files stay in the folder.
    let shard = claim_uid.chars().last().filter(char::is_ascii_alphanumeric);
    let path = agent
        .layout
        .locks()
        .join(format!("claim-{}.lock", shard.unwrap_or('x')));
    tokio::task::spawn_blocking(move || FunctionLock::take(&path, CLAIM_LOCK))
        .await
        .map_err(|_| ReleaseError::Panicked)?
        .map_err(|source| ReleaseError::Lock {
            claim: claim_uid.to_owned(),
            source,
        })
}

/// Gives back everything of a claim. Without a plan there is nothing but perhaps a CDI spec, or a plan that cannot be read.
pub async fn claim(agent: &Arc<Agent>, claim_uid: &str) -> Result<(), ReleaseError> {
    let _lock = lock(agent, claim_uid).await?;
    let Some(plan) = plans::of_claim(&agent.layout, claim_uid)? else {
        damaged::release(agent, claim_uid).await?;
        return Ok(cdi::remove(&agent.layout, claim_uid)?);
    };
    unwire(agent, &plan.pod).await?;
    restore(agent, &plan).await?;
    cdi::remove(&agent.layout, claim_uid)?;
    let name = names::attachment(&plan.slice_name, plan.index);
    attachment(&agent.client, &plan.pod.namespace, &name, &plan.pod.uid).await?;
    plans::remove(&agent.layout, &plan.pod.uid)?;
    tracing::info!(
        pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
        claim = claim_uid,
        index = plan.index,
        "gave back index and functions"
    );
    agent.attachments_changed.notify_one();
    agent.node_changed.notify_one();
    Ok(())
}

/// Runs DEL for every sandbox of the pod that is still wired: the runtime's own DEL never came.
pub(crate) async fn unwire(agent: &Agent, pod: &PodRef) -> Result<(), ReleaseError> {
    for container in sandboxes(&agent.layout, &pod.uid) {
        tracing::warn!(
            pod = format!("{}/{}", pod.namespace, pod.name),
            container,
            "the runtime sent no DEL for this sandbox; taking its functions home"
        );
        del(agent, Some(pod), &container).await?;
        if agent.layout.journal(&container).exists() {
            return Err(ReleaseError::StillWired {
                pod: format!("{}/{}", pod.namespace, pod.name),
                container,
            });
        }
    }
    // A folder without a readable record has no sandbox to name any more.
    let folder = agent.layout.attachment(&pod.uid);
    if folder.exists()
        && let Err(error) = std::fs::remove_dir_all(&folder)
    {
        tracing::warn!(folder = %folder.display(), %error, "an attachment folder could not be removed");
    }
    Ok(())
}

/// Container ids of the pod's sandboxes that have a record or a journal.
fn sandboxes(layout: &Layout, pod_uid: &str) -> Vec<String> {
    let mut sandboxes: Vec<String> = std::fs::read(layout.record(pod_uid))
        .ok()
        .and_then(|bytes| AttachmentRecord::parse(&bytes).ok())
        .map(|record| record.container_id)
        .into_iter()
        .collect();
    for (container, journal) in journals(layout) {
        // The journal's format is the CNI binary's own; that it names its pod's UID is all that is needed here.
        if journal.contains(&format!("\"{pod_uid}\"")) && !sandboxes.contains(&container) {
            sandboxes.push(container);
        }
    }
    sandboxes
}

/// Container id and text of every journal.
fn journals(layout: &Layout) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(layout.journals());
    let of = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let container = name.strip_suffix(".json").filter(|name| !name.starts_with('.'))?;
        Some((container.to_owned(), std::fs::read_to_string(entry.path()).ok()?))
    };
    entries.into_iter().flatten().flatten().filter_map(of).collect()
}

/// A journal of this boot, if there is one: its sandbox is wired.
pub(crate) fn journal_of_boot(layout: &Layout, boot_id: &str) -> Option<PathBuf> {
    journals(layout)
        .into_iter()
        .find(|(_, journal)| journal.contains(&format!("\"{boot_id}\"")))
        .map(|(container, _)| layout.journal(&container))
}

/// Runs DEL for the journals of earlier boots: there is nothing left to undo, and the binary removes the files.
pub async fn earlier_journals(agent: &Agent) -> Result<(), ReleaseError> {
    let mut failed = None;
    for (container, journal) in journals(&agent.layout) {
        if !journal.contains(&format!("\"{}\"", agent.boot_id)) {
            match del(agent, None, &container).await {
                Ok(()) => tracing::info!(container, "removed a journal of an earlier boot"),
                // One sandbox's trouble must not keep what another holds.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Runs DEL for every sandbox whose network namespace is gone: the runtime deletes it after its own DEL, so none came.
pub async fn lost_sandboxes(agent: &Agent) -> Result<(), ReleaseError> {
    let mut failed = None;
    for (container, journal) in journals(&agent.layout) {
        if let Some(netns) = lost_namespace(&journal) {
            tracing::warn!(
                container,
                netns,
                "the runtime took a sandbox away without DEL; taking its functions home"
            );
            if let Err(error) = del(agent, None, &container).await {
                failed = failed.or(Some(error));
            }
            agent.attachments_changed.notify_one();
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The namespace that a journal names, if it was bound where runtimes bind them and is there no more.
fn lost_namespace(journal: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Sandbox {
        netns: String,
    }
    let netns = serde_json::from_str::<Sandbox>(journal).ok()?.netns;
    let bound = ["/var/run/netns/", "/run/netns/"]
        .iter()
        .any(|folder| netns.starts_with(folder));
    // Any error but its absence says nothing about it.
    let gone = matches!(std::path::Path::new(&netns).try_exists(), Ok(false));
    (bound && gone).then_some(netns)
}

async fn del(agent: &Agent, pod: Option<&PodRef>, container: &str) -> Result<(), ReleaseError> {
    let binary = &agent.cni_binary;
    let run = |source| ReleaseError::Run {
        binary: binary.clone(),
        container: container.to_owned(),
        source,
    };
    let mut child = tokio::process::Command::new(binary)
        .env_clear()
        .env("CNI_COMMAND", "DEL")
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", "")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", binary.parent().unwrap_or(binary))
        .envs(pod.map(|pod| ("CNI_ARGS", cni_args(pod))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A binary that ends before it has read everything says why on stdout.
        let _ = stdin.write_all(DEL_CONFIG).await;
    }
    let output = tokio::time::timeout(DEL, child.wait_with_output())
        .await
        .map_err(|_| ReleaseError::Slow {
            binary: binary.clone(),
            container: container.to_owned(),
        })?
        .map_err(run)?;
    if output.status.success() {
        return Ok(());
    }
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let message = format!("{}: {} {}", output.status, said(&output.stdout), said(&output.stderr));
    Err(ReleaseError::Del {
        binary: binary.clone(),
        container: container.to_owned(),
        message,
    })
}

fn cni_args(pod: &PodRef) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.uid
    )
}

/// Restores all functions of a plan. A reboot has done it already for plans of an earlier boot.
async fn restore(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<(), ReleaseError> {
    if plan.boot_id != agent.boot_id {
        return Ok(());
    }
    let tasks: Vec<_> = plan
        .rails
        .iter()
        .map(|rail| {
            let (agent, plan) = (agent.clone(), agent.layout.plan(&plan.pod.uid));
            let address = rail.vf.pci_address.clone();
            tokio::task::spawn_blocking(move || restore_function(&agent, &address, plan))
        })
        .collect();
    let mut failed = None;
    for task in tasks {
        match task.await.map_err(|_| ReleaseError::Panicked) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn restore_function(agent: &Agent, address: &str, plan: PathBuf) -> Result<(), ReleaseError> {
    let Ok(function) = address.parse() else {
        // No function has such an address, so none was touched.
        return Ok(());
    };
    let mut host = Host::open(agent.sysfs())?;
    if !host.sysfs.exists(&function) {
        return Ok(());
    }
    let path = agent.layout.function_lock(address);
    let _lock = FunctionLock::take(&path, FUNCTION_LOCK).map_err(|source| ReleaseError::Lock {
        claim: address.to_owned(),
        source,
    })?;
    let original = agent
        .originals()
        .function(&function)?
        .ok_or(OriginalsError::Missing { function, plan })?;
    let owed = functions::restore(&mut host, &original)?;
    Ok(agent.originals().owe_rate(&original, owed)?)
}

/// Deletes the attachment `name` if it is the pod's: the index is free for others then.
pub async fn attachment(client: &Client, namespace: &str, name: &str, pod_uid: &str) -> Result<(), ReleaseError> {
    let api: Api<NetworkAttachment> = Api::namespaced(client.clone(), namespace);
    let error = |source| ReleaseError::Attachment {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let Some(found) = api.get_opt(name).await.map_err(error)? else {
        return Ok(());
    };
    if found.spec.pod_uid != pod_uid {
        return Ok(());
    }
    let same = DeleteParams::default().preconditions(Preconditions {
        uid: found.metadata.uid,
        resource_version: None,
    });
    match api.delete(name, &same).await {
        Ok(_) => Ok(()),
        // Gone, or already somebody else's of the same name.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(error(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_that_was_bound_and_is_gone_is_lost() {
        let journal = |netns: &str| serde_json::json!({"version": 1, "netns": netns}).to_string();
        assert!(lost_namespace(&journal("/var/run/netns/cni-never-was")).is_some());
        assert!(lost_namespace(&journal("/proc/1/ns/net")).is_none());
        assert!(lost_namespace("{").is_none());
    }

    #[test]
    fn sandboxes_are_found_by_record_and_by_journal_and_only_those_of_the_pod() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        plans::make_folders(&layout).unwrap();
        assert!(sandboxes(&layout, "uid-1").is_empty());
        std::fs::create_dir_all(layout.attachment("uid-1")).unwrap();
        let record = serde_json::json!({
            "version": 1, "containerId": "c1", "pod": {"namespace": "a", "name": "p", "uid": "uid-1"},
            "network": {"name": "n", "uid": "u"}, "sliceName": "s", "index": 0, "pods": 1,
            "wiredInMs": 1, "rails": [],
        });
        std::fs::write(layout.record("uid-1"), record.to_string()).unwrap();
        for (container, pod) in [("c1", "uid-1"), ("c2", "uid-1"), ("c3", "uid-11")] {
            let journal = serde_json::json!({"version": 1, "podUid": pod}).to_string();
            std::fs::write(layout.journal(container), journal).unwrap();
        }
        let mut found = sandboxes(&layout, "uid-1");
        found.sort();
        assert_eq!(found, ["c1", "c2"]);
    }
}
