//! The index: deleting its NetworkAttachment gives it to others.
//!
//! A deletion may reach the API server long after it was asked for: its answer did not come in time, and kubelet has called
//! Prepare again meanwhile. So it names the version that was read before this node was seen to have no plan for it, and every
//! Prepare writes into the attachment once its plan is on disk (`prepare::index`): a deletion from before that fails.

use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use railhead_crds::{NetworkAttachment, names};

use super::ReleaseError;
use crate::{
    agent::Agent,
    claims::plans::{self, Found},
};

/// How often an attachment that changes meanwhile is looked at again: its status is written by others.
const TRIES: usize = 5;

/// Deletes the attachment `name` if it is the pod's and no plan of this node relies on it: the index is free for others then.
pub(crate) async fn give_back(agent: &Agent, namespace: &str, name: &str, pod_uid: &str) -> Result<(), ReleaseError> {
    let api: Api<NetworkAttachment> = Api::namespaced(agent.client.clone(), namespace);
    let error = |source| ReleaseError::Attachment {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let mut conflict = None;
    for _ in 0..TRIES {
        let Some(found) = api.get_opt(name).await.map_err(error)? else {
            return Ok(());
        };
        if found.spec.pod_uid != pod_uid || is_relied_on(agent, pod_uid, name)? {
            return Ok(());
        }
        let as_read = DeleteParams::default().preconditions(Preconditions {
            uid: found.metadata.uid,
            resource_version: found.metadata.resource_version,
        });
        match api.delete(name, &as_read).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => conflict = Some(kube::Error::Api(status)),
            Err(source) => return Err(error(source)),
        }
    }
    conflict.map_or(Ok(()), |source| Err(error(source)))
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
