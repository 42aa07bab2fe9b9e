//! Wakes the pods that wait on a node for an index that was given back.
//!
//! A claim whose index another pod holds cannot be prepared. kubelet counts that as no failure of the pod's sync and comes
//! again only with its next periodic one, 60 to 90 s later (kubernetes 1.36, `kuberuntime_manager.go` `SyncPod`, `pod_workers.go`
//! `completeWork`). But a pod whose annotations have changed is synced at once, whatever it waits for (`config.go`
//! `podsDifferSemantically`, `pod_workers.go` `UpdatePod`). So an annotation says that the index is free. An agent that is in
//! Prepare just then takes the index without it, and the pod is left alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver, stream::FuturesUnordered};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use railhead_crds::{NetworkAttachment, names::INDEX_FREE_ANNOTATION};
use railhead_planner::index::{self, IndexChoice, Space, Span};
use railhead_service::chain;
use serde_json::json;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    known::Pod,
    observe::Named,
    pod::{has_ended, has_started},
    world::World,
    write,
};

/// How long an agent that is in Prepare has to take the index by itself. It hears of it in milliseconds.
const GRACE: Duration = Duration::from_secs(2);
/// How many pods are written at a time.
const AT_ONCE: usize = 8;
/// How long one may take: kubelet looks by itself a minute later, and other pods wait behind it.
const WAKE: Duration = Duration::from_secs(5);
/// How long a pod that was woken has to take an index. It is not woken for another one meanwhile, which is the next pod's.
const TAKES: Duration = Duration::from_secs(10);

/// An index that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) slice: Named,
    pub(crate) index: u32,
    /// UID of the attachment that is gone.
    pub(crate) uid: String,
}

/// Runs until the queue ends.
pub(crate) async fn run(client: Client, world: World, queue: UnboundedReceiver<Freed>) {
    let mut woken = Woken::default();
    let find = |freed| {
        let mut found = Vec::new();
        for (slice, freed) in freed_by_slice(freed) {
            found.extend(waiting_in(&world, &slice, &freed, &mut woken));
        }
        found
    };
    serve(queue, find, |pod, mark| wake(&client, pod, mark)).await;
}

/// Wakes the pods that `find` names for indices that were free for the whole grace, each index for its own. A pod that is not
/// written in time keeps no other from it.
async fn serve<F: Future<Output = ()>>(
    mut queue: UnboundedReceiver<Freed>,
    mut find: impl FnMut(Vec<Freed>) -> Vec<(Arc<Pod>, String)>,
    wake: impl Fn(Arc<Pod>, String) -> F,
) {
    let mut due: VecDeque<(Instant, Freed)> = VecDeque::new();
    let mut found: VecDeque<(Arc<Pod>, String)> = VecDeque::new();
    let mut waking = FuturesUnordered::new();
    let mut ended = false;
    while !(ended && due.is_empty() && found.is_empty() && waking.is_empty()) {
        while waking.len() < AT_ONCE
            && let Some((pod, mark)) = found.pop_front()
        {
            let name = pod.name_any();
            let waking_up = tokio::time::timeout(WAKE, wake(pod, mark));
            waking.push(async move {
                if waking_up.await.is_err() {
                    warn!(
                        pod = name,
                        "the index that the pod waits for is free, but the API server took longer than {} s to tell the pod; kubelet tries again within 90 s",
                        WAKE.as_secs()
                    );
                }
            });
        }
        let next = due.front().map(|(at, _)| *at);
        tokio::select! {
            freed = queue.next(), if !ended => match freed {
                Some(freed) => due.push_back((Instant::now() + GRACE, freed)),
                None => ended = true,
            },
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                // The pods of a job end together.
                let now = Instant::now();
                let count = due.partition_point(|(at, _)| *at <= now);
                found.extend(find(due.drain(..count).map(|(_, freed)| freed).collect()));
            }
            Some(()) = waking.next(), if !waking.is_empty() => {}
        }
    }
}

/// By UID: pods that were woken a moment ago, and when.
#[derive(Debug, Default)]
struct Woken(HashMap<String, Instant>);

impl Woken {
    /// Those that may still be about to take an index.
    fn lately(&mut self) -> &HashMap<String, Instant> {
        self.0.retain(|_, since| since.elapsed() < TAKES);
        &self.0
    }

