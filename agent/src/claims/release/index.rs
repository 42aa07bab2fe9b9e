//! The index: deleting its NetworkAttachment gives it to others.
//!
//! A deletion may reach the API server long after it was asked for: its answer did not come in time, and kubelet has called
//! Prepare again meanwhile. So it names the version that was read before this node was seen to have no plan for it, and every
//! Prepare writes into the attachment once its plan is on disk (`prepare::index`): a deletion from before that fails.
//!
//! A deletion alone frees nothing: the finalizer goes after it, and only this node takes it away. So the index of a pod whose
//! namespace is deleted stays held while the pod is wired.

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use railhead_crds::{NetworkAttachment, names};
use railhead_plan::PodRef;

use super::ReleaseError;
use crate::{
    agent::Agent,
    claims::plans::{self, Found},
};

/// How often an attachment that changes meanwhile is looked at again: its status is written by others.
const TRIES: usize = 5;

/// What the API server said of an attachment: `None` if there is none.
pub(super) type Seen = Result<Option<NetworkAttachment>, kube::Error>;

/// Looks at the attachment `name`, for [`give_back_seen`].
pub(super) async fn see(agent: &Agent, namespace: &str, name: &str) -> Seen {
    let api: Api<NetworkAttachment> = Api::namespaced(agent.client.clone(), namespace);
    api.get_opt(name).await
}

/// Deletes the attachment `name` if it is the pod's and no plan of this node relies on it: the index is free for others then.
pub(crate) async fn give_back(agent: &Agent, namespace: &str, name: &str, pod_uid: &str) -> Result<(), ReleaseError> {
    let seen = see(agent, namespace, name).await;
    give_back_seen(agent, namespace, name, pod_uid, seen).await
}

/// The same with an attachment that was looked at before the plan went. One that was written to since is looked at again.
pub(super) async fn give_back_seen(
    agent: &Agent,
    namespace: &str,
    name: &str,
    pod_uid: &str,
    mut seen: Seen,
) -> Result<(), ReleaseError> {
    let api: Api<NetworkAttachment> = Api::namespaced(agent.client.clone(), namespace);
    let error = |source| ReleaseError::Attachment {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let mut conflict = None;
    for _ in 0..TRIES {
        let Some(found) = seen.map_err(error)? else {
            return Ok(());
        };
        if found.spec.pod_uid != pod_uid || is_relied_on(agent, pod_uid, name)? {
            return Ok(());
        }
        match free(&api, name, found).await {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => conflict = Some(kube::Error::Api(status)),
            Err(source) => return Err(error(source)),
        }
        seen = api.get_opt(name).await;
    }
    conflict.map_or(Ok(()), |source| Err(error(source)))
}

/// The pod that an attachment names, and the UID of its claim. `None` where one of the UIDs is none: they become parts of paths on
/// this node, and the attachment may be older than the pattern in its schema, or that schema changed.
pub(in crate::claims) fn holder(attachment: &NetworkAttachment) -> Option<(PodRef, &str)> {
    let spec = &attachment.spec;
    let namespace = attachment.namespace().unwrap_or_default();
    if ![&spec.pod_uid, &spec.claim_uid]
        .into_iter()
        .all(|uid| names::is_uid(uid))
    {
        let name = attachment.name_any();
        tracing::error!(
            namespace,
            name,
            pod_uid = spec.pod_uid,
            claim_uid = spec.claim_uid,
            "a NetworkAttachment of this node names what is no UID; it is left alone; find out who wrote it"
        );
        return None;
    }
    let pod = PodRef {
        namespace,
        name: spec.pod_name.clone(),
        uid: spec.pod_uid.clone(),
    };
    Some((pod, &spec.claim_uid))
}

/// Takes this node's finalizer from an attachment that is marked as deleted, unless a plan relies on it. Tells whether it did, or
/// somebody else had.
pub(crate) async fn end(
    agent: &Agent,
    api: &Api<NetworkAttachment>,
    name: &str,
    marked: &NetworkAttachment,
) -> Result<bool, kube::Error> {
    // What cannot be told is left to whoever gives the plan back.
    if is_relied_on(agent, &marked.spec.pod_uid, name).unwrap_or(true) {
        return Ok(false);
    }
    match free(api, name, marked.clone()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(true),
        ended => ended.map(|()| true),
    }
}

/// Deletes the attachment as it was read, and then takes this node's finalizer from it. Nobody takes an index whose attachment is
/// marked as deleted, so that what was true before the mark is true after it.
async fn free(api: &Api<NetworkAttachment>, name: &str, found: NetworkAttachment) -> Result<(), kube::Error> {
    let marked = if found.metadata.deletion_timestamp.is_some() {
        found
    } else {
        let as_read = DeleteParams::default().preconditions(Preconditions {
            uid: found.metadata.uid,
            resource_version: found.metadata.resource_version,
        });
        match api.delete(name, &as_read).await?.left() {
            Some(marked) => marked,
            None => return Ok(()),
        }
    };
    let mut finalizers = marked.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|finalizer| finalizer != names::ATTACHMENT_FINALIZER);
    let without = serde_json::json!({ "metadata": {
        "resourceVersion": marked.metadata.resource_version,
        "finalizers": finalizers,
    } });
    api.patch(name, &PatchParams::default(), &Patch::Merge(without))
        .await
        .map(drop)
}

/// Whether this node has a plan with the index behind the attachment. One that cannot be read may be it.
fn is_relied_on(agent: &Agent, pod_uid: &str, attachment: &str) -> Result<bool, ReleaseError> {
    Ok(match plans::of_pod(&agent.layout, pod_uid)? {
        Found::Nothing => false,
        Found::Damaged => true,
        Found::Plan(plan) => {
            plan.boot_id == agent.boot_id && names::attachment(&plan.slice_name, plan.index) == attachment
        }
    })
}
