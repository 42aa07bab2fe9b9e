//! Whether a claim entitles its pod to a place in a network.

use k8s_openapi::{
    api::{
        core::v1::Pod,
        resource::v1::{DeviceRequestAllocationResult, ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use railhead_crds::{Bandwidth, NetworkSlice, TrainingNetwork, names};

use super::{ClaimConfig, ClaimRefused};

/// What the scheduler gave a pod on one rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RailAllocation {
    /// Rail id.
    pub rail: u32,
    /// Request in the claim.
    pub request: String,
    /// Pool.
    pub pool: String,
    /// Device: the port.
    pub device: String,
    /// Share of the port.
    pub share_id: Option<String>,
    /// Bandwidth that the scheduler counted for the pod.
    pub bandwidth: Bandwidth,
}

/// The one pod that the claim is reserved for, by name and UID. That it is exactly one is for [`check`] to say.
pub fn consumer(claim: &ResourceClaim) -> Result<(String, String), ClaimRefused> {
    claim
        .status
        .iter()
        .flat_map(|status| status.reserved_for.iter().flatten())
        .find(|consumer| consumer.resource == "pods" && names::is_object_name(&consumer.name))
        .map(|consumer| (consumer.name.clone(), consumer.uid.clone()))
        .ok_or_else(|| ClaimRefused::Shared {
            claim: name_of(&claim.metadata),
            consumers: "no pod".to_owned(),
        })
}

/// Name and UID of the network that a claim names. Whoever may write claims wrote them, so they are believed only after
/// [`check`]; but they can be a name and a UID, and may be asked for.
pub fn network_of(claim: &ResourceClaim) -> Result<(String, String), ClaimRefused> {
    let not_ours = || ClaimRefused::NotOurs {
        claim: name_of(&claim.metadata),
    };
    let ClaimConfig::NetworkClaim {
        network, network_uid, ..
    } = configured(&claim.spec).ok_or_else(not_ours)?;
    let no_network = |what, text: &str| ClaimRefused::NoNetwork {
        claim: name_of(&claim.metadata),
        what,
        text: text.chars().take(64).collect(),
    };
    if !names::is_object_name(&network) {
        return Err(no_network("the name", &network));
    }
    if !names::is_uid(&network_uid) {
        return Err(no_network("the UID", &network_uid));
    }
    Ok((network, network_uid))
}

/// Name and UID of the network that a template is of; `None` if it asks nothing of Railhead's driver. Its owner references and
/// labels may be written by whoever has rights in its namespace, its spec by nobody.
pub fn network_of_template(template: &ResourceClaimTemplate) -> Option<(String, String)> {
    let ClaimConfig::NetworkClaim {
        network, network_uid, ..
    } = configured(&template.spec.spec)?;
    Some((network, network_uid))
}

/// What a claim tells Railhead's driver.
fn configured(spec: &ResourceClaimSpec) -> Option<ClaimConfig> {
    let configs = spec.devices.iter().flat_map(|devices| devices.config.iter().flatten());
    configs
        .filter_map(|config| config.opaque.as_ref())
        .filter(|opaque| opaque.driver == names::DRIVER)
        .find_map(|opaque| serde_json::from_value(opaque.parameters.0.clone()).ok())
}

/// Checks that `claim` entitles `pod` to a place in `network` on this node, and returns what was allocated, by rail.
pub fn check(
    claim: &ResourceClaim,
    pod: &Pod,
    network: &TrainingNetwork,
    slice: &NetworkSlice,
    node: &str,
) -> Result<Vec<RailAllocation>, ClaimRefused> {
    let claim_name = || name_of(&claim.metadata);
    let (network_name, network_uid) = network_of(claim)?;
    let current = network.metadata.uid.clone().unwrap_or_default();
    if network.metadata.name.as_deref() != Some(&network_name)
        || network_uid != current
        || slice.spec.network.uid != current
        || claim.metadata.namespace != network.metadata.namespace
    {
        return Err(ClaimRefused::OtherNetwork {
            claim: claim_name(),
            network: network_name,
            found: network_uid,
            current,
        });
    }
    check_consumer(claim, pod, &network_name)?;
    let status = claim.status.as_ref();
    let allocation = status
        .and_then(|s| s.allocation.as_ref())
        .and_then(|a| a.devices.as_ref());
    let results = allocation
        .and_then(|devices| devices.results.as_ref())
        .ok_or_else(|| ClaimRefused::NotAllocated { claim: claim_name() })?;
    let mut rails = Vec::with_capacity(slice.spec.rails.len());
    for result in results {
        rails.push(allocation_of(result, claim, slice, &network_name, node)?);
    }
    rails.sort_by_key(|rail| rail.rail);
    let wanted: Vec<u32> = slice.spec.rails.iter().map(|rail| rail.id).collect();
    if rails.iter().map(|rail| rail.rail).collect::<Vec<_>>() != wanted {
        return Err(other_rails(claim, slice, &network_name));
    }
    Ok(rails)
}

fn check_consumer(claim: &ResourceClaim, pod: &Pod, network: &str) -> Result<(), ClaimRefused> {
    let reserved: Vec<_> = claim
        .status
        .iter()
        .flat_map(|s| s.reserved_for.iter().flatten())
        .collect();
    let uid = pod.metadata.uid.as_deref();
    let alone = reserved.len() == 1 && reserved[0].resource == "pods" && Some(reserved[0].uid.as_str()) == uid;
    let owned = claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|o| o.kind == "Pod" && Some(o.uid.as_str()) == uid);
    if !alone || !owned {
        let consumers: Vec<String> = reserved.iter().map(|c| format!("{} {}", c.resource, c.name)).collect();
        let consumers = if consumers.is_empty() {
            "nobody".to_owned()
        } else {
            consumers.join(", ")
        };
        return Err(ClaimRefused::Shared {
            claim: name_of(&claim.metadata),
            consumers,
        });
    }
    let label = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::NETWORK_LABEL));
    if label.map(String::as_str) != Some(network) {
        return Err(ClaimRefused::OtherLabel {
            pod: name_of(&pod.metadata),
            found: label.cloned().unwrap_or_default(),
            network: network.to_owned(),
        });
    }
    Ok(())
}

