//! The index: deleting its NetworkAttachment gives it to others.

use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use railhead_crds::NetworkAttachment;

use super::ReleaseError;

/// Deletes the attachment `name` if it is the pod's: the index is free for others then.
pub(crate) async fn give_back(client: &Client, namespace: &str, name: &str, pod_uid: &str) -> Result<(), ReleaseError> {
    let api: Api<NetworkAttachment> = Api::namespaced(client.clone(), namespace);
    let error = |source| ReleaseError::Attachment {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    };
    let Some(found) = api.get_opt(name).await.map_err(error)? else {
        return Ok(());
    };
    if found.spec.pod_uid != pod_uid {
        return Ok(());
    }
    let same = DeleteParams::default().preconditions(Preconditions {
        uid: found.metadata.uid,
        resource_version: None,
    });
    match api.delete(name, &same).await {
        Ok(_) => Ok(()),
        // Gone, or already somebody else's of the same name.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(error(source)),
    }
}
