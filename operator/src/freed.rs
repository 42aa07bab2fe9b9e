//! Wakes the pods that wait on a node for an index that was given back.
//!
//! A claim whose index another pod holds cannot be prepared. kubelet counts that as no failure of the pod's sync and comes
//! again only with its next periodic one, 60 to 90 s later (kubernetes 1.36, `kuberuntime_manager.go` `SyncPod`, `pod_workers.go`
//! `completeWork`). But a pod whose annotations have changed is synced at once, whatever it waits for (`config.go`
//! `podsDifferSemantically`, `pod_workers.go` `UpdatePod`). So an annotation says that the index is free. An agent that is in
//! Prepare just then takes the index without it, and the pod is left alone.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use railhead_crds::{NetworkAttachment, names::INDEX_FREE_ANNOTATION};
use railhead_planner::index::{self, IndexChoice};
use railhead_service::chain;
use serde_json::json;
use tracing::{info, warn};

use crate::{
    observe::Named,
    pod::{has_ended, has_started},
    world::World,
    write,
};

/// How long an agent that is in Prepare has to take the index by itself. It hears of it in milliseconds.
const GRACE: Duration = Duration::from_secs(2);
/// How many pods are written at a time.
const AT_ONCE: usize = 8;

/// An index that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) slice: Named,
    pub(crate) index: u32,
    /// UID of the attachment that is gone.
    pub(crate) uid: String,
}

/// Runs until the queue ends.
pub(crate) async fn run(client: Client, world: World, mut queue: UnboundedReceiver<Freed>) {
    while let Some(first) = queue.next().await {
        tokio::time::sleep(GRACE).await;
        // The pods of a job end together.
        let mut freed = vec![first];
        while let Ok(more) = queue.try_recv() {
            freed.push(more);
        }
        let woken = freed_by_slice(freed)
            .into_iter()
            .flat_map(|(slice, freed)| waiting_in(&world, &slice, &freed));
        stream::iter(woken)
            .for_each_concurrent(AT_ONCE, |(pod, uid)| wake(&client, pod, uid))
            .await;
    }
}

fn freed_by_slice(freed: Vec<Freed>) -> Vec<(Named, Vec<Freed>)> {
    let mut slices: Vec<(Named, Vec<Freed>)> = Vec::new();
    for one in freed {
        match slices.iter_mut().find(|(slice, _)| *slice == one.slice) {
            Some((_, of_slice)) => of_slice.push(one),
            None => slices.push((one.slice.clone(), vec![one])),
        }
    }
    slices
}

/// The pods to wake, each with the mark that says for which deletion.
fn waiting_in(world: &World, slice: &Named, freed: &[Freed]) -> Vec<(Arc<Pod>, String)> {
    let Some(found) = world.slice(&slice.namespace, &slice.name) else {
        return Vec::new();
    };
    let held = world.attachments_of(&slice.namespace, &slice.name);
    let pods = world.pods_of(&slice.namespace, &found.spec.network.name);
    waiting(&pods, &held, freed, found.spec.pods)
}

/// Those that have a node, no index and no sandbox yet, and could take one of the indices that are free now. A pod without a
/// number takes any, the oldest first.
fn waiting(pods: &[Arc<Pod>], held: &[Arc<NetworkAttachment>], freed: &[Freed], size: u32) -> Vec<(Arc<Pod>, String)> {
    let taken: HashSet<u32> = held.iter().map(|attachment| attachment.spec.index).collect();
    let have: HashSet<&str> = held.iter().map(|attachment| attachment.spec.pod_uid.as_str()).collect();
    let mut candidates: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| is_waiting_on_its_node(pod) && !have.contains(pod.metadata.uid.as_deref().unwrap_or_default()))
        .collect();
    candidates.sort_by_key(|pod| pod.creation_timestamp());
    let choice = |pod: &Pod| index::of(pod, size).ok();
    let mut any = candidates
        .iter()
        .filter(|pod| choice(pod) == Some(IndexChoice::Any))
        .copied();
    let mut woken = Vec::new();
    for free in freed.iter().filter(|free| !taken.contains(&free.index)) {
        let mut numbered = candidates
            .iter()
            .filter(|pod| choice(pod) == Some(IndexChoice::Fixed(free.index)))
            .peekable();
        if numbered.peek().is_some() {
            woken.extend(numbered.map(|pod| (Arc::clone(pod), free.uid.clone())));
        } else {
            woken.extend(any.next().map(|pod| (Arc::clone(pod), free.uid.clone())));
        }
    }
    woken
}

