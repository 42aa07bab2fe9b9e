//! What a pod got, in its ResourceClaim: `status.devices` (KEP-4817), one entry per rail, where anything that knows Kubernetes
//! and not Railhead looks for interface, addresses and MAC address.
//!
//! Written by the attachments' loop when a pod is wired, when what is known of its rails changes, and when its sandbox is gone.
//! ADD and Prepare wait for none of it. At Unprepare the entries stay as they are: the API server takes them away with the
//! allocation (`dropDeallocatedStatusDevices`, pkg/registry/resource/resourceclaim/strategy.go).

mod devices;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::Pod, resource::v1::ResourceClaim},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use railhead_crds::names;
use railhead_plan::{AttachmentPlan, AttachmentRecord};
use thiserror::Error;
use tokio::time::Instant;

use crate::agent::Agent;

/// Field manager of our entries.
const MANAGER: &str = "railhead/agent";
/// How long a refused write is left alone: an upgrade may be on its way that brings the right to write.
const REFUSED_AGAIN: Duration = Duration::from_mins(5);

/// Why a claim's status was not written. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ClaimStatusError {
    /// An object could not be read.
    #[error("read {kind} {namespace}/{name} for the device status of a claim: {source}")]
    Read {
        /// Pod or ResourceClaim.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The status could not be written.
    #[error("write status.devices of ResourceClaim {namespace}/{name}: {source}")]
    Write {
        /// The claim's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ClaimStatusError {
    /// Whether asking again soon would get the same answer.
    fn is_refusal(&self) -> bool {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self;
        matches!(&**source, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 405 | 409 | 422))
    }
}

/// What a claim's status is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Subject {
    /// The sandbox that is wired, if one is.
    sandbox: Option<String>,
    /// What of it is not as it was wired, the first first.
    drift: Vec<String>,
}

/// What is known of one pod's claim.
#[derive(Debug, Default)]
struct Known {
    /// What was written last; `None` before an agent that has just started has looked.
    told: Option<Subject>,
    /// Name of the claim.
    claim: Option<String>,
    /// Not to be tried before.
    refused_until: Option<Instant>,
}

/// Writes the device status of the claims of this node's pods, and remembers what it wrote.
#[derive(Debug, Default)]
pub(crate) struct ClaimReporter {
    /// By pod UID.
    known: HashMap<String, Known>,
    /// The plans that were there at the start have been seen.
    started: bool,
}

impl ClaimReporter {
    /// Begins a look at all plans, of which `pods` are the pods' UIDs.
    pub(crate) fn begin(&mut self, pods: &HashSet<&str>) {
        self.known.retain(|pod, _| pods.contains(pod.as_str()));
        for pod in pods {
            // A pod that was prepared since has had nothing to be told. What an earlier agent told of the others, one has to read.
            let told = self.started.then(Subject::default);
            self.known.entry((*pod).to_owned()).or_insert_with(|| Known {
                told,
                ..Known::default()
            });
        }
        self.started = true;
    }

    /// Writes the status of the claim of one pod, if there is news.
    pub(crate) async fn report(
        &mut self,
        agent: &Agent,
        plan: &AttachmentPlan,
        record: Option<&AttachmentRecord>,
        drift: &[String],
    ) -> Result<(), ClaimStatusError> {
        let known = self.known.entry(plan.pod.uid.clone()).or_default();
        let subject = Subject {
            sandbox: record.map(|record| record.container_id.clone()),
            drift: drift.to_vec(),
        };
        let now = Instant::now();
        if known.told.as_ref() == Some(&subject) || known.refused_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        known.refused_until = None;
        match write(agent, plan, record, drift, &mut known.claim).await {
            Ok(()) => known.told = Some(subject),
            Err(error) if error.is_refusal() => {
                tracing::warn!(
                    pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
                    %error,
                    "the claim does not say what the pod got; if the chart is older than the agent, upgrade it with helm"
                );
                known.refused_until = Some(now + REFUSED_AGAIN);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Compares a claim's status with what there is to say, and writes it where they differ. A pod or a claim that is gone wants
/// nothing.
async fn write(
    agent: &Agent,
    plan: &AttachmentPlan,
    record: Option<&AttachmentRecord>,
    drift: &[String],
    name: &mut Option<String>,
) -> Result<(), ClaimStatusError> {
    let namespace = &plan.pod.namespace;
    let claims: Api<ResourceClaim> = Api::namespaced(agent.client.clone(), namespace);
    let Some(claim) = claim(agent, plan, &claims, name).await? else {
        return Ok(());
    };
    let Some(devices) = devices::devices(&claim, plan, record, drift, Timestamp::now()) else {
        return Ok(());
    };
    let name = claim.metadata.name.unwrap_or_default();
    // The UID holds off a claim that was made under the same name since. Entries of other drivers are not named, and so stay.
    let patch = serde_json::json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": { "name": name, "namespace": namespace, "uid": plan.claim_uid },
        "status": { "devices": devices },
    });
    let params = PatchParams::apply(MANAGER).force();
    match claims.patch_status(&name, &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ClaimStatusError::Write {
            namespace: namespace.clone(),
            name,
            source: Box::new(source),
        }),
    }
}

/// The claim of a plan. A plan has its UID only; its name is in the pod's status, and is remembered in `name`.
async fn claim(
    agent: &Agent,
    plan: &AttachmentPlan,
    claims: &Api<ResourceClaim>,
    name: &mut Option<String>,
) -> Result<Option<ResourceClaim>, ClaimStatusError> {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => claim_names(agent, plan).await?,
    };
    for candidate in names {
        let found = claims
            .get_opt(&candidate)
            .await
            .map_err(|source| read("ResourceClaim", plan, &candidate, source))?;
        if let Some(found) = found.filter(|found| found.metadata.uid.as_ref() == Some(&plan.claim_uid)) {
            *name = Some(candidate);
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Names of the claims of a plan's pod, the one that the admission policy gave it first.
async fn claim_names(agent: &Agent, plan: &AttachmentPlan) -> Result<Vec<String>, ClaimStatusError> {
    let pods: Api<Pod> = Api::namespaced(agent.client.clone(), &plan.pod.namespace);
    let pod = pods
        .get_opt(&plan.pod.name)
        .await
        .map_err(|source| read("Pod", plan, &plan.pod.name, source))?;
    let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_ref() == Some(&plan.pod.uid)) else {
        return Ok(Vec::new());
    };
    let generated = pod
        .status
        .into_iter()
        .filter_map(|status| status.resource_claim_statuses);
    let mut generated: Vec<_> = generated.flatten().collect();
    generated.sort_by_key(|claim| claim.name != names::POD_CLAIM);
    let named = pod.spec.into_iter().filter_map(|spec| spec.resource_claims).flatten();
    let generated = generated.into_iter().filter_map(|claim| claim.resource_claim_name);
    Ok(generated
        .chain(named.filter_map(|claim| claim.resource_claim_name))
        .collect())
}

fn read(kind: &'static str, plan: &AttachmentPlan, name: &str, source: kube::Error) -> ClaimStatusError {
    ClaimStatusError::Read {
        kind,
        namespace: plan.pod.namespace.clone(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}
