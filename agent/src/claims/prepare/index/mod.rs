//! Takes a pod's index: the NetworkAttachment `<slice>-<index>` is its lock, and creating it takes it.
//!
//! Once the plan is on disk the attachment is written to ([`Taker::rely_on`]). That proves that it is still there, and a
//! deletion that was asked for before, and has not reached the API server yet, names an older version and fails.

mod any;
mod attachment;

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use railhead_crds::{NetworkAttachment, NetworkSlice, names};
use railhead_planner::index::{self, IndexChoice, IndexError, Space};
use railhead_service::within;
use tokio::time::Instant;

use super::{
    PrepareError,
    entitled::Entitled,
    holder::{advice, holder},
};
use crate::{
    agent::Agent,
    claims::release,
    limits::{INDEX_POLL, INDEX_TAKEN, PREPARE, jitter},
};

/// Takes indices for one pod until `deadline`.
pub(super) struct Taker<'a> {
    agent: &'a Agent,
    entitled: &'a Entitled,
    claim_uid: &'a str,
    deadline: Instant,
    api: Api<NetworkAttachment>,
}

/// An index that is the pod's.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) index: u32,
    /// Version of its attachment as it was last seen.
    version: Option<String>,
}

impl Taken {
    fn of(attachment: &NetworkAttachment) -> Self {
        Self {
            index: attachment.spec.index,
            version: attachment.metadata.resource_version.clone(),
        }
    }
}

/// Who an attachment belongs to after it was tried to create it.
enum Created {
    /// The pod, since now.
    Made(Taken),
    /// The pod, since an earlier try.
    Ours(Taken),
    /// Another pod, or nobody soon: it is being deleted.
    Held(Box<NetworkAttachment>),
}

impl<'a> Taker<'a> {
    pub(super) fn new(agent: &'a Agent, entitled: &'a Entitled, claim_uid: &'a str, deadline: Instant) -> Self {
        let namespace = entitled.pod.metadata.namespace.as_deref();
        Self {
            agent,
            entitled,
            claim_uid,
            deadline,
            api: Api::namespaced(agent.client.clone(), namespace.unwrap_or_default()),
        }
    }

    /// Takes the pod's index, waiting for a holder that is on its way out.
    pub(super) async fn take(&self) -> Result<Taken, PrepareError> {
        self.check_quarantine(&self.entitled.slice)?;
        let space = Space::new(&self.entitled.network, self.entitled.slice.spec.pods);
        let choice = match index::of(&self.entitled.pod.metadata, &space) {
            Ok(choice) => choice,
            Err(error) => {
                // A network that has shrunk takes nothing from a pod that has its index already.
                let has_shrunk = self.entitled.network.spec.pods < self.entitled.slice.spec.pods;
                let own = if has_shrunk { self.own().await? } else { None };
                return own.ok_or_else(|| self.not_yet(error));
            }
        };
        let taken = match choice {
            IndexChoice::Fixed(index) => {
                self.check_roles(&space).await?;
                self.wait_for(index).await?
            }
            IndexChoice::Any(span) => self.any(span).await?,
        };
        self.confirm(taken.index).await?;
        Ok(taken)
    }

    /// Another role of the workload that counts from 0 as well would take the pod's index, or have to wait for it for ever. Pods that
    /// have ended do not count. Of most workloads nobody is looked for.
    async fn check_roles(&self, space: &Space<'_>) -> Result<(), PrepareError> {
        let Some(rivals) = index::rivals(&self.entitled.pod.metadata, space) else {
            return Ok(());
        };
        let pods: Api<Pod> = Api::namespaced(self.agent.client.clone(), &self.entitled.pod_ref().namespace);
        let network = &self.entitled.slice.spec.network.name;
        let others = ListParams::default()
            .labels(&format!("{}={network},{}", names::NETWORK_LABEL, rivals.selector))
            .fields("status.phase!=Succeeded,status.phase!=Failed")
            .limit(1);
        let found = within(self.deadline, pods.list_metadata(&others)).await;
        let found = found.map_err(|source| self.list_error(network, source))?;
        match found.items.first() {
            Some(other) => Err(rivals.error(&other.metadata, space).into()),
            None => Ok(()),
        }
    }

    /// A network that has grown gets its slice changed a moment later.
    fn not_yet(&self, error: IndexError) -> PrepareError {
        match error {
            IndexError::OutOfRange {
                index, network, pods, ..
            } if index < self.entitled.network.spec.pods => PrepareError::NotGrown { index, network, pods },
            error => error.into(),
        }
    }