fn is_waiting_on_its_node(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    node.is_some() && !has_started(pod) && !has_ended(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Failure costs no more than kubelet's own pause.
async fn wake(client: &Client, pod: Arc<Pod>, mark: String) {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    // Of this very pod: another of the same name waits for nothing.
    let patch = json!({ "metadata": {
        "uid": pod.metadata.uid,
        "annotations": { INDEX_FREE_ANNOTATION: mark },
    } });
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => info!(namespace, pod = name, "woken: the index that it waits for is free"),
        Err(error) if write::is_not_found(&error) || write::is_conflict(&error) => {}
        Err(error) => warn!(
            namespace,
            pod = name,
            error = chain(&error),
            "the index that the pod waits for is free, but the pod could not be told; kubelet tries again within 90 s"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fixtures;

    fn on_node(index: u32, numbered: bool) -> Arc<Pod> {
        let mut pod = fixtures::pod(index);
        pod.spec = serde_json::from_value(json!({"nodeName": "node1", "containers": []})).unwrap();
        if !numbered {
            pod.labels_mut().remove(railhead_crds::names::JOB_COMPLETION_INDEX);
        }
        Arc::new(pod)
    }

    fn freed(index: u32) -> Freed {
        Freed {
            slice: Named {
                namespace: "team-a".to_owned(),
                name: "llama".to_owned(),
            },
            index,
            uid: format!("a-{index}"),
        }
    }

    fn names(woken: Vec<(Arc<Pod>, String)>) -> Vec<(String, String)> {
        woken.into_iter().map(|(pod, mark)| (pod.name_any(), mark)).collect()
    }

    #[test]
    fn only_the_pod_that_waits_for_this_index_is_woken() {
        let pods = [on_node(0, true), on_node(1, true), Arc::new(fixtures::pod(2))];
        let woken = names(waiting(&pods, &[], &[freed(1)], 4));
        assert_eq!(woken, [("llama-1".to_owned(), "a-1".to_owned())]);
        assert!(waiting(&pods, &[], &[freed(2)], 4).is_empty(), "it has no node yet");
        let mut running = (*pods[1]).clone();
        running.status.as_mut().unwrap().phase = Some("Running".to_owned());
        assert!(waiting(&[Arc::new(running)], &[], &[freed(1)], 4).is_empty());
    }

    #[test]
    fn a_pod_whose_agent_was_faster_is_left_alone() {
        let pods = [on_node(1, true)];
        assert!(waiting(&pods, &[fixtures::attachment(1, false)], &[freed(1)], 4).is_empty());
        // Held by another pod again.
        let mut other = (*fixtures::attachment(1, false)).clone();
        other.spec.pod_uid = "somebody".to_owned();
        assert!(waiting(&pods, &[Arc::new(other)], &[freed(1)], 4).is_empty());
    }

    #[test]
    fn as_many_pods_without_a_number_are_woken_as_indices_are_free() {
        let pods = [
            on_node(0, false),
            on_node(1, false),
            on_node(2, false),
            on_node(3, true),
        ];
        let woken = names(waiting(&pods, &[], &[freed(3), freed(0), freed(1)], 4));
        assert_eq!(woken.len(), 3);
        assert_eq!(woken[0].0, "llama-3", "its own index is its own");
        assert_ne!(woken[1].0, woken[2].0);
    }
}
