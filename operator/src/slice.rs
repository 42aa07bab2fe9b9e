//! NetworkSlice: how many pods are attached, and the finalizer that holds the slice until none is left.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::ListParams, runtime::controller::Action};
use railhead_crds::{
    NetworkAttachment, NetworkSlice, NetworkSliceStatus,
    names::{NETWORK_LABEL, SLICE_FINALIZER},
};
use thiserror::Error;
use tracing::info;

use crate::{
    conditions::{self, Said},
    controller::Category,
    network::{is_wired, listed, still_attached},
    pod::has_ended,
    world::World,
    write,
};

const MANAGER: &str = "railhead/slice";

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) resync: Duration,
}

/// Why a slice could not be looked after. Tried again.
#[derive(Debug, Error)]
pub(crate) enum SliceError {
    #[error("cannot list who holds NetworkSlice {name}")]
    ListHolders { name: String, source: Box<kube::Error> },
    #[error("cannot take the finalizer from NetworkSlice {name}")]
    Finalizer { name: String, source: Box<kube::Error> },
    #[error("cannot write the status of NetworkSlice {name}")]
    WriteStatus { name: String, source: Box<kube::Error> },
}

impl Category for SliceError {
    fn category(&self) -> &'static str {
        match self {
            Self::ListHolders { .. } => "holders",
            Self::Finalizer { .. } => "finalizer",
            Self::WriteStatus { .. } => "status",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::ListHolders { source, .. } | Self::Finalizer { source, .. } | Self::WriteStatus { source, .. } => {
                write::is_conflict(source) || write::is_not_found(source)
            }
        }
    }
}

pub(crate) async fn reconcile(slice: Arc<NetworkSlice>, context: Arc<Context>) -> Result<Action, SliceError> {
    let namespace = slice.namespace().unwrap_or_default();
    let name = slice.name_any();
    let api: Api<NetworkSlice> = Api::namespaced(context.client.clone(), &namespace);
    if slice.metadata.deletion_timestamp.is_some()
        && write::has_finalizer(&*slice, SLICE_FINALIZER)
        && holders_now(&context.client, &slice).await?.is_empty()
    {
        info!(slice = name, namespace, "no pod is attached any more, the slice goes");
        write::remove_finalizer(&api, &*slice, SLICE_FINALIZER)
            .await
            .map_err(|source| SliceError::Finalizer {
                name,
                source: Box::new(source),
            })?;
        return Ok(Action::await_change());
    }
    let attachments = context.world.attachments_of(&namespace, &name);
    let pods = context.world.pods_of(&namespace, &slice.spec.network.name);
    let status = status(&slice, &attachments, &pods, Timestamp::now());
    if slice.status.as_ref() != Some(&status) {
        write::status(&api, &name, MANAGER, &status)
            .await
            .map_err(|source| SliceError::WriteStatus {
                name,
                source: Box::new(source),
            })?;
    }
    Ok(Action::requeue(context.resync))
}

/// The pods that hold the slice: those with an attachment, and those on a node with its network's label. The second kind is there
/// for pods that are being wired, and for attachments that somebody took away by force.
pub(crate) fn holders(attachments: &[Arc<NetworkAttachment>], pods: &[Arc<Pod>]) -> Vec<String> {
    let attached = attachments.iter().map(|a| a.spec.pod_name.clone());
    let running = pods.iter().filter(|pod| runs(pod)).map(|pod| pod.name_any());
    let names: BTreeSet<String> = attached.chain(running).collect();
    names.into_iter().collect()
}

/// The same, asked from the API server: what is given back must not be in use, however late the watches are.
async fn holders_now(client: &Client, slice: &NetworkSlice) -> Result<Vec<String>, SliceError> {
    let namespace = slice.namespace().unwrap_or_default();
    let name = slice.name_any();
    let failed = |source| SliceError::ListHolders {
        name: name.clone(),
        source: Box::new(source),
    };
    let attachments: Api<NetworkAttachment> = Api::namespaced(client.clone(), &namespace);
    let all = attachments.list(&ListParams::default()).await.map_err(failed)?;
    let attachments: Vec<_> = all
        .into_iter()
        .filter(|attachment| attachment.spec.slice_name == name)
        .map(Arc::new)
        .collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let labelled = ListParams::default().labels(&format!("{NETWORK_LABEL}={}", slice.spec.network.name));
    let pods: Vec<_> = pods
        .list(&labelled)
        .await
        .map_err(failed)?
        .into_iter()
        .map(Arc::new)
        .collect();
    Ok(holders(&attachments, &pods))
}

/// Whether a pod may hold rails: it has a node, whatever that node has said of it, and it has not ended.
fn runs(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) && !has_ended(pod)
}

fn status(
    slice: &NetworkSlice,
    attachments: &[Arc<NetworkAttachment>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> NetworkSliceStatus {
    let holders = holders(attachments, pods);
    let wired = attachments.iter().filter(|a| is_wired(a)).count();
    let said = if holders.is_empty() {
        vec![
            Said::no("InUse", "NoAttachment", "no pod is attached"),
            Said::yes("Releasable", "NoAttachment", "the slice goes with its network at once"),
        ]
    } else {
        let message = format!("{}: {}", still_attached(holders.len()), listed(&holders));
        vec![
            Said::yes("InUse", "PodsAttached", message.clone()),
            Said::no("Releasable", "PodsAttached", message),
        ]
    };
    let before = slice.status.as_ref().map_or(&[][..], |status| &status.conditions);
    NetworkSliceStatus {
        attached: i32::try_from(wired).unwrap_or(i32::MAX),
        conditions: conditions::merge(before, said, slice.metadata.generation, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fixtures;

    #[test]
    fn a_pod_that_still_runs_holds_the_slice_even_when_its_attachment_is_gone() {
        let mut running = fixtures::pod(0);
        running.spec = serde_json::from_value(serde_json::json!({"nodeName": "node1", "containers": []})).unwrap();
        let pods = [Arc::new(running), Arc::new(fixtures::pod(1))];
        assert_eq!(holders(&[], &pods), ["llama-0"]);
        assert_eq!(
            holders(&[fixtures::attachment(0, true)], &pods),
            ["llama-0"],
            "counted once"
        );
    }

    #[test]
    fn attached_counts_wired_pods_and_in_use_counts_all() {
        let attachments = [fixtures::attachment(0, true), fixtures::attachment(1, false)];
        let status = status(&fixtures::slice(2), &attachments, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(status.attached, 1);
        let in_use = conditions::find(&status.conditions, "InUse").unwrap();
        assert_eq!(in_use.message, "2 pods still attached: llama-0, llama-1");
        assert!(!conditions::is_true(&status.conditions, "Releasable"));
    }

    #[test]
    fn a_pod_with_a_node_holds_the_slice_until_it_has_ended() {
        let pod = |node: Option<&str>, phase: Option<&str>| -> Pod {
            serde_json::from_value(serde_json::json!({
                "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
            }))
            .unwrap()
        };
        assert!(
            runs(&pod(Some("node1"), Some("Pending"))),
            "its sandbox may be being wired"
        );
        assert!(runs(&pod(Some("node1"), Some("Running"))));
        assert!(runs(&pod(Some("node1"), None)));
        assert!(!runs(&pod(None, Some("Pending"))));
        assert!(!runs(&pod(Some("node1"), Some("Succeeded"))));
    }
}