    /// Makes sure that the pod of an existing plan still has its index; `None` if another pod has it by now. A slice that is
    /// on its way out stays for an attachment that is there, but not for one that has to be made again.
    ///
    /// It is there, nearly always, and then nothing is created: what keeps the node from that, a quota or a role, is nothing to a
    /// pod that runs.
    pub(super) async fn hold(&self, index: u32) -> Result<Option<Taken>, PrepareError> {
        let name = names::attachment(self.entitled.slice_name(), index);
        let uid = self.entitled.pod.metadata.uid.as_deref();
        let found = within(self.deadline, self.api.get_opt(&name)).await;
        let found = found.map_err(|source| self.read_error(&name, source))?;
        if let Some(found) = found.filter(|found| Some(found.spec.pod_uid.as_str()) == uid && !is_ending(found)) {
            return Ok(Some(Taken::of(&found)));
        }
        Ok(match self.create(index).await? {
            Created::Ours(taken) => Some(taken),
            Created::Made(taken) => {
                self.confirm(index).await?;
                Some(taken)
            }
            Created::Held(_) => None,
        })
    }

    /// Takes this very index.
    pub(super) async fn wait_for(&self, index: u32) -> Result<Taken, PrepareError> {
        let mut told = false;
        loop {
            let held = match self.create(index).await? {
                Created::Made(taken) | Created::Ours(taken) => return Ok(taken),
                Created::Held(held) => held,
            };
            let error = self.held_by(index, &held).await;
            if Instant::now() >= self.deadline {
                return Err(error);
            }
            if !told {
                told = true;
                let pod = self.entitled.pod_ref();
                self.agent.events.warning(&pod, error.reason(), error.to_string());
            }
            if !self.wait_for_its_end(&held).await {
                self.pause(INDEX_POLL).await;
            }
            if Instant::now() >= self.deadline {
                return Err(error);
            }
        }
    }

    /// Writes into the attachment, now that a plan relies on it. An error if it is not the pod's any more.
    pub(super) async fn rely_on(&self, taken: &Taken) -> Result<(), PrepareError> {
        let name = names::attachment(self.entitled.slice_name(), taken.index);
        let uid = self.entitled.pod.metadata.uid.as_deref();
        let mut version = taken.version.clone();
        loop {
            if let Some(version) = &version
                && self.touch(&name, version).await?
            {
                return Ok(());
            }
            // Its status may have been written meanwhile.
            let found = within(self.deadline, self.api.get_opt(&name)).await;
            let found = found.map_err(|source| self.take_error(&name, source))?;
            let ours = found.filter(|found| Some(found.spec.pod_uid.as_str()) == uid && !is_ending(found));
            let Some(found) = ours else {
                return Err(PrepareError::IndexLost { index: taken.index });
            };
            version = found.metadata.resource_version;
        }
    }

