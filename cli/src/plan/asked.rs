//! The networks that are planned, as somebody would apply them.

use std::{fs, io::Read as _, path::Path};

use railhead_crds::{GROUP, TrainingNetwork};
use serde_json::Value;

use crate::cluster::ReadError;

/// What a network may have; the API server refuses more.
const MOST_PODS: u32 = 65_536;

/// All TrainingNetworks of a file.
pub(super) fn networks(file: &Path) -> Result<Vec<TrainingNetwork>, ReadError> {
    let unreadable = |error: std::io::Error| ReadError::Saved {
        path: file.to_owned(),
        why: error.to_string(),
    };
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    } else {
        text = fs::read_to_string(file).map_err(unreadable)?;
    }
    read(&text).map_err(|why| ReadError::Saved {
        path: file.to_owned(),
        why,
    })
}

pub(super) fn read(text: &str) -> Result<Vec<TrainingNetwork>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut networks = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let items = match document.get("items") {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![document],
        };
        for item in items {
            // Whatever else is applied with a network takes no addresses.
            if item["kind"] == "TrainingNetwork" {
                networks.push(network(item)?);
            }
        }
    }
    if networks.is_empty() {
        return Err(format!(
            "there is no TrainingNetwork in it: write one with apiVersion: {GROUP}/v1alpha1, kind: TrainingNetwork, metadata.name and spec.pods"
        ));
    }
    Ok(networks)
}

fn network(item: Value) -> Result<TrainingNetwork, String> {
    let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err("a TrainingNetwork in it has no metadata.name".to_owned());
    }
    let network: TrainingNetwork =
        serde_json::from_value(item).map_err(|error| format!("TrainingNetwork {name}: {error}"))?;
    let spec = &network.spec;
    if !(1..=MOST_PODS).contains(&spec.pods) || spec.max_pods.is_some_and(|most| most < spec.pods) {
        return Err(format!(
            "TrainingNetwork {name}: spec.pods is {}: it is 1 to {MOST_PODS}, and at most maxPods",
            spec.pods
        ));
    }
    let in_roles: u64 = spec.roles.iter().map(|role| u64::from(role.pods)).sum();
    if !spec.roles.is_empty() && in_roles != u64::from(spec.pods) {
        return Err(format!(
            "TrainingNetwork {name}: its roles have {in_roles} pods together, and spec.pods is {}",
            spec.pods
        ));
    }
    if spec
        .groups
        .is_some_and(|groups| groups == 0 || !spec.pods.is_multiple_of(groups))
    {
        return Err(format!(
            "TrainingNetwork {name}: spec.pods is no multiple of spec.groups"
        ));
    }
    Ok(network)
}
