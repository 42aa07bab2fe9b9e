//! The node's ports as a ResourceSlice: what the scheduler chooses from.

pub(crate) mod slice;

use k8s_openapi::{
    api::{core::v1::Node, resource::v1::ResourceSlice},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use thiserror::Error;

pub use slice::{PORT_DOWN_TAINT, devices, same};

use crate::inventory::Inventory;

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

/// Publishes the inventory as the node's one slice, with a new generation if its content changed.
pub async fn publish(client: &Client, node: &str, inventory: &Inventory) -> Result<(), PublishError> {
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
    let devices = devices(inventory);
    match current {
        None => {
            let owner = owner(client, node).await?;
            let slice = ResourceSlice {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    owner_references: Some(vec![owner]),
                    ..ObjectMeta::default()
                },
                spec: slice::spec(node, devices, 1),
            };
            let created = slices.create(&PostParams::default(), &slice).await;
            created.map_err(write)?;
            tracing::info!(slice = name, "published the node's ports");
        }
        Some(mut slice) if !same(slice.spec.devices.as_deref().unwrap_or_default(), &devices) => {
            let generation = slice.spec.pool.generation + 1;
            slice.spec = slice::spec(node, devices, generation);
            let replaced = slices.replace(&name, &PostParams::default(), &slice).await;
            replaced.map_err(write)?;
            tracing::info!(slice = name, generation, "published changed ports");
        }
        Some(_) => {}
    }
    Ok(())
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