    fn note(&mut self, woken: &[(Arc<Pod>, String)]) {
        let now = Instant::now();
        let uids = woken.iter().filter_map(|(pod, _)| pod.metadata.uid.clone());
        self.0.extend(uids.map(|uid| (uid, now)));
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
fn waiting_in(world: &World, slice: &Named, freed: &[Freed], woken: &mut Woken) -> Vec<(Arc<Pod>, String)> {
    let Some(found) = world.slice(&slice.namespace, &slice.name) else {
        return Vec::new();
    };
    let held = world.attachments_of(&slice.namespace, &slice.name);
    let pods = world.pods_of(&slice.namespace, &found.spec.network.name);
    let Some(network) = world.network(&slice.namespace, &found.spec.network.name) else {
        return Vec::new();
    };
    let space = Space::new(&network, found.spec.pods);
    let found = waiting(&pods, &held, freed, &space, woken.lately());
    woken.note(&found);
    found
}

/// Those that have a node, no index and no sandbox yet, and could take one of the indices that are free now. A pod without a
/// number takes any, the oldest first of those that were not woken `lately`: such a one is about to take another.
fn waiting(
    pods: &[Arc<Pod>],
    held: &[Arc<NetworkAttachment>],
    freed: &[Freed],
    space: &Space<'_>,
    lately: &HashMap<String, Instant>,
) -> Vec<(Arc<Pod>, String)> {
    let taken: HashSet<u32> = held.iter().map(|attachment| attachment.spec.index).collect();
    let have: HashSet<&str> = held.iter().map(|attachment| attachment.spec.pod_uid.as_str()).collect();
    let mut candidates: Vec<&Arc<Pod>> = pods
        .iter()
        .filter(|pod| is_waiting_on_its_node(pod) && !have.contains(pod.metadata.uid.as_deref().unwrap_or_default()))
        .collect();
    candidates.sort_by_key(|pod| pod.creation_timestamp());
    let choice = |pod: &Pod| index::of(&pod.metadata, space).ok();
    let mut any: Vec<(&Arc<Pod>, Span)> = candidates
        .iter()
        .filter(|pod| !lately.contains_key(pod.metadata.uid.as_deref().unwrap_or_default()))
        .filter_map(|pod| match choice(pod)? {
            IndexChoice::Any(span) => Some((*pod, span)),
            IndexChoice::Fixed(_) => None,
        })
        .collect();
    let mut woken = Vec::new();
    for free in freed.iter().filter(|free| !taken.contains(&free.index)) {
        let mut numbered = candidates
            .iter()
            .filter(|pod| choice(pod) == Some(IndexChoice::Fixed(free.index)))
            .peekable();
        if numbered.peek().is_some() {
            woken.extend(numbered.map(|pod| (Arc::clone(pod), free.uid.clone())));
        } else {
            let next = any.iter().position(|(_, span)| span.contains(free.index));
            woken.extend(next.map(|place| (Arc::clone(any.remove(place).0), free.uid.clone())));
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

    fn woken_of(pods: &[Arc<Pod>], held: &[Arc<NetworkAttachment>], freed: &[Freed]) -> Vec<(Arc<Pod>, String)> {
        let network = fixtures::network(4);
        waiting(pods, held, freed, &Space::new(&network, 4), &HashMap::new())
    }

    fn names(woken: Vec<(Arc<Pod>, String)>) -> Vec<(String, String)> {
        woken.into_iter().map(|(pod, mark)| (pod.name_any(), mark)).collect()
    }

    #[test]
    fn only_the_pod_that_waits_for_this_index_is_woken() {
        let pods = [on_node(0, true), on_node(1, true), Arc::new(fixtures::pod(2))];
        let woken = names(woken_of(&pods, &[], &[freed(1)]));
        assert_eq!(woken, [("llama-1".to_owned(), "a-1".to_owned())]);
        assert!(woken_of(&pods, &[], &[freed(2)]).is_empty(), "it has no node yet");
        let mut running = (*pods[1]).clone();
        running.status.as_mut().unwrap().phase = Some("Running".to_owned());
        assert!(woken_of(&[Arc::new(running)], &[], &[freed(1)]).is_empty());
    }

    #[test]
    fn a_pod_whose_agent_was_faster_is_left_alone() {
        let pods = [on_node(1, true)];
        assert!(woken_of(&pods, &[fixtures::attachment(1, false)], &[freed(1)]).is_empty());
        // Held by another pod again.
        let mut other = (*fixtures::attachment(1, false)).clone();
        other.spec.pod_uid = "somebody".to_owned();
        assert!(woken_of(&pods, &[Arc::new(other)], &[freed(1)]).is_empty());
    }

    #[test]
    fn as_many_pods_without_a_number_are_woken_as_indices_are_free() {
        let pods = [
            on_node(0, false),
            on_node(1, false),
            on_node(2, false),
            on_node(3, true),
        ];
        let woken = names(woken_of(&pods, &[], &[freed(3), freed(0), freed(1)]));
        assert_eq!(woken.len(), 3);
        assert_eq!(woken[0].0, "llama-3", "its own index is its own");
        assert_ne!(woken[1].0, woken[2].0);
    }

    #[test]
    fn a_pod_without_a_number_is_woken_for_an_index_of_its_own_role() {
        let mut network = fixtures::network(4);
        network.spec.roles =
            serde_json::from_value(json!([{"name": "a", "pods": 2}, {"name": "b", "pods": 2}])).unwrap();
        let mut pod = (*on_node(0, false)).clone();
        pod.metadata.owner_references = serde_json::from_value(
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "b", "uid": "j-2", "controller": true}]),
        )
        .unwrap();
        let pods = [Arc::new(pod)];
        let woken = |index| waiting(&pods, &[], &[freed(index)], &Space::new(&network, 4), &HashMap::new()).len();
        assert_eq!([0, 1, 2, 3].map(woken), [0, 0, 1, 1]);
    }

    /// The first one has not told yet which index it takes.
    #[tokio::test(start_paused = true)]
    async fn the_next_index_wakes_the_next_pod_and_the_first_one_again_if_it_took_none() {
        let pods = [on_node(0, false), on_node(1, false)];
        let mut woken = Woken::default();
        let network = fixtures::network(4);
        let mut wakes = |index| {
            let found = waiting(&pods, &[], &[freed(index)], &Space::new(&network, 4), woken.lately());
            woken.note(&found);
            names(found).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let first = wakes(2);
        let second = wakes(3);
        assert!(
            first.len() == 1 && second.len() == 1 && first != second,
            "{first:?} {second:?}"
        );
        assert!(wakes(1).is_empty(), "nobody else waits");
        tokio::time::sleep(TAKES).await;
        assert_eq!(wakes(1), first);
    }

    /// What `serve` wakes, and how many seconds after the beginning, where writing some pods hangs.
    async fn served(queue: UnboundedReceiver<Freed>, hangs: fn(&str) -> bool) -> Vec<(String, f64)> {
        let (start, log) = (Instant::now(), std::cell::RefCell::new(Vec::new()));
        let find = |freed: Vec<Freed>| {
            freed
                .iter()
                .map(|one| (on_node(one.index, true), one.uid.clone()))
                .collect()
        };
        let wake = |pod: Arc<Pod>, _| {
            let name = pod.name_any();
            log.borrow_mut().push((name.clone(), start.elapsed().as_secs_f64()));
            async move {
                if hangs(&name) {
                    std::future::pending::<()>().await;
                }
            }
        };
        serve(queue, find, wake).await;
        log.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn every_index_has_its_own_grace() {
        let (queue, freed_later) = futures::channel::mpsc::unbounded();
        let freeing = async {
            queue.unbounded_send(freed(0)).unwrap();
            tokio::time::sleep(GRACE * 3 / 4).await;
            queue.unbounded_send(freed(1)).unwrap();
            drop(queue);
        };
        let (woken, ()) = tokio::join!(served(freed_later, |_| false), freeing);
        let at = |pod: &str| woken.iter().find(|(name, _)| name == pod).unwrap().1;
        let grace = GRACE.as_secs_f64();
        assert!((at("llama-0") - grace).abs() < 0.1, "{woken:?}");
        assert!((at("llama-1") - grace * 1.75).abs() < 0.1, "{woken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_cannot_be_written_keep_no_other_waiting_for_long() {
        let (queue, all) = futures::channel::mpsc::unbounded();
        for index in 0..=u32::try_from(AT_ONCE).unwrap() {
            queue.unbounded_send(freed(index)).unwrap();
        }
        let later = async {
            tokio::time::sleep(GRACE + WAKE * 2).await;
            queue.unbounded_send(freed(100)).unwrap();
            drop(queue);
        };
        let (woken, ()) = tokio::join!(served(all, |name| name != "llama-100"), later);
        let times: Vec<f64> = woken.iter().map(|(_, at)| *at).collect();
        let (grace, wake) = (GRACE.as_secs_f64(), WAKE.as_secs_f64());
        assert!(times[..AT_ONCE].iter().all(|at| (at - grace).abs() < 0.1), "{woken:?}");
        assert!((times[AT_ONCE] - grace - wake).abs() < 0.1, "{woken:?}");
        assert_eq!(woken.last().unwrap().0, "llama-100");
        assert!((times[AT_ONCE + 1] - grace * 2.0 - wake * 2.0).abs() < 0.1, "{woken:?}");
    }
}
