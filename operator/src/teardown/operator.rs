//! The operator's own deployment: stopped before what it would make anew is deleted, and started again if that fails.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::{TeardownError, patience::Limit};
use railhead_service::chain;

use crate::network::listed;

/// The deployment, and what it was before.
pub(super) struct Operator {
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    its_own: ListParams,
    namespace: String,
    name: String,
    replicas: i32,
}

impl Operator {
    pub(super) async fn find(client: &Client, namespace: &str, name: &str) -> Result<Self, TeardownError> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let found = deployments.get_opt(name).await.map_err(|error| failed(name, error))?;
        let Some(spec) = found.and_then(|deployment| deployment.spec) else {
            return Err(TeardownError::NoDeployment { name: name.to_owned() });
        };
        let labels = spec.selector.match_labels.unwrap_or_default();
        let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Ok(Self {
            deployments,
            pods: Api::namespaced(client.clone(), namespace),
            its_own: ListParams::default().labels(&selector.join(",")),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            // None: an earlier attempt has left it stopped.
            replicas: spec.replicas.unwrap_or(1).max(1),
        })
    }

    /// Scales it to nothing, and waits until its pods are gone.
    pub(super) async fn stop(&self, limit: Limit) -> Result<(), TeardownError> {
        limit.patiently(|| self.scale(0)).await?;
        loop {
            let left = limit.patiently(|| self.its_pods()).await?;
            if left.is_empty() {
                return Ok(());
            }
            if limit.is_over() {
                return Err(TeardownError::OperatorStays {
                    timeout: limit.timeout,
                    pods: listed(&left),
                });
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn its_pods(&self) -> Result<Vec<String>, TeardownError> {
        let pods = self.pods.list(&self.its_own).await;
        let pods = pods.map_err(|error| failed(&self.name, error))?;
        Ok(pods.iter().map(ResourceExt::name_any).collect())
    }

    /// Scales it to what it was, because of `error`, and gives the error with what became of that.
    pub(super) async fn start_again(self, error: TeardownError) -> TeardownError {
        let source = Box::new(error);
        match Limit::after_the_end().patiently(|| self.scale(self.replicas)).await {
            Ok(()) => TeardownError::StartedAgain {
                name: self.name,
                replicas: self.replicas,
                source,
            },
            Err(why) => TeardownError::LeftStopped {
                namespace: self.namespace,
                name: self.name,
                replicas: self.replicas,
                why: chain(&why),
                source,
            },
        }
    }

    async fn scale(&self, replicas: i32) -> Result<(), TeardownError> {
        let patch = json!({ "spec": { "replicas": replicas } });
        self.deployments
            .patch_scale(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(drop)
            .map_err(|error| failed(&self.name, error))
    }
}

fn failed(name: &str, source: kube::Error) -> TeardownError {
    TeardownError::Change {
        kind: "Deployment".to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}
