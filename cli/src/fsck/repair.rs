//! What `--repair` may do: only what nobody else would do, and what can harm nobody. Each write names the object as it was read, by UID
//! and resourceVersion, so that what has changed since is left alone.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{api::resource::v1::ResourceClaim, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use railhead_crds::{NetworkAttachment, NetworkSlice, TrainingNetwork};
use railhead_service::chain;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use super::finding::{Finding, Repaired};

const MANAGER: &str = "kubectl-railhead";

/// One repair of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repair {
    kind: Kind,
    namespace: String,
    name: String,
    uid: Option<String>,
    version: Option<String>,
    act: Act,
    /// Name and UID of the network because of whose end it is made: it is asked for once more.
    ended: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Slice,
    Attachment,
    Claim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Delete,
    Label(BTreeMap<String, String>),
    /// These finalizers, of which the last is new.
    Guard(Vec<String>),
}

impl Repair {
    fn of(kind: Kind, metadata: &ObjectMeta, act: Act) -> Self {
        Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone(),
            version: metadata.resource_version.clone(),
            act,
            ended: None,
        }
    }

    /// Of an object whose network is gone: its name and UID.
    pub(super) fn delete(kind: Kind, metadata: &ObjectMeta, network: &str, uid: &str) -> Self {
        Self {
            ended: Some((network.to_owned(), uid.to_owned())),
            ..Self::of(kind, metadata, Act::Delete)
        }
    }

    pub(super) fn label(kind: Kind, metadata: &ObjectMeta, labels: BTreeMap<String, String>) -> Self {
        Self::of(kind, metadata, Act::Label(labels))
    }

    pub(super) fn guard(kind: Kind, metadata: &ObjectMeta, finalizer: &str) -> Self {
        let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(finalizer.to_owned());
        Self::of(kind, metadata, Act::Guard(finalizers))
    }

    /// Whether the network is there after all, asked from the API server.
    async fn is_of_a_network(&self, client: &Client) -> Result<bool, kube::Error> {
        let Some((name, uid)) = &self.ended else {
            return Ok(false);
        };
        let networks: Api<TrainingNetwork> = Api::namespaced(client.clone(), &self.namespace);
        let found = networks.get_metadata_opt(name).await?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_ref() == Some(uid)))
    }

    async fn make(&self, client: &Client) -> Result<(), Left> {
        if self.is_of_a_network(client).await? {
            return Err(Left::NetworkIsThere);
        }
        let done = match self.kind {
            Kind::Slice => self.write::<NetworkSlice>(client).await,
            Kind::Attachment => self.write::<NetworkAttachment>(client).await,
            Kind::Claim => self.write::<ResourceClaim>(client).await,
        };
        Ok(done?)
    }

    async fn write<K>(&self, client: &Client) -> Result<(), kube::Error>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Clone
            + fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(client.clone(), &self.namespace);
        let patch = match &self.act {
            Act::Delete => {
                let as_read = DeleteParams::default().preconditions(Preconditions {
                    uid: self.uid.clone(),
                    resource_version: self.version.clone(),
                });
                return api.delete(&self.name, &as_read).await.map(drop);
            }
            Act::Label(labels) => json!({ "labels": labels }),
            Act::Guard(finalizers) => json!({ "finalizers": finalizers }),
        };
        let patch = json!({ "metadata": self.as_read(patch) });
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch(&self.name, &parameters, &Patch::Merge(patch)).await.map(drop)
    }

    /// Of the object that was read: one that was changed since, or made anew, is not written.
    fn as_read(&self, mut metadata: Value) -> Value {
        metadata["uid"] = json!(self.uid);
        metadata["resourceVersion"] = json!(self.version);
        metadata
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.act {
            Act::Delete => f.write_str("deletes it, if it is as it was read"),
            Act::Label(labels) => {
                let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "sets {}", labels.join(" and "))
            }
            Act::Guard(finalizers) => {
                write!(
                    f,
                    "puts back the finalizer {}",
                    finalizers.last().map_or("", String::as_str)
                )
            }
        }
    }
}

/// Makes what can be repaired, one after the other, and notes what became of it.
pub(super) async fn repair(client: &Client, findings: &mut [Finding]) {
    for finding in findings {
        let Some(repair) = &finding.repair else { continue };
        finding.repaired = Some(match repair.make(client).await {
            Ok(()) => Repaired {
                done: true,
                text: repair.to_string(),
            },
            Err(error) => Repaired {
                done: false,
                text: error.to_string(),
            },
        });
    }
}

/// Why something was left as it is.
#[derive(Debug, Error)]
enum Left {
    #[error("its network is there after all, and it was left as it is")]
    NetworkIsThere,
    #[error("{}", refused(.0))]
    Api(#[from] kube::Error),
}

fn refused(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.is_conflict() => {
            "it has changed since it was read, and was left as it is: run fsck again".to_owned()
        }
        kube::Error::Api(status) if status.is_not_found() => "it has gone by itself".to_owned(),
        kube::Error::Api(status) => format!("the API server refused it: {}", status.message),
        other => format!("it was not done: {}", chain(other)),
    }
}
