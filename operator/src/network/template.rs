//! The ResourceClaimTemplate of a network, and the pods that were there before it.

use std::{future::ready, sync::Arc};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use railhead_crds::{
    NetworkSlice,
    names::{self, POD_CLAIM, REQUEUE_ANNOTATION},
    reasons::Reason,
};
use railhead_planner::{claim, network::Resolved};
use serde_json::json;
use tracing::info;

use super::{MANAGER, NetworkError, Outcome, Subject};
use crate::{known::Pod, pod::is_waiting, write};

/// How many pods are written at a time.
const AT_ONCE: usize = 16;

/// Whose template there is now.
pub(super) enum Ensured {
    Ours(Arc<ResourceClaimTemplate>),
    Foreign(Outcome),
}

enum Owner {
    This,
    /// An earlier network of that name, already gone.
    Earlier,
    SomebodyElse,
}

impl Subject<'_> {
    fn templates(&self) -> Api<ResourceClaimTemplate> {
        Api::namespaced(self.context.client.clone(), &self.namespace)
    }

    /// The template of the network's name, as the watch last told. Whoever changes it wakes the network up again.
    fn known_template(&self) -> Option<Arc<ResourceClaimTemplate>> {
        let name = names::claim_template(&self.name);
        let templates = &self.context.world.templates;
        templates.get(&ObjectRef::new(&name).within(&self.namespace))
    }

    /// Makes the template that the network wants. The spec of a template cannot be changed, so a different one is replaced.
    pub(super) async fn ensure_template(&self, resolved: &Resolved) -> Result<Ensured, NetworkError> {
        let wanted = claim::template(self.network, resolved);
        let name = wanted.name_any();
        if let Some(known) = self.known_template()
            && self.is_wanted(&known, &wanted)
        {
            return Ok(Ensured::Ours(known));
        }
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let create = async || self.templates().create(&parameters, &wanted).await;
        let created = match create().await {
            Err(error) if write::already_exists(&error) => {
                if let Some(found) = self.read_template(&name).await? {
                    if self.is_wanted(&found, &wanted) {
                        return Ok(Ensured::Ours(Arc::new(found)));
                    }
                    if matches!(self.owner_of(&found), Owner::SomebodyElse) {
                        return Ok(Ensured::Foreign(conflict(&name)));
                    }
                    delete(&self.templates(), &found).await?;
                }
                create().await
            }
            created => created,
        };
        created
            .map(|template| Ensured::Ours(Arc::new(template)))
            .map_err(|source| NetworkError::WriteTemplate {
                name,
                source: Box::new(source),
            })
    }

    /// Whether it is this network's, is as wanted, and stays.
    fn is_wanted(&self, found: &ResourceClaimTemplate, wanted: &ResourceClaimTemplate) -> bool {
        matches!(self.owner_of(found), Owner::This)
            && claim::same_template(found, wanted)
            && found.owner_references() == wanted.owner_references()
            && found.metadata.deletion_timestamp.is_none()
    }

    /// Takes the template away, if it is this network's. Returns what is still there: somebody's finalizers keep it, and while it is
    /// there pods get claims from it.
    pub(super) async fn remove_template(&self) -> Result<Option<ResourceClaimTemplate>, NetworkError> {
        let name = names::claim_template(&self.name);
        let of_this = |found: &ResourceClaimTemplate| matches!(self.owner_of(found), Owner::This);
        let Some(found) = self.read_template(&name).await?.filter(of_this) else {
            return Ok(None);
        };
        delete(&self.templates(), &found).await?;
        Ok(self.read_template(&name).await?.filter(of_this))
    }

    /// What to say if somebody else has a template of the network's name.
    pub(super) fn foreign_template(&self) -> Option<Outcome> {
        let found = self.known_template()?;
        matches!(self.owner_of(&found), Owner::SomebodyElse).then(|| conflict(&found.name_any()))
    }

    /// Takes the template of a refused network away: pods that come now shall not hold ports that they cannot use. Where
    /// there is a slice (the watch may not have told of it yet) the template stays, but for one in quarantine.
    pub(super) async fn withdraw_template(&self, quarantined: bool) -> Result<(), NetworkError> {
        let Some(found) = self.known_template() else {
            return Ok(());
        };
        if !matches!(self.owner_of(&found), Owner::This) {
            return Ok(());
        }
        if !quarantined && self.has_slice_now().await? {
            return Ok(());
        }
        info!(
            network = self.name,
            namespace = self.namespace,
            "refused: its claim template is taken away"
        );
        delete(&self.templates(), &found).await
    }

    async fn has_slice_now(&self) -> Result<bool, NetworkError> {
        let name = names::slice(&self.name, &self.uid);
        let slices: Api<NetworkSlice> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let slice = slices.get_metadata_opt(&name).await;
        slice
            .map(|slice| slice.is_some())
            .map_err(|source| NetworkError::ReadSlice {
                name,
                source: Box::new(source),
            })
    }

    async fn read_template(&self, name: &str) -> Result<Option<ResourceClaimTemplate>, NetworkError> {
        self.templates()
            .get_opt(name)
            .await
            .map_err(|source| NetworkError::ReadTemplate {
                name: name.to_owned(),
                source: Box::new(source),
            })
    }

    fn owner_of(&self, template: &ResourceClaimTemplate) -> Owner {
        match claim::network_of_template(template) {
            Some((_, uid)) if uid == self.uid => Owner::This,
            Some((name, _)) if name == self.name => Owner::Earlier,
            _ => Owner::SomebodyElse,
        }
    }

    /// Kubernetes does not look again at a pod whose template was missing when the template appears; only a change of the
    /// pod makes it do so. A pod that cannot be changed keeps no other from it; the first error comes back.
    pub(super) async fn requeue_pods(&self, template: &ResourceClaimTemplate) -> Result<(), NetworkError> {
        let Some(mark) = template.uid() else {
            return Ok(());
        };
        let mut pods = self.context.world.pods_of(&self.namespace, &self.name);
        pods.retain(|pod| waits_for_template(pod, template, &mark));
        let failed: Vec<NetworkError> = stream::iter(pods)
            .map(|pod| self.requeue_pod(pod.name_any(), &mark))
            .buffer_unordered(AT_ONCE)
            .filter_map(|requeued| ready(requeued.err()))
            .collect()
            .await;
        failed.into_iter().next().map_or(Ok(()), Err)
    }

    async fn requeue_pod(&self, name: String, mark: &str) -> Result<(), NetworkError> {
        info!(
            pod = name,
            namespace = self.namespace,
            "requeued: its claim template came after it"
        );
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let patch = json!({ "metadata": { "annotations": { REQUEUE_ANNOTATION: mark } } });
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(source) if !write::is_not_found(&source) => Err(NetworkError::RequeuePod {
                pod: name,
                source: Box::new(source),
            }),
            _ => Ok(()),
        }
    }
}

