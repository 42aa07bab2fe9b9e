//! Sandboxes that are still wired: the CNI binary is run for them, so that there is one code that unwires.

use std::{path::PathBuf, process::Stdio};

use railhead_plan::{AttachmentRecord, Layout, PodRef};
use tokio::io::AsyncWriteExt;

use super::ReleaseError;
use crate::{agent::Agent, claims::journals, limits::DEL};

/// Configuration for DEL outside of a chain.
const DEL_CONFIG: &[u8] = br#"{"cniVersion":"1.0.0","name":"railhead","type":"railhead"}"#;

/// Runs DEL for every sandbox of the pod that is still wired: the runtime's own DEL never came.
pub(crate) async fn unwire(agent: &Agent, pod: &PodRef) -> Result<(), ReleaseError> {
    for container in sandboxes(&agent.layout, &pod.uid) {
        tracing::warn!(
            pod = format!("{}/{}", pod.namespace, pod.name),
            container,
            "the runtime sent no DEL for this sandbox; taking its functions home"
        );
        del(agent, Some(pod), &container).await?;
        if agent.layout.journal(&container).exists() || agent.layout.former_journal(&container).exists() {
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

/// Whether a sandbox of the pod holds functions.
pub(crate) fn is_wired(layout: &Layout, pod_uid: &str) -> bool {
    !sandboxes(layout, pod_uid).is_empty()
}

/// Container ids of the pod's sandboxes that have a record or a journal.
fn sandboxes(layout: &Layout, pod_uid: &str) -> Vec<String> {
    let record = railhead_store::read::<AttachmentRecord>(&layout.record(pod_uid));
    let mut sandboxes: Vec<String> = record.into_iter().map(|record| record.container_id).collect();
    for journal in journals::all(layout) {
        if journal.is_of_pod(pod_uid) && !sandboxes.contains(&journal.container) {
            sandboxes.push(journal.container);
        }
    }
    sandboxes
}

/// A journal of this boot, if there is one: its sandbox is wired.
pub(crate) fn journal_of_boot(layout: &Layout, boot_id: &str) -> Option<PathBuf> {
    let journals = journals::all(layout);
    journals
        .into_iter()
        .find(|journal| journal.is_of_boot(boot_id))
        .map(|journal| journal.path)
}

/// Runs DEL for the journals of earlier boots: there is nothing left to undo, and the binary removes the files.
pub(crate) async fn earlier_journals(agent: &Agent) -> Result<(), ReleaseError> {
    let mut failed = None;
    for journal in journals::all(&agent.layout) {
        if !journal.is_of_boot(&agent.boot_id) {
            let container = &journal.container;
            match del(agent, None, container).await {
                Ok(()) => tracing::info!(container, "removed a journal of an earlier boot"),
                // One sandbox's trouble must not keep what another holds.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

pub(super) async fn del(agent: &Agent, pod: Option<&PodRef>, container: &str) -> Result<(), ReleaseError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plans;

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
