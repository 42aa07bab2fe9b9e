//! What the writes of networks take a server from a client that does nothing else, with the very objects that the operator writes:
//! custom resources with their rules, judged by the chart's policies. No operator is faster than that.

use std::{slice, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use railhead_crds::{Fabric, LedgerOwner, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork, names};
use railhead_planner::{
    claim,
    ledger::{self, Request, Wanted},
    network as plan,
    pools::Written,
    quota::Bounds,
    slots::SlotSpace,
    tenant::Tenant,
};
use serde_json::{Value, json};

use crate::{
    api::{Server, Verb, Who, for_each},
    fill::Place,
    shapes,
};

const RAILHEAD: &str = "/apis/railhead.dev/v1alpha1";

/// Seconds for the writes of so many networks (the network, its finalizer, template and slice at the same time, its status), while no
/// operator runs. All of it is gone afterwards.
pub(crate) async fn measure(server: &Server, places: &[(Place, usize)]) -> Result<f64> {
    let fabric: Fabric = serde_json::from_value(server.get(&format!("{RAILHEAD}/fabrics/{}", shapes::FABRIC)).await?)?;
    let class: QosClass =
        serde_json::from_value(server.get(&format!("{RAILHEAD}/qosclasses/{}", shapes::CLASS)).await?)?;
    let start = Instant::now();
    for_each("the same writes", places.len(), async |number| {
        let (place, pods) = &places[number];
        write(server, &fabric, &class, place, *pods).await
    })
    .await?;
    let took = start.elapsed().as_secs_f64();
    for_each("taken away again", places.len(), async |number| {
        remove(server, &places[number].0).await
    })
    .await?;
    Ok(took)
}

fn networks(place: &Place) -> String {
    format!("{RAILHEAD}/namespaces/{}/trainingnetworks", place.namespace)
}

fn templates(place: &Place) -> String {
    format!(
        "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaimtemplates",
        place.namespace
    )
}

async fn write(server: &Server, fabric: &Fabric, class: &QosClass, place: &Place, pods: usize) -> Result<()> {
    let path = networks(place);
    let body = shapes::network(&place.namespace, &place.name, pods);
    server.write(Who::Admin, Verb::Create, &path, &body).await?;
    let object = format!("{path}/{}", place.name);
    let finalizers = json!({"metadata": {"finalizers": [names::NETWORK_FINALIZER]}});
    let held = server.write(Who::Operator, Verb::Merge, &object, &finalizers).await?;
    let held: TrainingNetwork = serde_json::from_value(held)?;
    let (template, slice) = objects(&held, fabric, class)?;
    let (templates, slices) = (
        templates(place),
        format!("{RAILHEAD}/namespaces/{}/networkslices", place.namespace),
    );
    tokio::try_join!(
        server.write(Who::Operator, Verb::Create, &templates, &template),
        server.write(Who::Operator, Verb::Create, &slices, &slice),
    )?;
    let status = format!("{object}/status?fieldManager=railhead/network&force=true");
    server
        .write(Who::Operator, Verb::Apply, &status, &status_of(&held, &slice))
        .await
        .map(drop)
}

/// Template and slice, as the planner makes them; the addresses are the same for all.
fn objects(network: &TrainingNetwork, fabric: &Fabric, class: &QosClass) -> Result<(Value, Value)> {
    let nowhere: [NodeNetwork; 0] = [];
    let anybody = Tenant {
        namespace: "floor",
        has: &|_, _| false,
    };
    let resolved = plan::resolve(
        network,
        &anybody,
        slice::from_ref(fabric),
        slice::from_ref(class),
        &nowhere,
    )?;
    let space = SlotSpace::new(&fabric.spec.rails)?;
    let request = Request {
        owner: LedgerOwner::new("floor", "floor", network.metadata.uid.clone().context("no UID")?),
        wanted: Wanted::Block {
            pods: network.spec.pods,
            takes: plan::takes(network, &resolved),
            written: Arc::new(Written::of_fabric(fabric, Vec::new())),
        },
    };
    let nobody: [NetworkSlice; 0] = [];
    let reserved = ledger::reserve(&ledger::empty(), &nobody, &[request], &Bounds::default());
    let entry = reserved.results.into_iter().next().context("no answer")??;
    let mut slice = plan::slice(network, &resolved, &space, &entry)?;
    // Nobody is there to take it away again.
    slice.metadata.finalizers = None;
    let template = claim::template(network, &resolved);
    Ok((serde_json::to_value(template)?, serde_json::to_value(slice)?))
}

/// Of the size of the operator's.
fn status_of(network: &TrainingNetwork, slice: &Value) -> Value {
    let conditions: Vec<Value> = ["Ready", "Reserved", "Attached", "Degraded"]
        .iter()
        .map(|kind| {
            json!({"type": kind, "status": "False", "reason": "AsDeclared", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "message": "2 addresses per rail (rail0 10.0.0.2/31, rail1 10.4.0.2/31, rail2 10.8.0.2/31 and 5 more), VLAN 1"})
        })
        .collect();
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
        "status": {
            "observedGeneration": 1, "sliceName": slice["metadata"]["name"], "fabricName": shapes::FABRIC,
            "qosClassName": shapes::CLASS, "conditions": conditions,
            "summary": {"attached": format!("0/{}", network.spec.pods), "rails": shapes::RAILS, "prefix": "10.0.0.2/31",
                "vlan": "1", "stability": "Network"},
        },
    })
}

async fn remove(server: &Server, place: &Place) -> Result<()> {
    let object = format!("{}/{}", networks(place), place.name);
    let network: TrainingNetwork = serde_json::from_value(server.get(&object).await?)?;
    let uid = network.metadata.uid.unwrap_or_default();
    let nothing = json!({"metadata": {"finalizers": null}});
    server.write(Who::Operator, Verb::Merge, &object, &nothing).await?;
    let slice = names::slice(&place.name, &uid);
    for path in [
        object,
        format!("{}/{}", templates(place), names::claim_template(&place.name)),
        format!("{RAILHEAD}/namespaces/{}/networkslices/{slice}", place.namespace),
    ] {
        // The network has no finalizer any more, and is the tenant's to delete.
        let who = if path.ends_with(&place.name) {
            Who::Admin
        } else {
            Who::Operator
        };
        server.write(who, Verb::Delete, &path, &json!({})).await?;
    }
    Ok(())
}