/// Asks for the deletion of this very template.
pub(crate) async fn delete(
    templates: &Api<ResourceClaimTemplate>,
    template: &ResourceClaimTemplate,
) -> Result<(), NetworkError> {
    let name = template.name_any();
    let only_this_one = DeleteParams::default().preconditions(Preconditions {
        uid: template.uid(),
        resource_version: None,
    });
    match templates.delete(&name, &only_this_one).await {
        Err(source) if !write::is_not_found(&source) => Err(NetworkError::WriteTemplate {
            name,
            source: Box::new(source),
        }),
        _ => Ok(()),
    }
}

fn conflict(template: &str) -> Outcome {
    Outcome::Refused {
        reason: Reason::TemplateConflict,
        message: format!(
            "ResourceClaimTemplate {template} exists and belongs to somebody else: delete it, or give this network another name"
        ),
    }
}

/// Whether the pod is older than the template, has no claim from it, and was not requeued for it before.
fn waits_for_template(pod: &Pod, template: &ResourceClaimTemplate, mark: &str) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.resource_claim_statuses.iter().flatten());
    is_waiting(pod)
        && pod.creation_timestamp() <= template.creation_timestamp()
        && pod.annotations().get(REQUEUE_ANNOTATION).map(String::as_str) != Some(mark)
        && !statuses
            .into_iter()
            .any(|claim| claim.name == POD_CLAIM && claim.resource_claim_name.is_some())
}

#[cfg(test)]
mod tests {
    use http::Method;
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
    use kube::runtime::{reflector::store, watcher::Event};

    use super::*;
    use crate::{
        grouped::Grouped,
        network::fixtures,
        test_api,
        world::{self, World},
    };

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn only_pods_older_than_the_template_and_without_a_claim_are_requeued_and_once() {
        let network = fixtures::network(2);
        let mut template = claim::template(&network, &fixtures::resolved(&network));
        template.metadata.creation_timestamp = Some(at(100));
        let mut older = fixtures::pod(0);
        older.metadata.creation_timestamp = Some(at(90));
        assert!(waits_for_template(&older, &template, "t-1"));
        let mut marked = older.clone();
        marked.annotations_mut().insert(REQUEUE_ANNOTATION.into(), "t-1".into());
        assert!(!waits_for_template(&marked, &template, "t-1"));
        assert!(waits_for_template(&marked, &template, "t-2"), "a template made anew");
        let mut newer = older.clone();
        newer.metadata.creation_timestamp = Some(at(101));
        assert!(!waits_for_template(&newer, &template, "t-1"));
        let mut claimed = older;
        claimed.status.as_mut().unwrap().resource_claim_statuses =
            serde_json::from_value(json!([{"name": "railhead", "resourceClaimName": "llama-0-railhead-x"}])).unwrap();
        assert!(!waits_for_template(&claimed, &template, "t-1"));
    }

    #[tokio::test]
    async fn a_pod_that_cannot_be_written_keeps_no_other_from_being_requeued() {
        let (pods, mut pods_in) = store();
        let pods = Grouped::new(pods, world::network_of_pod);
        for index in 0..3 {
            let event = Event::Apply(fixtures::pod(index));
            pods.follow(&event);
            pods_in.apply_watcher_event(&event);
        }
        let world = World {
            pods,
            ..world::tests::empty()
        };
        let (client, asked) = test_api::client(|path, body| (!path.ends_with("/llama-0")).then_some(body));
        let network = fixtures::network(3);
        let context = fixtures::context(client, world);
        let subject = Subject {
            context: &context,
            network: &network,
            namespace: "team-a".to_owned(),
            name: "llama".to_owned(),
            uid: fixtures::UID.to_owned(),
        };
        let mut template = claim::template(&network, &fixtures::resolved(&network));
        template.metadata.uid = Some("t-1".to_owned());
        template.metadata.creation_timestamp = Some(at(100));
        assert!(subject.requeue_pods(&template).await.is_err(), "it is tried again");
        assert_eq!(
            test_api::names(&asked, &Method::PATCH),
            ["llama-0", "llama-1", "llama-2"]
        );
    }
}