    /// Writes into the attachment of this version. False if there is none.
    async fn touch(&self, name: &str, version: &str) -> Result<bool, PrepareError> {
        let patch = Patch::Merge(serde_json::json!({
            "metadata": { "resourceVersion": version },
            "status": { "preparedAt": Timestamp::now().to_string() },
        }));
        let params = PatchParams::default();
        match within(self.deadline, self.api.patch_status(name, &params, &patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(false),
            Err(source) => Err(self.take_error(name, source)),
        }
    }

    /// Waits until the attachment is deleted, or the deadline. False when it could not be watched for that long.
    async fn wait_for_its_end(&self, held: &NetworkAttachment) -> bool {
        let name = held.metadata.name.as_deref().unwrap_or_default();
        let version = held.metadata.resource_version.as_deref().unwrap_or("0");
        let seconds = u32::try_from(PREPARE.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams::default()
            .fields(&format!("metadata.name={name}"))
            .timeout(seconds);
        let watched = async {
            let mut events = self.api.watch(&params, version).await.ok()?.boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Deleted(_)) => return Some(()),
                    Ok(WatchEvent::Error(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
            None
        };
        // The deadline has come: that is as long as there was to wait.
        tokio::time::timeout_at(self.deadline, watched)
            .await
            .unwrap_or(Some(()))
            .is_some()
    }

    /// Creates the attachment, unless it is there.
    async fn create(&self, index: u32) -> Result<Created, PrepareError> {
        let wanted = attachment::wanted(self.entitled, index, self.claim_uid, &self.agent.node);
        let name = wanted.metadata.name.clone().unwrap_or_default();
        loop {
            match within(self.deadline, self.api.create(&PostParams::default(), &wanted)).await {
                Ok(made) => return Ok(Created::Made(Taken::of(&made))),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(source) => {
                    self.agent.metrics.creation_in_doubt();
                    return Err(self.take_error(&name, source));
                }
            }
            let found = within(self.deadline, self.api.get_opt(&name)).await;
            match found.map_err(|source| self.take_error(&name, source))? {
                Some(found) if found.spec.pod_uid == wanted.spec.pod_uid && !is_ending(&found) => {
                    return Ok(Created::Ours(Taken::of(&found)));
                }
                // Somebody else's finalizer may keep it.
                Some(found) if self.end(&name, &found).await? => self.pause(INDEX_TAKEN).await,
                Some(found) => return Ok(Created::Held(Box::new(found))),
                // It went between the two requests.
                None => self.pause(INDEX_TAKEN).await,
            }
        }
    }

    /// Ends what a give-back of this node left that was cut off after the deletion and before the finalizer: the pod would wait for
    /// nobody but itself, or for one that has gone, until the collector comes. False if it is no such attachment, or if its pod
    /// is still wired or planned.
    async fn end(&self, name: &str, found: &NetworkAttachment) -> Result<bool, PrepareError> {
        let mut finalizers = found.metadata.finalizers.iter().flatten();
        let is_unfinished = is_ending(found) && finalizers.any(|finalizer| finalizer == names::ATTACHMENT_FINALIZER);
        if !is_unfinished || found.spec.node_name != self.agent.node {
            return Ok(false);
        }
        let Some((pod, _)) = release::index::holder(found) else {
            return Ok(false);
        };
        let is_own = self.entitled.pod.metadata.uid.as_ref() == Some(&pod.uid);
        if !is_own && release::sandboxes::is_wired(&self.agent.layout, &pod.uid) {
            return Ok(false);
        }
        let ended = within(self.deadline, release::index::end(self.agent, &self.api, name, found)).await;
        ended.map_err(|source| self.take_error(name, source))
    }

    /// Waits about so long, and not beyond the deadline.
    async fn pause(&self, about: std::time::Duration) {
        tokio::time::sleep_until(self.deadline.min(Instant::now() + jitter(about))).await;
    }

    /// A pod that has its index already keeps it: what is asked here is whether another one may come.
    fn check_quarantine(&self, slice: &NetworkSlice) -> Result<(), PrepareError> {
        let Some(why) = slice.quarantine() else { return Ok(()) };
        Err(PrepareError::Quarantined {
            namespace: self.entitled.pod_ref().namespace,
            network: slice.spec.network.name.clone(),
            why: why.to_owned(),
        })
    }

    /// Reads the slice again, now that the attachment is there. The operator lists attachments after it has marked the slice
    /// for deletion: either it sees this one and keeps the slice, or the mark is seen here and the attachment goes. So it is
    /// with a slice that was put into quarantine meanwhile.
    async fn confirm(&self, index: u32) -> Result<(), PrepareError> {
        let pod = self.entitled.pod_ref();
        let slices: Api<NetworkSlice> = Api::namespaced(self.agent.client.clone(), &pod.namespace);
        let name = self.entitled.slice_name();
        let live = within(self.deadline, slices.get_opt(name))
            .await
            // The next try asks again.
            .map_err(|source| self.take_error(name, source))?;
        let refused = match live {
            Some(live) if stands(Some(&live.metadata), &self.entitled.slice.metadata) => {
                match self.check_quarantine(&live) {
                    Ok(()) => return Ok(()),
                    Err(quarantined) => quarantined,
                }
            }
            _ => PrepareError::SliceEnds {
                namespace: pod.namespace.clone(),
                network: self.entitled.slice.spec.network.name.clone(),
            },
        };
        let attachment = names::attachment(name, index);
        if let Err(error) = release::index::give_back(self.agent, &pod.namespace, &attachment, &pod.uid).await {
            tracing::warn!(attachment, %error, "an index that was taken too late could not be given back yet");
        }
        Err(refused)
    }

    async fn held_by(&self, index: u32, held: &NetworkAttachment) -> PrepareError {
        let namespace = held.metadata.namespace.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.agent.client.clone(), namespace);
        let pod = within(self.deadline, pods.get_opt(&held.spec.pod_name))
            .await
            .ok()
            .flatten();
        let pod = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&held.spec.pod_uid));
        PrepareError::IndexHeld {
            index,
            holder: holder(held, pod.as_ref(), Timestamp::now()),
            advice: advice(&self.entitled.pod, pod.as_ref()),
        }
    }

    fn read_error(&self, name: &str, source: kube::Error) -> PrepareError {
        PrepareError::Read {
            kind: "NetworkAttachment",
            namespace: self.entitled.pod_ref().namespace,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    fn list_error(&self, network: &str, source: kube::Error) -> PrepareError {
        PrepareError::Read {
            kind: "pods of TrainingNetwork",
            namespace: self.entitled.pod_ref().namespace,
            name: network.to_owned(),
            source: Box::new(source),
        }
    }

    fn take_error(&self, name: &str, source: kube::Error) -> PrepareError {
        PrepareError::TakeIndex {
            namespace: self.entitled.pod_ref().namespace,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }
}

fn is_ending(attachment: &NetworkAttachment) -> bool {
    attachment.metadata.deletion_timestamp.is_some()
}

/// Whether `live` is the slice that the pod was checked against, and is to stay.
fn stands(live: Option<&ObjectMeta>, checked: &ObjectMeta) -> bool {
    live.is_some_and(|live| live.deletion_timestamp.is_none() && live.uid == checked.uid)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn an_index_of_a_slice_that_ends_or_was_made_anew_is_not_kept() {
        let slice = |uid: &str| ObjectMeta {
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        };
        let checked = slice("s-1");
        assert!(stands(Some(&checked), &checked));
        assert!(!stands(None, &checked));
        assert!(!stands(Some(&slice("s-2")), &checked));
        let mut ending = slice("s-1");
        ending.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
        assert!(!stands(Some(&ending), &checked));
    }
}
