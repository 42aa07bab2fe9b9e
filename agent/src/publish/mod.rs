//! The node's ports as a ResourceSlice: what the scheduler chooses from.

pub(crate) mod slice;

use k8s_openapi::{
    api::{
        core::v1::Node,
        resource::v1::{Device, ResourceSlice},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use thiserror::Error;

pub use slice::{CDI_NOT_READY_TAINT, CHAIN_NOT_READY_TAINT, Offer, PORT_DOWN_TAINT, PORT_UNFIT_TAINT, devices, same};

/// Why the ports could not be published. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The Node, needed as owner.
    #[error("read Node {node}: {source}")]
    ReadNode {
        /// Which node.
        node: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The ResourceSlice could not be read.
    #[error("read ResourceSlice {name}: {source}")]
    Read {
        /// Which slice.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The ResourceSlice could not be written.
    #[error("write ResourceSlice {name}: {source}")]
    Write {
        /// Which slice.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
}

/// Name of the node's ResourceSlice.
pub fn slice_name(node: &str) -> String {
    format!("railhead-{node}")
}

/// Publishes, and knows what the API server made of what was published.
#[derive(Debug, Default)]
pub struct Publisher {
    /// What was wanted last, and how it was stored: an API server without a feature drops its fields, and publishing them
    /// again and again would change nothing but the generation.
    last: Option<(Vec<Device>, Vec<Device>)>,
}

impl Publisher {
    /// Publishes the ports as the node's one slice, with a new generation if its content changed.
    pub async fn publish(&mut self, client: &Client, node: &str, offer: &Offer<'_>) -> Result<(), PublishError> {
        let slices: Api<ResourceSlice> = Api::all(client.clone());
        let name = slice_name(node);
        let write = |source| PublishError::Write {
            name: name.clone(),
            source: Box::new(source),
        };
        let current = slices.get_opt(&name).await.map_err(|source| PublishError::Read {
            name: name.clone(),
            source: Box::new(source),
        })?;
        let wanted = devices(offer);
        let stored = match current {
            None => {
                let owner = owner(client, node).await?;
                let slice = ResourceSlice {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        owner_references: Some(vec![owner]),
                        ..ObjectMeta::default()
                    },
                    spec: slice::spec(node, wanted.clone(), 1),
                };
                let created = slices.create(&PostParams::default(), &slice).await;
                tracing::info!(slice = name, "publishing the node's ports");
                created.map_err(write)?
            }
            Some(slice) if self.is_published(&slice, &wanted) => return Ok(()),
            Some(mut slice) => {
                let generation = slice.spec.pool.generation + 1;
                slice.spec = slice::spec(node, wanted.clone(), generation);
                let replaced = slices.replace(&name, &PostParams::default(), &slice).await;
                tracing::info!(slice = name, generation, "publishing changed ports");
                replaced.map_err(write)?
            }
        };
        let stored = stored.spec.devices.unwrap_or_default();
        if !same(&stored, &wanted) {
            tracing::warn!(
                slice = name,
                "the API server changed what was published; is a DRA feature switched off?"
            );
        }
        self.last = Some((wanted, stored));
        Ok(())
    }

    fn is_published(&self, slice: &ResourceSlice, wanted: &[Device]) -> bool {
        let published = slice.spec.devices.as_deref().unwrap_or_default();
        let as_stored = self
            .last
            .as_ref()
            .is_some_and(|(last, stored)| last == wanted && same(published, stored));
        as_stored || same(published, wanted)
    }
}

/// Takes the node's ports away from the scheduler.
pub async fn withdraw(client: &Client, node: &str) -> Result<(), PublishError> {
    let slices: Api<ResourceSlice> = Api::all(client.clone());
    let name = slice_name(node);
    match slices.delete(&name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(PublishError::Write {
            name,
            source: Box::new(source),
        }),
    }
}

/// The node owns its slice, so that the garbage collector removes it with the node.
async fn owner(client: &Client, node: &str) -> Result<OwnerReference, PublishError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let found = nodes
        .get_metadata(node)
        .await
        .map_err(|source| PublishError::ReadNode {
            node: node.to_owned(),
            source: Box::new(source),
        })?;
    Ok(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: found.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_the_api_server_drops_are_not_published_again_and_again() {
        let wanted = vec![Device {
            name: "rail0".to_owned(),
            allow_multiple_allocations: Some(true),
            ..Device::default()
        }];
        let mut stored = wanted.clone();
        stored[0].allow_multiple_allocations = None;
        let slice = ResourceSlice {
            spec: slice::spec("gpu-1", stored.clone(), 3),
            ..ResourceSlice::default()
        };
        let mut publisher = Publisher::default();
        assert!(!publisher.is_published(&slice, &wanted));
        publisher.last = Some((wanted.clone(), stored));
        assert!(publisher.is_published(&slice, &wanted));
        assert!(!publisher.is_published(&slice, &[]), "a real change is published");
    }
}
