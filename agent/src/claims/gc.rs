//! Gives back what nobody will ask to give back: pods that went while kubelet was down, files of earlier boots.
//!
//! containerd sends no CNI GC, so this is the only collector. It works on what is certain: a pod counts as gone when the
//! API server has said so for a minute, since kubelet gives back the pods that it ends itself.
//!
//! A round at rest asks the API server for nothing: a watch tells of the pods of this node. It may be behind, so it only raises a
//! suspicion: the pod itself is asked for before anything is taken from it. The node's attachments are listed when there may be one
//! that no plan names: at the start, after a call or a creation that failed, while a plan cannot be read, and once an hour. They are not watched: the
//! API server has no index for the label that names the node, and would compare each change of each attachment with the watch of every
//! node.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use railhead_crds::{NetworkAttachment, names};
use railhead_plan::{AttachmentPlan, PodRef};
use railhead_service::Pass;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    leftovers,
    node_pods::NodePods,
    plans,
    release::{self, ReleaseError},
};
use crate::{
    agent::Agent,
    limits::{COLLECT, COLLECT_PASS, GONE},
};

/// Why a round did not do everything. The next one tries again.
#[derive(Debug, Error)]
#[non_exhaustive]
enum CollectError {
    #[error("read pod {namespace}/{name}: {source}")]
    ReadPod {
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the API server has not told yet which pods are on node {node}")]
    PodsUnknown { node: String },
    #[error("list the {kind} of node {node}: {source}")]
    List {
        kind: &'static str,
        node: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(transparent)]
    Plans(#[from] plans::PlansError),
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// By pod UID: since when the API server says that it is gone.
#[derive(Debug, Default)]
struct Gone(HashMap<String, Instant>);

impl Gone {
    /// Notes whether a pod is there; true when it has been gone for long enough.
    fn note(&mut self, pod_uid: &str, exists: bool, now: Instant) -> bool {
        if exists {
            self.0.remove(pod_uid);
            return false;
        }
        let since = *self.0.entry(pod_uid.to_owned()).or_insert(now);
        now.duration_since(since) >= GONE
    }
}

/// After how many rounds the node's attachments are listed again whatever happened.
const LOOK_AGAIN: u32 = 60;
/// In how many rounds they are listed after something may have left one behind: the API server gives a request a minute.
const LOOKS: u32 = 3;

/// What is kept between rounds.
#[derive(Debug, Default)]
struct Memory {
    gone: Gone,
    /// Rounds since the attachments were listed; `None` before the first time and while something of them is to be done.
    since_listed: Option<u32>,
    /// How often something may have left one behind until then.
    doubts: u64,
    /// In how many more rounds they are listed for that.
    looks: u32,
}

impl Memory {
    /// Whether there may be attachments that no plan names.
    fn is_list_due(&mut self, doubts: u64) -> bool {
        if doubts != self.doubts {
            self.doubts = doubts;
            self.looks = LOOKS;
        }
        let due = self.looks > 0 || self.since_listed.is_none_or(|rounds| rounds + 1 >= LOOK_AGAIN);
        self.looks = self.looks.saturating_sub(1);
        self.since_listed = if due {
            None
        } else {
            self.since_listed.map(|rounds| rounds + 1)
        };
        due
    }
}

/// Runs until `stop`: at once, and then every minute.
pub async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let mut memory = Memory::default();
    let pods = NodePods::watch(&agent);
    let round = agent.passes.begin("collector", COLLECT_PASS);
    loop {
        round.done();
        leftovers::abandoned(&agent.layout);
        if let Err(error) = leftovers::earlier_boots(&agent).await {
            tracing::warn!(%error, "not everything of earlier boots could be removed");
        }
        round.done();
        if let Err(error) = leftovers::specs(&agent).await {
            tracing::warn!(%error, "not every CDI spec is as it should be");
        }
        round.done();
        if let Err(error) = pods_and_indices(&agent, &pods, &mut memory, &round).await {
            tracing::warn!(%error, "not everything could be collected");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COLLECT) => {}
        }
    }
}

/// Plans and indices on this node whose pods are gone.
async fn pods_and_indices(
    agent: &Arc<Agent>,
    pods: &NodePods,
    memory: &mut Memory,
    round: &Pass,
) -> Result<(), CollectError> {
    if !pods.are_known().await {
        return Err(CollectError::PodsUnknown {
            node: agent.node.clone(),
        });
    }
    let alive = pods.uids();
    let plans = plans::all(&agent.layout)?;
    let mut failed = None;
    for plan in &plans {
        round.done();
        let pod = &plan.pod;
        // One pod's trouble must not keep what another holds.
        match is_gone(agent, &mut memory.gone, &alive, pod).await {
            Ok(false) => {
                if let Err(error) = look_for_others(agent, pods, plan).await {
                    failed = Some(error.into());
                }
            }
            Ok(true) => match collect(agent, &plan.claim_uid).await {
                Ok(()) => {
                    agent.metrics.collected();
                    tracing::info!(pod = pod.name, claim = plan.claim_uid, "collected");
                }
                Err(error) => failed = Some(error.into()),
            },
            Err(error) => failed = Some(error),
        }
    }
    let mut seen: HashSet<String> = plans.iter().map(|plan| plan.pod.uid.clone()).collect();
    let damaged = plans::damaged(&agent.layout)?;
    if memory.is_list_due(agent.metrics.doubts()) || !damaged.is_empty() {
        let waits = indices(agent, memory, &alive, &plans, &mut seen, round).await?;
        memory.since_listed = (!waits).then_some(0);
    }
    seen.extend(damaged.iter().cloned());
    if let Err(error) = unreadable(agent, memory, &alive, damaged, round).await {
        failed = Some(error);
    }
    memory.gone.0.retain(|pod_uid, _| seen.contains(pod_uid));
    failed.map_or(Ok(()), Err)
}

/// Gives back the indices of this node that no plan names. Tells whether some may still have to be.
async fn indices(
    agent: &Arc<Agent>,
    memory: &mut Memory,
    alive: &HashSet<String>,
    plans: &[AttachmentPlan],
    seen: &mut HashSet<String>,
    round: &Pass,
) -> Result<bool, CollectError> {
    let api: Api<NetworkAttachment> = Api::all(agent.client.clone());
    let ours = ListParams::default()
        .labels(&format!("{}={}", names::NODE_LABEL, names::node_label(&agent.node)))
        .match_any();
    let listed = api.list(&ours).await.map_err(|source| CollectError::List {
        kind: "NetworkAttachments",
        node: agent.node.clone(),
        source: Box::new(source),
    })?;
    let of_boot = |plan: &&AttachmentPlan| plan.boot_id == agent.boot_id;
    let planned: HashMap<&str, &AttachmentPlan> = plans
        .iter()
        .filter(of_boot)
        .map(|plan| (plan.pod.uid.as_str(), plan))
        .collect();
    let mut waits = false;
    for attachment in listed {
        round.done();
        let spec = &attachment.spec;
        if spec.node_name != agent.node {
            continue;
        }
        let Some((pod, claim_uid)) = release::index::holder(&attachment) else {
            continue;
        };
        let name = attachment.name_any();
        let released = match planned.get(spec.pod_uid.as_str()) {
            Some(plan) if names::attachment(&plan.slice_name, plan.index) == name => continue,
            // A creation whose answer did not come in time, and that came through after the pod had taken another index.
            Some(_) => give_back_second(agent, &pod, &name, claim_uid).await,
            None => {
                seen.insert(pod.uid.clone());
                // One pod's trouble must not keep what another holds.
                let gone = is_gone(agent, &mut memory.gone, alive, &pod).await;
                if let Err(error) = &gone {
                    tracing::warn!(namespace = pod.namespace, name, %error, "whether an index is still held is not known");
                }
                if !matches!(gone, Ok(true)) {
                    waits |= !alive.contains(&pod.uid);
                    continue;
                }
                match collect(agent, claim_uid).await {
                    Ok(()) => release::index::give_back(agent, &pod.namespace, &name, &pod.uid).await,
                    error => error,
                }
            }
        };
        match released {
            Ok(()) => {
                agent.metrics.collected();
                tracing::info!(namespace = pod.namespace, name, "collected an index that no plan names");
            }
            Err(error) => {
                waits = true;
                tracing::warn!(namespace = pod.namespace, name, %error, "an index that no plan names could not be collected yet");
            }
        }
    }
    Ok(waits)
}

/// Gives back what plans hold that cannot be read and whose pods are gone. Such a plan names nobody whom one could ask for, so
/// the node's pods are listed once more, not out of a memory. Where there is an attachment it has told the rest, above.
async fn unreadable(
    agent: &Arc<Agent>,
    memory: &mut Memory,
    alive: &HashSet<String>,
    damaged: Vec<String>,
    round: &Pass,
) -> Result<(), CollectError> {
    let alive = if damaged.iter().all(|pod_uid| alive.contains(pod_uid)) {
        alive
    } else {
        &pods_of_node(agent).await?
    };
    for pod_uid in damaged {
        round.done();
        if !memory.gone.note(&pod_uid, alive.contains(&pod_uid), Instant::now()) {
            continue;
        }
        // The file does not tell its claim's UID, and no other claim has a pod's.
        let Some(_turn) = agent.turns.try_take(&agent.layout, &pod_uid) else {
            continue;
        };
        match release::damaged_of_nobody(agent, &pod_uid).await {
            Ok(()) => {
                agent.metrics.collected();
                tracing::info!(pod_uid, "collected a plan that cannot be read and whose pod is gone");
            }
            Err(error) => tracing::warn!(pod_uid, %error, "a plan that cannot be read could not be collected yet"),
        }
    }
    Ok(())
}

/// Gives back an index that a pod has beside the one in its plan. The plan is looked at again in the claim's turn.
async fn give_back_second(
    agent: &Arc<Agent>,
    pod: &PodRef,
    attachment: &str,
    claim_uid: &str,
) -> Result<(), ReleaseError> {
    let Some(_turn) = agent.turns.try_take(&agent.layout, claim_uid) else {
        return Err(ReleaseError::Turn {
            claim: claim_uid.to_owned(),
        });
    };
    release::index::give_back(agent, &pod.namespace, attachment, &pod.uid).await
}

/// UIDs of the pods of this node, as they are now.
async fn pods_of_node(agent: &Agent) -> Result<HashSet<String>, CollectError> {
    let api: Api<Pod> = Api::all(agent.client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={}", agent.node));
    let listed = api.list_metadata(&here).await.map_err(|source| CollectError::List {
        kind: "pods",
        node: agent.node.clone(),
        source: Box::new(source),
    })?;
    Ok(listed.into_iter().filter_map(|pod| pod.metadata.uid).collect())
}

/// Says so where another pod uses the claim of a pod that lives, and takes it back when none does any more.
async fn look_for_others(agent: &Agent, pods: &NodePods, plan: &AttachmentPlan) -> Result<(), ReleaseError> {
    if pods.share_claim(plan) || agent.shared.borrow().contains_key(&plan.pod.uid) {
        release::users::of_plan(agent, plan).await?.tell(agent, plan);
    }
    Ok(())
}

/// Whether the pod has been gone for long enough; whom the watch does not name is asked for by name.
async fn is_gone(agent: &Agent, gone: &mut Gone, alive: &HashSet<String>, pod: &PodRef) -> Result<bool, CollectError> {
    let exists = alive.contains(&pod.uid) || exists(&agent.client, &pod.namespace, &pod.name, &pod.uid).await?;
    Ok(gone.note(&pod.uid, exists, Instant::now()))
}

/// In the claim's turn, unless kubelet is just at it: then the next round sees what is left.
async fn collect(agent: &Arc<Agent>, claim_uid: &str) -> Result<(), ReleaseError> {
    let Some(_turn) = agent.turns.try_take(&agent.layout, claim_uid) else {
        return Err(ReleaseError::Turn {
            claim: claim_uid.to_owned(),
        });
    };
    // kubelet would have given it back after it ended the pod's programs.
    release::claim(agent, claim_uid, release::Programs::Unknown).await
}

/// Whether the API server knows this very pod.
async fn exists(client: &Client, namespace: &str, name: &str, uid: &str) -> Result<bool, CollectError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_metadata_opt(name)
        .await
        .map_err(|source| CollectError::ReadPod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        })?;
    Ok(found.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attachments_are_listed_when_there_may_be_something_and_now_and_then() {
        let mut memory = Memory::default();
        assert!(memory.is_list_due(0), "at the start");
        assert!(memory.is_list_due(0), "something is still to be done");
        memory.since_listed = Some(0);
        let due: Vec<bool> = (0..61).map(|_| memory.is_list_due(0)).collect();
        assert!(due[..59].iter().all(|due| !due), "every round is a list");
        assert!(due[59] && due[60]);
        memory.since_listed = Some(0);
        let after_a_failed_call: Vec<bool> = (0..4)
            .map(|_| {
                memory.since_listed = Some(0);
                memory.is_list_due(1)
            })
            .collect();
        assert_eq!(after_a_failed_call, [true, true, true, false]);
    }

    #[test]
    fn a_pod_is_collected_only_after_it_was_gone_for_the_whole_grace() {
        let mut gone = Gone::default();
        let start = Instant::now();
        assert!(!gone.note("u", false, start));
        assert!(!gone.note("u", false, start + GONE / 2));
        assert!(gone.note("u", false, start + GONE));
        assert!(!gone.note("u", true, start + GONE), "it is back, so it was never gone");
        assert!(
            !gone.note("u", false, start + GONE * 2),
            "and counts from the beginning"
        );
    }
}
