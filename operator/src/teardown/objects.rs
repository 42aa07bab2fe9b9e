//! How the teardown reads and writes the API server. All of it may be done twice.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::TeardownError;
use crate::write;

pub(super) trait Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug {}
impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug> Object for K {}

pub(super) async fn change<K: Object>(
    api: &Api<K>,
    object: &K,
    patch: &serde_json::Value,
) -> Result<(), TeardownError> {
    let patched = api
        .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await;
    gone_is_fine(object, patched.map(drop))
}

/// What the status says holds no more.
pub(super) async fn forget_status<K: Object>(api: &Api<K>, object: &K) -> Result<(), TeardownError> {
    let nothing = json!({ "status": null });
    let patched = api
        .patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(nothing))
        .await;
    gone_is_fine(object, patched.map(drop))
}

pub(super) async fn without_finalizer<K: Object>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
) -> Result<(), TeardownError> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|present| present != finalizer);
    change(api, object, &json!({ "metadata": { "finalizers": finalizers } })).await
}

pub(super) async fn delete<K: Object>(api: &Api<K>, object: &K) -> Result<(), TeardownError> {
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

pub(super) async fn list<K: Object>(client: &Client) -> Result<Vec<K>, TeardownError> {
    let all: Api<K> = Api::all(client.clone());
    let found = all.list(&ListParams::default()).await;
    found.map(|list| list.items).map_err(|source| TeardownError::List {
        kind: K::plural(&()).into_owned(),
        source: Box::new(source),
    })
}
