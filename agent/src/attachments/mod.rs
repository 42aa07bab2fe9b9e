//! What ADD and DEL left behind, as the status of NetworkAttachments and claims and as events: the CNI binary itself talks to nobody.
//!
//! Level-triggered: a look at the folder says everything, the watch only says when to look.

mod status;
mod watch;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use railhead_crds::{NetworkAttachment, names, reasons::Reason};
use railhead_host::read_state_file;
use railhead_plan::{AttachmentPlan, AttachmentRecord, WrongNccl, wrong_nccl};
use railhead_service::Pass;
use railhead_store::ReadError;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use status::Trouble;

use crate::{
    agent::Agent,
    claim_status::{ClaimReporter, ClaimStatusError},
    claims::plans::{self, PlansError},
    limits::REPORT_PASS,
};

/// Field manager of the status.
const MANAGER: &str = "railhead/agent";
/// How often the folder is looked at without being told to.
const PERIOD: Duration = Duration::from_secs(30);
/// How much is told of a note that a pod's folder holds, and of settings.
const MAX_TEXT: usize = 512;
/// How long after a change: pods that start together are one look, and a call of the CNI binary is not disturbed by the report of
/// its own beginning.
const SETTLE: Duration = Duration::from_millis(500);
/// How soon after a status that could not be written.
const AGAIN: Duration = Duration::from_secs(3);
/// How long a sandbox has to be away before that is told: mostly its pod ends, and Unprepare takes plan and attachment away a moment
/// later, or the runtime makes another sandbox.
const ENDING: Duration = Duration::from_secs(3);

