//! Gives back what nobody will ask to give back: pods that went while kubelet was down, files of earlier boots.
//!
//! containerd sends no CNI GC, so this is the only collector. It works on what is certain: a pod counts as gone when the
//! API server has said so for a minute, since kubelet gives back the pods that it ends itself.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use railhead_crds::{NetworkAttachment, names};
use railhead_service::Pass;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    leftovers, plans,
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
    #[error("list the NetworkAttachments of node {node}: {source}")]
    List {
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

/// Runs until `stop`: at once, and then every minute.
pub async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let mut gone = Gone::default();
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
        if let Err(error) = attachments(&agent, &mut gone, &round).await {
            tracing::warn!(%error, "not everything could be collected");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(COLLECT) => {}
        }
    }
}

/// Plans and indices on this node whose pods are gone.
async fn attachments(agent: &Arc<Agent>, gone: &mut Gone, round: &Pass) -> Result<(), CollectError> {
    let plans = plans::all(&agent.layout)?;
    let mut seen = HashSet::new();
    let mut failed = None;
    for plan in &plans {
        round.done();
        let pod = &plan.pod;
        seen.insert(pod.uid.clone());
        // One pod's trouble must not keep what another holds.
        let exists = match exists(&agent.client, &pod.namespace, &pod.name, &pod.uid).await {
            Ok(exists) => exists,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        if gone.note(&pod.uid, exists, Instant::now()) {
            match collect(agent, &plan.claim_uid).await {
                Ok(()) => {
                    agent.metrics.collected();
                    tracing::info!(pod = pod.name, claim = plan.claim_uid, "collected");
                }
                Err(error) => failed = Some(error.into()),
            }
        }
    }
    let api: Api<NetworkAttachment> = Api::all(agent.client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", names::NODE_LABEL, names::node_label(&agent.node)));
    let listed = api.list(&ours).await.map_err(|source| CollectError::List {
        node: agent.node.clone(),
        source: Box::new(source),
    })?;
    let planned: HashSet<&str> = plans.iter().map(|plan| plan.pod.uid.as_str()).collect();
    for attachment in listed {
        round.done();
        let spec = &attachment.spec;
        if spec.node_name != agent.node || planned.contains(spec.pod_uid.as_str()) {
            continue;
        }
        seen.insert(spec.pod_uid.clone());
        let namespace = attachment.namespace().unwrap_or_default();
        let exists = match exists(&agent.client, &namespace, &spec.pod_name, &spec.pod_uid).await {
            Ok(exists) => exists,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        if gone.note(&spec.pod_uid, exists, Instant::now()) {
            let name = attachment.name_any();
            let released = match collect(agent, &spec.claim_uid).await {
                Ok(()) => release::index::give_back(agent, &namespace, &name, &spec.pod_uid).await,
                error => error,
            };
            match released {
                Ok(()) => {
                    agent.metrics.collected();
                    tracing::info!(namespace, name, "collected an index without a readable plan");
                }
                Err(error) => failed = Some(error.into()),
            }
        }
    }
    gone.0.retain(|pod_uid, _| seen.contains(pod_uid));
    failed.map_or(Ok(()), Err)
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
