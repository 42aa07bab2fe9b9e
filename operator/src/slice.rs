//! NetworkSlice: how many pods are attached, and the finalizer that holds the slice until none is left.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, api::ListParams, runtime::controller::Action};
use railhead_crds::{
    NetworkAttachment, NetworkSlice, NetworkSliceStatus,
    names::{self, NETWORK_LABEL, QUARANTINED, SLICE_FINALIZER, SLICE_LABEL},
    reasons::Reason,
};
use thiserror::Error;
use tracing::info;

use crate::{
    conditions::{self, Said},
    controller::Category,
    known::Pod,
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
    let attachments = context.world.attachments_of(&namespace, &name);
    let pods = context.world.pods_of(&namespace, &slice.spec.network.name);
    // The watches are asked first: while they know of a holder, its end wakes this slice up again.
    if slice.metadata.deletion_timestamp.is_some()
        && write::has_finalizer(&*slice, SLICE_FINALIZER)
        && holders(&attachments, &pods).is_empty()
        && !is_held_now(&context.client, &slice).await?
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
    let contested = context.world.contested.of(&slice.spec.network.uid);
    let status = status(&slice, &attachments, &pods, contested, Timestamp::now());
    let is_new = slice.status.is_none() && slice.metadata.deletion_timestamp.is_none();
    let has_news =
        conditions::is_true(&status.conditions, "InUse") || conditions::is_true(&status.conditions, QUARANTINED);
    // Of a slice that nobody has used yet there is nothing to say, and thousands of them may come at once.
    if slice.status.as_ref() != Some(&status) && (has_news || !is_new) {
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

/// Whether anybody holds the slice, asked from the API server: what is given back must not be in use, however late the watches
/// are. One of thousands is enough, and its name.
async fn is_held_now(client: &Client, slice: &NetworkSlice) -> Result<bool, SliceError> {
    let namespace = slice.namespace().unwrap_or_default();
    let name = slice.name_any();
    let failed = |source| SliceError::ListHolders {
        name: name.clone(),
        source: Box::new(source),
    };
    let attachments: Api<NetworkAttachment> = Api::namespaced(client.clone(), &namespace);
    let of_slice = ListParams::default().labels(&format!("{SLICE_LABEL}={}", names::slice_label(&name)));
    let attached = attachments.list_metadata(&of_slice.limit(1)).await.map_err(failed)?;
    if !attached.items.is_empty() {
        return Ok(true);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let running = ListParams::default()
        .labels(&format!("{NETWORK_LABEL}={}", slice.spec.network.name))
        .fields("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed");
    let running = pods.list_metadata(&running.limit(1)).await.map_err(failed)?;
    Ok(!running.items.is_empty())
}

/// Whether a pod may hold rails: it has a node, whatever that node has said of it, and it has not ended.
fn runs(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) && !has_ended(pod)
}

fn status(
    slice: &NetworkSlice,
    attachments: &[Arc<NetworkAttachment>],
    pods: &[Arc<Pod>],
    contested: Option<String>,
    now: Timestamp,
) -> NetworkSliceStatus {
    let holders = holders(attachments, pods);
    let wired = attachments.iter().filter(|a| is_wired(a)).count();
    let mut said = vec![if holders.is_empty() {
        Said::no("InUse", Reason::NoAttachment, "no pod is attached")
    } else {
        let message = format!("{}: {}", still_attached(holders.len()), listed(&holders));
        Said::yes("InUse", Reason::PodsAttached, message)
    }];
    // With nobody left the slice goes at once, so that this is said only while somebody is waited for.
    if slice.metadata.deletion_timestamp.is_some() && !holders.is_empty() {
        said.push(Said::no(
            "Releasable",
            Reason::AttachmentsLeft,
            waits_for(attachments, holders.len()),
        ));
    }
    said.push(match contested {
        Some(why) => Said::yes(QUARANTINED, Reason::LedgerMismatch, why),
        None => Said::no(
            QUARANTINED,
            Reason::NotContested,
            "nobody else has its addresses or its VLAN",
        ),
    });
    let before = slice.status.as_ref().map_or(&[][..], |status| &status.conditions);
    NetworkSliceStatus {
        observed_generation: slice.metadata.generation,
        attached: i32::try_from(wired).unwrap_or(i32::MAX),
        conditions: conditions::merge(before, said, slice.metadata.generation, now),
    }
}

/// Nodes have to let go of it, and what to do about one that cannot.
fn waits_for(attachments: &[Arc<NetworkAttachment>], holders: usize) -> String {
    let nodes: BTreeSet<String> = attachments.iter().map(|a| a.spec.node_name.clone()).collect();
    let nodes: Vec<String> = nodes.into_iter().collect();
    let on = if nodes.is_empty() {
        String::new()
    } else {
        format!(" on {}", listed(&nodes))
    };
    format!(
        "waits for {}{on}; of a node that does not come back it is free when its Node is deleted or has the \
         taint node.kubernetes.io/out-of-service",
        still_attached(holders),
    )
}

#[cfg(test)]
mod tests {
    use http::Method;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::runtime::{reflector::store, watcher::Event};

    use super::*;
    use crate::{grouped::Grouped, network::fixtures, test_api, world};

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
        let status = status(&fixtures::slice(2), &attachments, &[], None, Timestamp::UNIX_EPOCH);
        assert_eq!(status.attached, 1);
        let in_use = conditions::find(&status.conditions, "InUse").unwrap();
        assert_eq!(in_use.message, "2 pods still attached: llama-0, llama-1");
        assert_eq!(
            (in_use.status.as_str(), in_use.reason.as_str()),
            ("True", "PodsAttached")
        );
        assert_eq!(conditions::find(&status.conditions, "Releasable"), None, "nobody asked");
    }

    #[test]
    fn a_slice_that_is_deleted_says_which_nodes_have_to_let_go_of_it() {
        let mut slice = fixtures::slice(2);
        slice.metadata.generation = Some(1);
        slice.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let status = status(
            &slice,
            &[fixtures::attachment(0, true)],
            &[],
            None,
            Timestamp::UNIX_EPOCH,
        );
        let releasable = conditions::find(&status.conditions, "Releasable").unwrap();
        assert_eq!(
            (releasable.status.as_str(), releasable.reason.as_str()),
            ("False", "AttachmentsLeft")
        );
        assert!(
            releasable.message.contains("1 pod still attached on node1"),
            "{}",
            releasable.message
        );
        assert_eq!(status.observed_generation, Some(1));
    }

    #[test]
    fn a_slice_of_which_somebody_else_has_a_part_is_quarantined_until_that_ends() {
        let mut slice = fixtures::slice(2);
        let now = Timestamp::UNIX_EPOCH;
        slice.status = Some(status(&slice, &[], &[], Some("team-b/qwen has it too".to_owned()), now));
        assert_eq!(slice.quarantine(), Some("team-b/qwen has it too"));
        let free = status(&slice, &[], &[], None, now);
        let in_use = conditions::find(&free.conditions, "InUse").unwrap();
        assert_eq!(
            (in_use.status.as_str(), in_use.reason.as_str()),
            ("False", "NoAttachment")
        );
        slice.status = Some(free);
        assert_eq!(slice.quarantine(), None);
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

    /// The API server of a slice that is going: with or without an attachment that the watches do not know.
    fn answer(path: &str, is_held: bool) -> serde_json::Value {
        let items = if is_held && path.ends_with("/networkattachments") {
            serde_json::json!([{"metadata": {"name": "llama-0"}}])
        } else {
            serde_json::json!([])
        };
        match path.rsplit('/').next() {
            Some("networkattachments" | "pods") => serde_json::json!({"metadata": {}, "items": items}),
            _ => serde_json::to_value(fixtures::slice(2)).unwrap_or_default(),
        }
    }

    #[tokio::test]
    async fn a_slice_that_goes_asks_the_api_server_only_when_the_watches_know_of_no_holder() {
        let mut slice = fixtures::slice(2);
        slice.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::UNIX_EPOCH,
        ));
        let slice = Arc::new(slice);
        let unheld = |path: &str, _| Some(answer(path, false));
        let held = |path: &str, _| Some(answer(path, true));
        let clients: [fn(&str, serde_json::Value) -> Option<serde_json::Value>; 2] = [unheld, held];
        for (answers, known, reads, let_go) in [
            (clients[0], true, 0, false),
            (clients[0], false, 2, true),
            (clients[1], false, 1, false),
        ] {
            let (attachments, mut attachments_in) = store();
            let attachments = Grouped::new(attachments, world::slice_of_attachment);
            if known {
                let event = Event::Apply((*fixtures::attachment(0, true)).clone());
                attachments.follow(&event);
                attachments_in.apply_watcher_event(&event);
            }
            let world = World {
                attachments,
                ..world::tests::empty()
            };
            let (client, asked) = test_api::client(answers);
            let context = Context {
                client,
                world,
                resync: Duration::from_mins(5),
            };
            reconcile(Arc::clone(&slice), Arc::new(context)).await.unwrap();
            assert_eq!(test_api::names(&asked, &Method::GET).len(), reads, "known: {known}");
            let name = slice.name_any();
            assert_eq!(
                test_api::names(&asked, &Method::PATCH).contains(&name),
                let_go,
                "known: {known}"
            );
        }
    }
}