fn allocation_of(
    result: &DeviceRequestAllocationResult,
    claim: &ResourceClaim,
    slice: &NetworkSlice,
    network: &str,
    node: &str,
) -> Result<RailAllocation, ClaimRefused> {
    let claim_name = || name_of(&claim.metadata);
    // The device's name is what our own ResourceSlice gave it, so it says the rail; the request's name is the author's.
    let rail = slice
        .spec
        .rails
        .iter()
        .find(|rail| names::rail_device(rail.id) == result.device);
    let (Some(rail), true) = (rail, result.driver == names::DRIVER) else {
        return Err(other_rails(claim, slice, network));
    };
    if result.pool != node {
        return Err(ClaimRefused::OtherNode {
            claim: claim_name(),
            pool: result.pool.clone(),
            node: node.to_owned(),
        });
    }
    let held = result
        .consumed_capacity
        .as_ref()
        .and_then(|capacity| capacity.get(names::BANDWIDTH_CAPACITY));
    let bandwidth = held.and_then(|quantity| Bandwidth::from_quantity(&quantity.0));
    match bandwidth.filter(|bandwidth| *bandwidth >= slice.spec.qos.guaranteed) {
        Some(bandwidth) => Ok(RailAllocation {
            rail: rail.id,
            request: result.request.clone(),
            pool: result.pool.clone(),
            device: result.device.clone(),
            share_id: result.share_id.clone(),
            bandwidth,
        }),
        None => Err(ClaimRefused::TooLittleBandwidth {
            claim: claim_name(),
            rail: rail.id,
            network: network.to_owned(),
            held: held.map_or_else(|| "no bandwidth".to_owned(), |quantity| quantity.0.clone()),
            guaranteed: slice.spec.qos.guaranteed,
        }),
    }
}

fn other_rails(claim: &ResourceClaim, slice: &NetworkSlice, network: &str) -> ClaimRefused {
    let wanted: Vec<String> = slice.spec.rails.iter().map(|rail| rail.id.to_string()).collect();
    ClaimRefused::OtherRails {
        claim: name_of(&claim.metadata),
        network: network.to_owned(),
        wanted: wanted.join(", "),
    }
}

fn name_of(metadata: &ObjectMeta) -> String {
    format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    )
}
