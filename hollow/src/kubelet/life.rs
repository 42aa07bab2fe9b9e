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
use tokio::{sync::watch, time::Instant};

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
    /// Claims of which the plugin has been told, whatever it said: kubelet notes them before it asks.
    prepared: Vec<Claim>,
    sandbox: Option<Sandbox>,
    /// Sandboxes of ADDs that failed, until their DEL succeeds.
    failed: Vec<Sandbox>,
    attempts: u32,
    started: Option<Instant>,
    /// The containers have done their work.
    finished: bool,
    said: String,
}

/// What is to be done about the pod now.
enum Next {
    Start(Arc<Pod>),
    /// It runs, and the API server does not say so.
    Report(Arc<Pod>),
    Rest(Arc<Pod>),
    /// Its containers have done their work.
    Finish(Arc<Pod>),
    End(Option<Arc<Pod>>),
}

impl Life {
    pub(super) fn new(kubelet: Kubelet, latest: watch::Receiver<Option<Arc<Pod>>>) -> Self {
        Self {
            kubelet,
            latest,
            prepared: Vec::new(),
            sandbox: None,
            failed: Vec::new(),
            attempts: 0,
            started: None,
            finished: false,
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
                Next::Report(pod) => {
                    if !self.reported(&pod, "Running").await {
                        return;
                    }
                }
                Next::Rest(pod) => tokio::select! {
                    changed = self.latest.changed() => if changed.is_err() { return },
                    () = run_time(&pod, self.started) => self.finished = true,
                },
                Next::Finish(pod) => match self.let_go().await {
                    Ok(()) => {
                        if !self.reported(&pod, "Succeeded").await {
                            return;
                        }
                    }
                    Err(error) => self.fail(&pod, "finish", &error).await,
                },
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
        } else if self.finished {
            Next::Finish(pod)
        } else if self.sandbox.is_none() {
            Next::Start(pod)
        } else if phase == Some("Running") {
            Next::Rest(pod)
        } else {
            Next::Report(pod)
        }
    }

    /// Claims, then the sandbox.
    async fn start(&mut self, pod: &Pod) -> Result<()> {
        self.del_failed().await?;
        for claim in self.claims(pod).await? {
            if !self.prepared.contains(&claim) {
                self.prepared.push(claim.clone());
            }
            self.kubelet
                .plugin
                .prepare(claim)
                .await
                .context("FailedPrepareDynamicResources")?;
        }
        self.attempts += 1;
        let sandbox = Sandbox::new(&self.kubelet.root, pod, self.attempts)?;
        if let Err(error) = sandbox.add().await {
            self.failed.push(sandbox);
            return Err(error.context("FailedCreatePodSandBox"));
        }
        self.sandbox = Some(sandbox);
        self.started = Some(Instant::now());
        Ok(())
    }

    /// DEL for what an ADD began, as containerd does it; the namespace is there until that succeeds.
    async fn del_failed(&mut self) -> Result<()> {
        while let Some(sandbox) = self.failed.last() {
            sandbox.del().await.context("FailedKillPodSandBox")?;
            self.failed.pop();
        }
        Ok(())
    }

    /// Reports the phase, and waits for the pod's next change: what was lost of it is reported again. False when nobody tells of the pod any
    /// more.
    async fn reported(&mut self, pod: &Pod, phase: &str) -> bool {
        match self.report(pod, phase).await {
            Ok(()) => self.changed().await.is_ok(),
            Err(error) => {
                self.fail(pod, "report", &error).await;
                true
            }
        }
    }

    /// Waits for the pod's next change, or a moment.
    async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        tokio::time::timeout(AGAIN, self.latest.changed())
            .await
            .unwrap_or(Ok(()))
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
        self.del_failed().await?;
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
        let mut status = json!({"metadata": {"uid": pod.uid()}, "status": {
            "phase": phase,
            "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}], "hostIP": "192.0.2.1",
            "conditions": [
                condition("Initialized", true), condition("Ready", running), condition("ContainersReady", running), condition("PodScheduled", true),
            ],
            "containerStatuses": containers,
        }});
        if running {
            status["status"]["startTime"] = json!(now);
        }
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
        // Whoever sent the pod is gone only where the process ends.
        self.changed().await.ok();
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &pod.namespace().unwrap_or_default())
    }
}

/// Until the pod's containers have run for as long as they do.
async fn run_time(pod: &Pod, started: Option<Instant>) {
    let seconds = pod.annotations().get(SECONDS).and_then(|text| text.parse().ok());
    match seconds.zip(started) {
        Some((seconds, started)) => tokio::time::sleep_until(started + Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}
