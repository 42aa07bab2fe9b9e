//! `railhead-operator teardown`: what Helm runs before it takes Railhead away. An uninstall is not a restart: only here do the
//! nodes give back what was changed on them.

mod operator;

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkSlice, NodeNetwork, TrainingNetwork,
    names::{FABRIC_FINALIZER, NETWORK_FINALIZER, SLICE_FINALIZER},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::info;

use self::operator::Stopped;
use crate::{
    conditions, connect,
    network::{listed, still_attached},
    write,
};

/// Options of `teardown`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long the nodes and then the operator's pods have together, as in 300s or 5m.
    #[arg(long, env = "RAILHEAD_TEARDOWN_TIMEOUT", default_value = "5m", value_parser = seconds)]
    timeout: Duration,
    /// Deployment of the operator, which is stopped once the nodes are done, so that it does not make anew what is taken
    /// away here. Default: the caller has seen to that.
    #[arg(long, env = "RAILHEAD_DEPLOYMENT")]
    deployment: Option<String>,
    /// Namespace of the deployment.
    #[arg(long, env = "POD_NAMESPACE", default_value = "railhead-system")]
    deployment_namespace: String,
}

/// Why Railhead is not taken away.
#[derive(Debug, Error)]
pub(crate) enum TeardownError {
    #[error("no way to the API server")]
    Connect { source: Box<kube::Error> },
    #[error("cannot list {kind}")]
    List { kind: String, source: Box<kube::Error> },
    #[error("cannot change {kind} {name}")]
    Change {
        kind: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error("Deployment {name} does not exist: correct --deployment")]
    NoDeployment { name: String },
    #[error("the operator's pods have not ended within {timeout:?}: {pods}")]
    OperatorStays { timeout: Duration, pods: String },
    #[error(
        "Railhead stays, and Deployment {name} has its {replicas} replicas again: uninstall again, or set teardown: false on the Fabrics and keep Railhead"
    )]
    StartedAgain {
        name: String,
        replicas: i32,
        source: Box<TeardownError>,
    },
    #[error(
        "Railhead stays, but its operator is stopped and could not be started again ({why}): run `kubectl scale --namespace {namespace} deployment/{name} --replicas={replicas}`"
    )]
    LeftStopped {
        namespace: String,
        name: String,
        replicas: i32,
        why: String,
        source: Box<TeardownError>,
    },
    #[error("refused: {pods}; delete the pods (or their Jobs) and uninstall again")]
    Attached { pods: String },
    #[error(
        "not all nodes have given back what was changed on them within {timeout:?}: {nodes}; see `kubectl describe nodenet`, then uninstall again (or set teardown: false on the Fabrics and keep Railhead)"
    )]
    TimedOut { timeout: Duration, nodes: String },
}

fn seconds(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        _ => (text, 1),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(unit))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not a time: write for example 300s or 5m"))
}

pub(crate) async fn teardown(options: Options) -> Result<(), TeardownError> {
    let client = connect::client().await.map_err(|source| TeardownError::Connect {
        source: Box::new(source),
    })?;
    let limit = Limit {
        timeout: options.timeout,
        deadline: Instant::now() + options.timeout,
    };
    refuse_if_attached(&client).await?;
    let begun = begin(&client).await?;
    wait_for_nodes(&client, limit).await?;
    // A pod may have come between the first look and the teardown.
    if let Err(refused) = refuse_if_attached(&client).await {
        if matches!(refused, TeardownError::Attached { .. }) {
            set_teardown(&client, &begun, false).await?;
        }
        return Err(refused);
    }
    let Some(deployment) = &options.deployment else {
        return let_go(&client).await;
    };
    let stopped = Stopped::scale_down(&client, &options.deployment_namespace, deployment).await?;
    let done = match stopped.wait(limit).await {
        Ok(()) => let_go(&client).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Ok(()),
        Err(error) => Err(stopped.start_again(error).await),
    }
}

/// One deadline for all that is waited for: Helm has one too, and what it says when it gives up first explains nothing.
#[derive(Clone, Copy)]
struct Limit {
    timeout: Duration,
    deadline: Instant,
}

/// Asks the nodes to give everything back, and says of which fabrics that were not asked before.
async fn begin(client: &Client) -> Result<Vec<Fabric>, TeardownError> {
    let mut fabrics = list::<Fabric>(client).await?;
    fabrics.retain(|fabric| !fabric.spec.teardown);
    set_teardown(client, &fabrics, true).await?;
    Ok(fabrics)
}

async fn set_teardown(client: &Client, fabrics: &[Fabric], wanted: bool) -> Result<(), TeardownError> {
    for fabric in fabrics {
        let patch = json!({ "spec": { "teardown": wanted } });
        change(&Api::all(client.clone()), fabric, &patch).await?;
        info!(fabric = fabric.name_any(), wanted, "teardown of its nodes");
    }
    Ok(())
}

async fn refuse_if_attached(client: &Client) -> Result<(), TeardownError> {
    let attachments = list::<NetworkAttachment>(client).await?;
    if attachments.is_empty() {
        return Ok(());
    }
    let pods: Vec<String> = attachments
        .iter()
        .map(|attachment| {
            format!(
                "{}/{} on {}",
                attachment.namespace().unwrap_or_default(),
                attachment.spec.pod_name,
                attachment.spec.node_name
            )
        })
        .collect();
    Err(TeardownError::Attached {
        pods: format!("{}: {}", still_attached(pods.len()), listed(&pods)),
    })
}

