//! The two watches of the agent, each on one object of its own node.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::{
    Api,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use railhead_crds::{NodeNetwork, names};
use tokio::sync::watch;

use crate::agent::Agent;

/// Keeps `latest` at the node's NodeNetwork; `None` when no fabric selects the node.
pub async fn watch_node_network(agent: Arc<Agent>, latest: watch::Sender<Option<Arc<NodeNetwork>>>) {
    let api: Api<NodeNetwork> = Api::all(agent.client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={}", agent.node));
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    // What a list that is being read has shown so far.
    let mut listed = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = None,
            Ok(Event::InitApply(network)) => listed = Some(Arc::new(network)),
            Ok(Event::InitDone) => {
                latest.send_replace(listed.take());
            }
            Ok(Event::Apply(network)) => {
                latest.send_replace(Some(Arc::new(network)));
            }
            Ok(Event::Delete(_)) => {
                latest.send_replace(None);
            }
            Err(error) => tracing::warn!(%error, "the watch of the NodeNetwork was interrupted"),
        }
    }
}

/// Rings `node_changed` when the node's ResourceSlice changes: kubelet wipes it when it starts and when it has lost the
/// plugin for 30 s.
pub async fn watch_slices(agent: Arc<Agent>) {
    let api: Api<ResourceSlice> = Api::all(agent.client.clone());
    let config =
        watcher::Config::default().fields(&format!("spec.nodeName={},spec.driver={}", agent.node, names::DRIVER));
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Delete(_) | Event::Apply(_) | Event::InitDone) => {
                agent.node_changed.notify_one();
            }
            Ok(Event::Init | Event::InitApply(_)) => {}
            Err(error) => tracing::warn!(%error, "the watch of the ResourceSlice was interrupted"),
        }
    }
}
