//! `railhead-operator teardown`: what Helm runs before it takes Railhead away. An uninstall is not a restart: only here do the
//! nodes give back what was changed on them.
//!
//! Either all of it is done, or what was begun is taken back: the Fabrics and the operator are as before, and the error says so.
//! Only where the nodes are too slow do they go on, for the next attempt. One failed request ends nothing before the deadline.

mod aftermath;
mod let_go;
mod nodes;
mod objects;
mod operator;
mod patience;

use std::time::Duration;

use clap::Args;
use kube::{Api, Client, ResourceExt};
use railhead_crds::{Fabric, NetworkAttachment};
use railhead_service::client;
use serde_json::json;
use thiserror::Error;
use tracing::info;

use self::{
    aftermath::Aftermath,
    let_go::let_go,
    nodes::wait_for_nodes,
    objects::{change, list},
    operator::Operator,
    patience::Limit,
};
use crate::{
    network::{listed, still_attached},
    run,
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
    #[error("the operator's pods have not ended within {timeout:?}: {pods}; see why, then uninstall again")]
    OperatorStays { timeout: Duration, pods: String },
    #[error("Deployment {name} has its {replicas} replicas again")]
    StartedAgain {
        name: String,
        replicas: i32,
        source: Box<TeardownError>,
    },
    #[error(
        "the operator is stopped and could not be started again ({why}): run `kubectl scale --namespace {namespace} deployment/{name} --replicas={replicas}`"
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
        "not all nodes have given back what was changed on them within {timeout:?}: {nodes}; see `kubectl describe nodenet`, then uninstall again"
    )]
    TimedOut { timeout: Duration, nodes: String },
    #[error("Railhead stays{fabrics}")]
    Kept {
        fabrics: Aftermath,
        source: Box<TeardownError>,
    },
}

impl TeardownError {
    /// Whether the next attempt may have another answer.
    fn may_pass(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Change { .. })
    }
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
    let client = client::connect(run::ANSWER)
        .await
        .map_err(|source| TeardownError::Connect {
            source: Box::new(source),
        })?;
    let limit = Limit::of(options.timeout);
    limit.patiently(|| refuse_if_attached(&client)).await?;
    let fabrics = limit.patiently(|| list::<Fabric>(&client)).await?;
    let (asked_before, begun): (Vec<Fabric>, Vec<Fabric>) =
        fabrics.into_iter().partition(|fabric| fabric.spec.teardown);
    match take_away(&client, limit, &options, &begun).await {
        Ok(()) => Ok(()),
        Err(error) => Err(take_back(&client, &asked_before, &begun, error).await),
    }
}

/// Asks the nodes of `begun` to give everything back, waits for all nodes, and deletes what Railhead made.
async fn take_away(client: &Client, limit: Limit, options: &Options, begun: &[Fabric]) -> Result<(), TeardownError> {
    for fabric in begun {
        limit.patiently(|| set_teardown(client, fabric, true)).await?;
    }
    wait_for_nodes(client, limit).await?;
    // A pod may have come between the first look and the teardown.
    limit.patiently(|| refuse_if_attached(client)).await?;
    let Some(deployment) = &options.deployment else {
        return limit.patiently(|| let_go(client)).await;
    };
    let find = || Operator::find(client, &options.deployment_namespace, deployment);
    let operator = limit.patiently(find).await?;
    let done = match operator.stop(limit).await {
        Ok(()) => limit.patiently(|| let_go(client)).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Ok(()),
        Err(error) => Err(operator.start_again(error).await),
    }
}

/// Takes back what was begun, because of `error`, and gives the error with what became of that.
async fn take_back(client: &Client, asked_before: &[Fabric], begun: &[Fabric], error: TeardownError) -> TeardownError {
    let mut fabrics = Aftermath::before(asked_before);
    for fabric in begun {
        let name = fabric.name_any();
        if aftermath::goes_on(&error) {
            fabrics.goes_on(name);
            continue;
        }
        let set_back = Limit::after_the_end()
            .patiently(|| set_teardown(client, fabric, false))
            .await;
        match set_back {
            Ok(()) => fabrics.is_back(name),
            Err(why) => fabrics.could_not_be_set_back(name, &why),
        }
    }
    TeardownError::Kept {
        fabrics,
        source: Box::new(error),
    }
}

async fn set_teardown(client: &Client, fabric: &Fabric, wanted: bool) -> Result<(), TeardownError> {
    let patch = json!({ "spec": { "teardown": wanted } });
    change(&Api::all(client.clone()), fabric, &patch).await?;
    info!(fabric = fabric.name_any(), wanted, "teardown of its nodes");
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
