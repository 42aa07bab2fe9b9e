//! One pod from its binding to its end.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{
    api::{core::v1::Pod, resource::v1::ResourceClaim},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use railhead_agent::proto::dra::Claim;
use serde_json::json;
use tokio::sync::watch;

use super::Kubelet;
use crate::sandbox::Sandbox;

/// How long what failed waits until it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many seconds the pod's containers run; without it, until the pod is deleted.
const SECONDS: &str = "hollow.railhead.dev/seconds";

/// The worker of one pod.
pub(super) struct Life {
    kubelet: Kubelet,
    latest: watch::Receiver<Option<Arc<Pod>>>,
    prepared: Vec<Claim>,
    sandbox: Option<Sandbox>,
    attempts: u32,
    said: String,
}

/// What is to be done about the pod now.
enum Next {
    Start(Arc<Pod>),
    Rest(Arc<Pod>),
    End(Option<Arc<Pod>>),
}

impl Life {
    pub(super) fn new(kubelet: Kubelet, latest: watch::Receiver<Option<Arc<Pod>>>) -> Self {
        Self {
            kubelet,
            latest,
            prepared: Vec::new(),
            sandbox: None,
            attempts: 0,
            said: String::new(),
        }
    }

    /// Until the pod is gone, and nothing of it is left on the node.
    pub(super) async fn run(mut self) {
        loop {
            match self.next() {
                Next::Start(pod) => match self.start(&pod).await {
                    Ok(()) => self.said.clear(),
                    Err(error) => self.fail(&pod, "start", &error).await,
                },
                Next::Rest(pod) => {
                    let ended = tokio::select! {
                        changed = self.latest.changed() => changed.is_err(),
                        () = run_time(&pod) => {
                            if let Err(error) = self.finish(&pod).await {
                                self.fail(&pod, "finish", &error).await;
                            }
                            false
                        }
                    };
                    if ended {
                        return;
                    }
                }
                Next::End(pod) => match self.end(pod.as_deref()).await {
                    Ok(()) if pod.is_none() => return,
                    Ok(()) => {
                        if self.latest.changed().await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!("end a pod: {error:#}");
                        tokio::time::sleep(AGAIN).await;
                    }
                },
            }
        }
    }

    fn next(&mut self) -> Next {
        let Some(pod) = self.latest.borrow_and_update().clone() else {
            return Next::End(None);
        };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed"));
        if pod.metadata.deletion_timestamp.is_some() || over {
            Next::End(Some(pod))
        } else if self.sandbox.is_some() {
            Next::Rest(pod)
        } else {
            Next::Start(pod)
        }
    }

    /// Claims, then the sandbox, then the word that the containers run.
    async fn start(&mut self, pod: &Pod) -> Result<()> {
        for claim in self.claims(pod).await? {
            self.kubelet
                .plugin
                .prepare(claim.clone())
                .await
                .context("FailedPrepareDynamicResources")?;
            if !self.prepared.contains(&claim) {
                self.prepared.push(claim);
            }
        }
        self.attempts += 1;
        let sandbox = Sandbox::new(&self.kubelet.root, pod, self.attempts)?;
        if let Err(error) = sandbox.add().await {
            // As containerd does it with what an ADD began.
            sandbox.del().await.context("FailedKillPodSandBox")?;
            return Err(error.context("FailedCreatePodSandBox"));
        }
        self.sandbox = Some(sandbox);
        self.report(pod, "Running").await
    }

    /// The claims of the pod's own, once they are allocated and reserved for it (`PrepareResources`, pkg/kubelet/cm/dra/manager.go).
    async fn claims(&self, pod: &Pod) -> Result<Vec<Claim>> {
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<ResourceClaim> = Api::namespaced(self.kubelet.client.clone(), &namespace);
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.resource_claim_statuses.as_ref());
        let mut claims = Vec::new();
        for entry in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            let made = statuses.into_iter().flatten().find(|status| status.name == entry.name);
            let name = entry.resource_claim_name.clone();
            let name = name.or_else(|| made.and_then(|status| status.resource_claim_name.clone()));
            let name = name.with_context(|| format!("claim {} is not made yet", entry.name))?;
            let claim = api.get(&name).await?;
            let reserved = claim
                .status
                .iter()
                .flat_map(|status| status.reserved_for.iter().flatten());
            ensure!(
                reserved
                    .into_iter()
                    .any(|consumer| Some(&consumer.uid) == pod.metadata.uid.as_ref()),
                "claim {name} is not reserved for the pod"
            );
            let uid = claim.uid().context("a claim without UID")?;
            claims.push(Claim {
                namespace: namespace.clone(),
                uid,
                name,
            });
        }
        Ok(claims)
    }

    /// The containers have done their work.
    async fn finish(&mut self, pod: &Pod) -> Result<()> {
        self.let_go().await?;
        self.report(pod, "Succeeded").await
    }

    /// Nothing of the pod is left on the node; then, if it is still there, the API server forgets it.
    async fn end(&mut self, pod: Option<&Pod>) -> Result<()> {
        self.let_go().await?;
        let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_some()) else {
            return Ok(());
        };
        let this = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default().grace_period(0)
        };
        match self.api(pod).delete(&pod.name_any(), &this).await {
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            ended => Ok(ended.map(|_| ())?),
        }
    }

    /// DEL before the namespace ends, Unprepare after that.
    async fn let_go(&mut self) -> Result<()> {
        if let Some(sandbox) = &self.sandbox {
            sandbox.del().await.context("FailedKillPodSandBox")?;
            self.sandbox = None;
        }
        while let Some(claim) = self.prepared.last().cloned() {
            self.kubelet.plugin.unprepare(claim).await?;
            self.prepared.pop();
        }
        Ok(())
    }

    async fn report(&self, pod: &Pod, phase: &str) -> Result<()> {
        let running = phase == "Running";
        let now = Timestamp::now();
        let state = if running {
            json!({"running": {"startedAt": now}})
        } else {
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now}})
        };
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let containers: Vec<_> = containers
            .map(|container| {
                json!({"name": container.name, "image": container.image, "imageID": "", "restartCount": 0, "ready": running,
                    "started": running, "state": state})
            })
            .collect();
        let condition = |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now});
        let status = json!({"metadata": {"uid": pod.uid()}, "status": {
            "phase": phase,
            "startTime": now,
            "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}], "hostIP": "192.0.2.1",
            "conditions": [
                condition("Initialized", true), condition("Ready", running), condition("ContainersReady", running), condition("PodScheduled", true),
            ],
            "containerStatuses": containers,
        }});
        self.api(pod)
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status))
            .await?;
        Ok(())
    }

    /// Says what failed once, and waits; a pod that changes meanwhile is looked at at once, as in kubelet.
    async fn fail(&mut self, pod: &Pod, what: &str, error: &anyhow::Error) {
        let text = format!("{what} {}: {error:#}", pod.name_any());
        if self.said != text {
            tracing::warn!("{text}");
            self.said = text;
        }
        tokio::time::timeout(AGAIN, self.latest.changed()).await.ok();
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &pod.namespace().unwrap_or_default())
    }
}

/// How long the pod's containers run, from when they began.
async fn run_time(pod: &Pod) {
    match pod.annotations().get(SECONDS).and_then(|text| text.parse().ok()) {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}