/// Waits until every NodeNetwork of a node that still exists says TornDown.
async fn wait_for_nodes(client: &Client, limit: Limit) -> Result<(), TeardownError> {
    loop {
        let live: BTreeSet<String> = list::<PartialObjectMeta<Node>>(client)
            .await?
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        let open: Vec<String> = list::<NodeNetwork>(client)
            .await?
            .iter()
            .filter(|node| live.contains(&node.name_any()) && !is_torn_down(node))
            .map(open_message)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() >= limit.deadline {
            return Err(TeardownError::TimedOut {
                timeout: limit.timeout,
                nodes: listed(&open),
            });
        }
        info!(waiting_for = listed(&open), "nodes give back what was changed");
        sleep(Duration::from_secs(1)).await;
    }
}

fn is_torn_down(node: &NodeNetwork) -> bool {
    let status = node.status.as_ref();
    status.is_some_and(|status| conditions::is_true(&status.conditions, "TornDown"))
}

fn open_message(node: &NodeNetwork) -> String {
    let status = node.status.as_ref();
    let why = status
        .and_then(|status| conditions::find(&status.conditions, "TornDown"))
        .map(|condition| condition.message.as_str())
        .filter(|message| !message.is_empty())
        .unwrap_or("no word from its agent");
    format!("{} ({why})", node.name_any())
}

/// With nobody attached, the nodes as before and the operator stopped: what was derived is deleted, and what people wrote
/// (fabrics, networks) stays for the next install, without finalizers that would wait for a controller that is gone.
async fn let_go(client: &Client) -> Result<(), TeardownError> {
    for slice in list::<NetworkSlice>(client).await? {
        let api = Api::namespaced(client.clone(), &slice.namespace().unwrap_or_default());
        without_finalizer(&api, &slice, SLICE_FINALIZER).await?;
        delete(&api, &slice).await?;
    }
    for network in list::<TrainingNetwork>(client).await? {
        let api = Api::namespaced(client.clone(), &network.namespace().unwrap_or_default());
        forget_status(&api, &network).await?;
        without_finalizer(&api, &network, NETWORK_FINALIZER).await?;
    }
    for node in list::<NodeNetwork>(client).await? {
        delete(&Api::all(client.clone()), &node).await?;
    }
    for ledger in list::<FabricLedger>(client).await? {
        delete(&Api::all(client.clone()), &ledger).await?;
    }
    for fabric in list::<Fabric>(client).await? {
        let api = Api::all(client.clone());
        // The nodes' wishes are deleted; without this the next install would begin with a teardown.
        change(&api, &fabric, &json!({ "spec": { "teardown": false } })).await?;
        forget_status(&api, &fabric).await?;
        without_finalizer(&api, &fabric, FABRIC_FINALIZER).await?;
    }
    info!("nothing of Railhead is left on the nodes or in its ledgers; fabrics, networks and CRDs stay");
    Ok(())
}

trait Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug {}
impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug> Object for K {}

async fn change<K: Object>(api: &Api<K>, object: &K, patch: &serde_json::Value) -> Result<(), TeardownError> {
    let patched = api
        .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await;
    gone_is_fine(object, patched.map(drop))
}

/// What the status says holds no more.
async fn forget_status<K: Object>(api: &Api<K>, object: &K) -> Result<(), TeardownError> {
    let nothing = json!({ "status": null });
    let patched = api
        .patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(nothing))
        .await;
    gone_is_fine(object, patched.map(drop))
}

async fn without_finalizer<K: Object>(api: &Api<K>, object: &K, finalizer: &str) -> Result<(), TeardownError> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|present| present != finalizer);
    change(api, object, &json!({ "metadata": { "finalizers": finalizers } })).await
}

async fn delete<K: Object>(api: &Api<K>, object: &K) -> Result<(), TeardownError> {
    let deleted = api.delete(&object.name_any(), &DeleteParams::default()).await;
    gone_is_fine(object, deleted.map(drop))
}

fn gone_is_fine<K: Object>(object: &K, result: Result<(), kube::Error>) -> Result<(), TeardownError> {
    match result {
        Err(source) if !write::is_not_found(&source) => Err(TeardownError::Change {
            kind: K::kind(&()).into_owned(),
            name: object.name_any(),
            source: Box::new(source),
        }),
        _ => Ok(()),
    }
}

async fn list<K: Object>(client: &Client) -> Result<Vec<K>, TeardownError> {
    let all: Api<K> = Api::all(client.clone());
    let found = all.list(&ListParams::default()).await;
    found.map(|list| list.items).map_err(|source| TeardownError::List {
        kind: K::plural(&()).into_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_people_write_them() {
        assert_eq!(seconds("300"), Ok(Duration::from_mins(5)));
        assert_eq!(seconds("300s"), Ok(Duration::from_mins(5)));
        assert_eq!(seconds("5m"), Ok(Duration::from_mins(5)));
        assert!(seconds("soon").unwrap_err().contains("write for example"));
    }
}
