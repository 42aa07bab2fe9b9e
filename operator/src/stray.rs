//! Claim templates of networks that are gone: whoever uses one gets claims, and they hold ports that no network has.
//!
//! A network takes its template away before it goes. It cannot where somebody took its own finalizer away, and by the time that
//! the garbage collector comes the template may have no owner any more.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use kube::{Api, Client, ResourceExt as _, runtime::controller::Action};
use railhead_crds::{TrainingNetwork, names};
use railhead_planner::claim;
use thiserror::Error;
use tracing::info;

use crate::{
    controller::Category,
    network::{NetworkError, delete_template},
    world::World,
    write,
};

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
}

/// Why a template could not be looked after. Tried again.
#[derive(Debug, Error)]
pub(crate) enum StrayError {
    #[error("cannot read TrainingNetwork {name}")]
    ReadNetwork { name: String, source: Box<kube::Error> },
    #[error(transparent)]
    Delete(#[from] NetworkError),
}

impl Category for StrayError {
    fn category(&self) -> &'static str {
        match self {
            Self::ReadNetwork { .. } => "network",
            Self::Delete(error) => error.category(),
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::ReadNetwork { source, .. } => write::is_not_found(source),
            Self::Delete(error) => error.is_conflict(),
        }
    }
}

/// Takes the template away if its network is gone, whatever its metadata says.
pub(crate) async fn reconcile(
    template: Arc<ResourceClaimTemplate>,
    context: Arc<Context>,
) -> Result<Action, StrayError> {
    let namespace = template.namespace().unwrap_or_default();
    let Some((name, uid)) = network_of(&template) else {
        return Ok(Action::await_change());
    };
    let known = context.world.network(&namespace, &name);
    let is_ending = template.metadata.deletion_timestamp.is_some();
    if is_ending || known.is_some_and(|known| known.metadata.uid.as_ref() == Some(&uid)) {
        return Ok(Action::await_change());
    }
    // The watch of networks may be later than that of templates.
    let networks: Api<TrainingNetwork> = Api::namespaced(context.client.clone(), &namespace);
    let network = networks.get_metadata_opt(&name).await;
    let network = network.map_err(|source| StrayError::ReadNetwork {
        name: name.clone(),
        source: Box::new(source),
    })?;
    if network.is_some_and(|network| network.metadata.uid.as_ref() == Some(&uid)) {
        return Ok(Action::await_change());
    }
    info!(
        template = template.name_any(),
        namespace, uid, "its network is gone: the claim template is taken away"
    );
    let templates = Api::namespaced(context.client.clone(), &namespace);
    delete_template(&templates, &template).await?;
    Ok(Action::await_change())
}

/// Name and UID of the network that the operator made the template for. One with another name was made by hand, by somebody who
/// may.
fn network_of(template: &ResourceClaimTemplate) -> Option<(String, String)> {
    let (name, uid) = claim::network_of_template(template)?;
    (template.name_any() == names::claim_template(&name)).then_some((name, uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fixtures;

    #[test]
    fn a_template_is_known_by_its_configuration_and_not_by_its_owners() {
        let network = fixtures::network(2);
        let mut template = claim::template(&network, &fixtures::resolved(&network));
        template.metadata.owner_references = None;
        template.metadata.labels = None;
        assert_eq!(
            network_of(&template),
            Some(("llama".to_owned(), fixtures::UID.to_owned()))
        );
        template.metadata.name = Some("copied".to_owned());
        assert_eq!(network_of(&template), None);
        template.metadata.name = Some("llama-rails".to_owned());
        template.spec.spec.devices = None;
        assert_eq!(network_of(&template), None);
    }
}
