//! The end of a teardown: what was derived goes, what people wrote stays.

use kube::{Api, Client, ResourceExt, core::PartialObjectMeta};
use railhead_crds::{
    Fabric, FabricLedger, NetworkSlice, NodeNetwork, TrainingNetwork,
    names::{FABRIC_FINALIZER, NETWORK_FINALIZER, SLICE_FINALIZER},
};
use serde_json::json;
use tracing::info;

use super::{
    TeardownError,
    objects::{change, delete, forget_status, list, without_finalizer},
};

/// With nobody attached, the nodes as before and the operator stopped: what was derived is deleted, and what people wrote
/// (fabrics, networks) stays for the next install, without finalizers that would wait for a controller that is gone. After an
/// error it may be done again.
pub(super) async fn let_go(client: &Client) -> Result<(), TeardownError> {
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
    // Whatever is in them: one may be of a later release.
    for ledger in list::<PartialObjectMeta<FabricLedger>>(client).await? {
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
