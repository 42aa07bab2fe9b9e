//! The operator's own deployment: stopped before what it would make anew is deleted, and started again if that fails.

use std::time::Duration;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Limit, TeardownError};
use crate::{controller::chain, network::listed};

/// A deployment that was scaled down, and what it was before.
pub(super) struct Stopped {
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    its_own: ListParams,
    namespace: String,
    name: String,
    replicas: i32,
}

impl Stopped {
    /// Scales the deployment to nothing.
    pub(super) async fn scale_down(client: &Client, namespace: &str, name: &str) -> Result<Self, TeardownError> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let found = deployments.get_opt(name).await.map_err(|error| failed(name, error))?;
        let Some(spec) = found.and_then(|deployment| deployment.spec) else {
            return Err(TeardownError::NoDeployment { name: name.to_owned() });
        };
        let labels = spec.selector.match_labels.unwrap_or_default();
        let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let stopped = Self {
            deployments,
            pods: Api::namespaced(client.clone(), namespace),
            its_own: ListParams::default().labels(&selector.join(",")),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas: spec.replicas.unwrap_or(1),
        };
        stopped.scale(0).await?;
        Ok(stopped)
    }

    /// Waits until its pods are gone.
    pub(super) async fn wait(&self, limit: Limit) -> Result<(), TeardownError> {
        loop {
            let left = self.pods.list(&self.its_own).await;
            let left: Vec<String> = left
                .map_err(|error| failed(&self.name, error))?
                .iter()
                .map(ResourceExt::name_any)
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= limit.deadline {
                return Err(TeardownError::OperatorStays {
                    timeout: limit.timeout,
                    pods: listed(&left),
                });
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Scales it to what it was, because of `error`, and gives the error with what became of that.
    pub(super) async fn start_again(self, error: TeardownError) -> TeardownError {
        let source = Box::new(error);
        match self.scale(self.replicas).await {
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
