//! Waits for the nodes.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{Client, ResourceExt, core::PartialObjectMeta};
use railhead_crds::NodeNetwork;
use tokio::time::sleep;
use tracing::info;

use super::{TeardownError, objects::list, patience::Limit};
use crate::{
    network::listed,
    torn_down::{is_torn_down, open_message},
};

/// Waits until every NodeNetwork of a node that still exists says that the node is as before.
pub(super) async fn wait_for_nodes(client: &Client, limit: Limit) -> Result<(), TeardownError> {
    loop {
        let open = limit.patiently(|| open_nodes(client)).await?;
        if open.is_empty() {
            return Ok(());
        }
        if limit.is_over() {
            return Err(TeardownError::TimedOut {
                timeout: limit.timeout,
                nodes: listed(&open),
            });
        }
        info!(waiting_for = listed(&open), "nodes give back what was changed");
        sleep(Duration::from_secs(1)).await;
    }
}

async fn open_nodes(client: &Client) -> Result<Vec<String>, TeardownError> {
    let nodes = list::<PartialObjectMeta<Node>>(client).await?;
    let live: BTreeSet<String> = nodes.iter().map(ResourceExt::name_any).collect();
    let wishes = list::<NodeNetwork>(client).await?;
    let open = wishes
        .iter()
        .filter(|wish| live.contains(&wish.name_any()) && !is_torn_down(wish));
    Ok(open.map(open_message).collect())
}