/// Why attachments were not reported. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
enum ReportError {
    #[error(transparent)]
    Plans(#[from] PlansError),
    #[error("the attachment record: {0}")]
    Record(#[source] ReadError),
    #[error("read NetworkAttachment {namespace}/{name}: {source}")]
    Read {
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("write the status of NetworkAttachment {namespace}/{name}: {source}")]
    Write {
        namespace: String,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(transparent)]
    Claim(#[from] ClaimStatusError),
}

/// By pod UID: what was reported.
type Reported = HashMap<String, Told>;

/// What was reported of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    /// The sandbox that is wired, if one is.
    sandbox: Option<String>,
    trouble: Trouble,
}

/// Since when sandboxes are away that were told of as wired, by pod UID.
#[derive(Debug, Default)]
struct Away(HashMap<String, Instant>);

impl Away {
    /// Whether to wait with this pod's news, since its sandbox went less than [`ENDING`] ago.
    fn is_new(&mut self, pod_uid: &str, before: Option<&Told>, told: &Told, now: Instant) -> bool {
        let went = told.sandbox.is_none() && before.is_some_and(|before| before.sandbox.is_some());
        if !went {
            self.0.remove(pod_uid);
            return false;
        }
        let since = *self.0.entry(pod_uid.to_owned()).or_insert(now);
        now.duration_since(since) < ENDING
    }

    /// How long until the next of them is told of.
    fn due(&self, now: Instant) -> Option<Duration> {
        let since = self.0.values().min()?;
        Some((*since + ENDING).saturating_duration_since(now))
    }
}

/// Runs until `stop`.
pub async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    watch::start(agent.clone());
    let round = agent.passes.begin("attachments", REPORT_PASS);
    let mut reported = Reported::new();
    let mut away = Away::default();
    let mut claims = ClaimReporter::default();
    loop {
        round.done();
        let pause = match report_all(&agent, &mut reported, &mut away, &mut claims, &round).await {
            Ok(()) => away.due(Instant::now()).unwrap_or(PERIOD),
            Err(error) => {
                tracing::warn!(%error, "an attachment could not be reported");
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = agent.attachments_changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn report_all(
    agent: &Agent,
    reported: &mut Reported,
    away: &mut Away,
    claims: &mut ClaimReporter,
    round: &Pass,
) -> Result<(), ReportError> {
    let plans: Vec<AttachmentPlan> = plans::all(&agent.layout)?
        .into_iter()
        .filter(|plan| plan.boot_id == agent.boot_id)
        .collect();
    let alive: HashSet<&str> = plans.iter().map(|plan| plan.pod.uid.as_str()).collect();
    reported.retain(|pod_uid, _| alive.contains(pod_uid.as_str()));
    away.0.retain(|pod_uid, _| alive.contains(pod_uid.as_str()));
    claims.begin(&alive);
    let mut wired = 0;
    let mut failed = None;
    for plan in &plans {
        round.done();
        // One pod's trouble must not hide another pod's news.
        let record = match record(agent, plan) {
            Ok(record) => record,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        wired += usize::from(record.is_some());
        let told = Told {
            sandbox: record.as_ref().map(|record| record.container_id.clone()),
            trouble: trouble(agent, plan, record.as_ref()),
        };
        let before = reported.get(&plan.pod.uid);
        if away.is_new(&plan.pod.uid, before, &told, Instant::now()) {
            continue;
        }
        if before != Some(&told) {
            match report(agent, plan, record.as_ref(), &told, before).await {
                Ok(()) => {
                    reported.insert(plan.pod.uid.clone(), told.clone());
                }
                Err(error) => {
                    // The claim's turn comes when the API server takes this again.
                    failed = Some(error);
                    continue;
                }
            }
        }
        if let Err(error) = claims.report(agent, plan, record.as_ref(), &told.trouble.drift).await {
            failed = Some(error.into());
        }
    }
    let degraded = agent.drift.borrow().len();
    agent.metrics.wired(wired, degraded);
    failed.map_or(Ok(()), Err)
}

/// What ADD left in the pod's folder, if the pod is wired.
fn record(agent: &Agent, plan: &AttachmentPlan) -> Result<Option<AttachmentRecord>, ReportError> {
    let path = agent.layout.record(&plan.pod.uid);
    match railhead_store::read(&path) {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) if error.is_damaged() => {
            tracing::error!(%error, "an attachment record cannot be read");
            Ok(None)
        }
        Err(error) => Err(ReportError::Record(error)),
    }
}

/// What has happened to a pod since it was wired, as the comparison of attachments and the hook of its containers have left it,
/// and which settings of NCCL do not fit what it got.
fn trouble(agent: &Agent, plan: &AttachmentPlan, record: Option<&AttachmentRecord>) -> Trouble {
    let uid = &plan.pod.uid;
    let note = |path: &Path| {
        let bytes = read_state_file(path).ok()?;
        Some(cut(&String::from_utf8_lossy(&bytes)))
    };
    Trouble {
        drift: agent.drift.borrow().get(uid).cloned().unwrap_or_default(),
        memlock: note(&agent.layout.memlock_note(uid)),
        shared: agent.shared.borrow().get(uid).cloned(),
        hidden: note(&agent.layout.nccl_hidden_note(uid)),
        nccl: record.and_then(|record| wrong_settings(&wrong_nccl(plan, &record.rails))),
    }
}

/// All of them in one text.
fn wrong_settings(wrong: &[WrongNccl]) -> Option<String> {
    let each: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    (!each.is_empty()).then(|| cut(&each.join("; ")))
}

fn cut(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// Gives the attachment the finalizer, which releases up to 0.1 did not.
async fn hold(api: &Api<NetworkAttachment>, name: &str, found: &NetworkAttachment) -> Result<(), kube::Error> {
    let metadata = &found.metadata;
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    if metadata.deletion_timestamp.is_some() || finalizers.iter().any(|f| f == names::ATTACHMENT_FINALIZER) {
        return Ok(());
    }
    finalizers.push(names::ATTACHMENT_FINALIZER.to_owned());
    let with = serde_json::json!({ "metadata": {
        "resourceVersion": metadata.resource_version,
        "finalizers": finalizers,
    } });
    match api.patch(name, &PatchParams::default(), &Patch::Merge(with)).await {
        // Whoever wrote is told of by the next look.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        result => result.map(drop),
    }
}

/// Writes one pod's status, and events when a sandbox was wired that had not been told of, and when something was lost or came
/// back since. An agent that has just started (`before` is none) does not repeat what its predecessor told.
async fn report(
    agent: &Agent,
    plan: &AttachmentPlan,
    record: Option<&AttachmentRecord>,
    told: &Told,
    before: Option<&Told>,
) -> Result<(), ReportError> {
    let namespace = &plan.pod.namespace;
    let name = names::attachment(&plan.slice_name, plan.index);
    let api: Api<NetworkAttachment> = Api::namespaced(agent.client.clone(), namespace);
    let found = api.get_opt(&name).await.map_err(|source| ReportError::Read {
        namespace: namespace.clone(),
        name: name.clone(),
        source: Box::new(source),
    })?;
    let Some(found) = found.filter(|found| found.spec.pod_uid == plan.pod.uid) else {
        // Prepare is about to make it, or Unprepare has just deleted it.
        return Ok(());
    };
    hold(&api, &name, &found).await.map_err(|source| ReportError::Write {
        namespace: namespace.clone(),
        name: name.clone(),
        source: Box::new(source),
    })?;
    let previous = found.status.unwrap_or_default();
    let generation = found.metadata.generation;
    let status = status::status(plan, record, &told.trouble, &previous, generation, Timestamp::now());
    let was_wired = status::is_wired(&previous);
    if status != previous {
        let patch = serde_json::json!({
            "apiVersion": "railhead.dev/v1alpha1",
            "kind": "NetworkAttachment",
            "metadata": { "name": name, "namespace": namespace },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        match api.patch_status(&name, &params, &Patch::Apply(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(source) => {
                return Err(ReportError::Write {
                    namespace: namespace.clone(),
                    name,
                    source: Box::new(source),
                });
            }
        }
    }
    if let Some((reason, note)) = status::degraded_news(&previous, &status) {
        if reason == Reason::Recovered {
            agent.events.normal(&plan.pod, reason, note);
        } else {
            agent.events.warning(&plan.pod, reason, note);
        }
    }
    if before.is_some() || !was_wired {
        for (reason, note) in status::nccl_news(before.map(|before| &before.trouble), &told.trouble) {
            agent.events.warning(&plan.pod, reason, note);
        }
    }
    let newly_wired = before.map_or(!was_wired, |before| before.sandbox != told.sandbox);
    if let Some(record) = record
        && newly_wired
    {
        let note = status::wired_note(record);
        tracing::info!(pod = format!("{namespace}/{}", plan.pod.name), note, "wired");
        agent.events.normal(&plan.pod, Reason::Wired, note);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sandbox: Option<&str>) -> Told {
        Told {
            sandbox: sandbox.map(str::to_owned),
            trouble: Trouble::default(),
        }
    }

    /// Most sandboxes go because their pods end, and then there is nothing to tell.
    #[test]
    fn a_sandbox_that_went_is_told_of_when_it_stays_away() {
        let (wired, gone) = (told(Some("a")), told(None));
        let begin = Instant::now();
        let mut away = Away::default();
        assert!(away.is_new("uid", Some(&wired), &gone, begin));
        assert!(away.is_new("uid", Some(&wired), &gone, begin + ENDING / 2));
        assert_eq!(away.due(begin + ENDING / 2), Some(ENDING / 2));
        assert!(!away.is_new("uid", Some(&wired), &gone, begin + ENDING));
        // It was told of then, and is no news any more.
        assert!(!away.is_new("uid", Some(&gone), &gone, begin + ENDING));
        assert_eq!(away.due(begin + ENDING), None);
    }

    #[test]
    fn what_is_wired_and_what_never_was_is_told_at_once() {
        let begin = Instant::now();
        let mut away = Away::default();
        for (before, now) in [
            (None, told(None)),
            (None, told(Some("a"))),
            (Some(told(None)), told(Some("a"))),
            (Some(told(Some("a"))), told(Some("b"))),
        ] {
            assert!(!away.is_new("uid", before.as_ref(), &now, begin), "{before:?} {now:?}");
        }
        // Another sandbox in time: the next one's end waits as long as the first one's.
        assert!(away.is_new("uid", Some(&told(Some("a"))), &told(None), begin));
        assert!(!away.is_new("uid", Some(&told(Some("a"))), &told(Some("b")), begin));
        assert!(away.is_new("uid", Some(&told(Some("b"))), &told(None), begin + ENDING));
    }
}
