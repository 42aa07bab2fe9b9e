//! The claim of a pod: the template that asks for its rails, and the check of what was allocated.
//!
//! Identity comes from the claim and its namespace, never from a label: the template's opaque configuration names the
//! network with its UID, and a claim that asks for less than the network's guarantee, or for other rails, is refused.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::Pod,
        resource::v1::{
            CELDeviceSelector, CapacityRequirements, DeviceClaim, DeviceClaimConfiguration, DeviceRequest,
            DeviceRequestAllocationResult, DeviceSelector, ExactDeviceRequest, OpaqueDeviceConfiguration,
            ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate, ResourceClaimTemplateSpec,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use railhead_crds::{Bandwidth, NetworkSlice, TrainingNetwork, names};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network::{Resolved, owner};

/// The opaque configuration in a claim for Railhead's driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum ClaimConfig {
    /// Which network the claim's pod joins.
    #[serde(rename_all = "camelCase")]
    NetworkClaim {
        /// `railhead.dev/v1alpha1`.
        api_version: String,
        /// Name of the TrainingNetwork in the claim's namespace.
        network: String,
        /// Its UID.
        #[serde(rename = "networkUID")]
        network_uid: String,
    },
}

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

/// Why a claim is not prepared.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimRefused {
    /// No configuration of ours: written by hand.
    #[error("claim {claim} was not made from the template of a TrainingNetwork: put the label {label}=<network> on the pod instead of writing a claim", label = names::NETWORK_LABEL)]
    NotOurs {
        /// The claim.
        claim: String,
    },
    /// The network was deleted and made again, or is another one.
    #[error(
        "claim {claim} is for another TrainingNetwork {network} (UID {found}, now {current}): delete the pod so that it gets a new claim"
    )]
    OtherNetwork {
        /// The claim.
        claim: String,
        /// Network name.
        network: String,
        /// UID in the claim.
        found: String,
        /// UID of the network.
        current: String,
    },
    /// The scheduler has not allocated it.
    #[error("claim {claim} is not allocated; wait for the scheduler")]
    NotAllocated {
        /// The claim.
        claim: String,
    },
    /// Not reserved for exactly this pod.
    #[error(
        "claim {claim} is reserved for {consumers}: a claim of Railhead belongs to exactly one pod, do not share it"
    )]
    Shared {
        /// The claim.
        claim: String,
        /// Who holds it.
        consumers: String,
    },
    /// The pod does not join the network that the claim names.
    #[error("pod {pod} has the label {label}={found:?} but its claim is for network {network}: the label and the claim must agree", label = names::NETWORK_LABEL)]
    OtherLabel {
        /// The pod.
        pod: String,
        /// Label value.
        found: String,
        /// Network of the claim.
        network: String,
    },
    /// Rails differ from those of the network.
    #[error(
        "claim {claim} asks for other rails than network {network} has (rails {wanted}): delete the pod so that it gets a new claim"
    )]
    OtherRails {
        /// The claim.
        claim: String,
        /// The network.
        network: String,
        /// Rails of the slice.
        wanted: String,
    },
    /// Less bandwidth than the network guarantees.
    #[error(
        "claim {claim} holds {held} on rail {rail}, network {network} guarantees {guaranteed}: delete the pod so that it gets a new claim"
    )]
    TooLittleBandwidth {
        /// The claim.
        claim: String,
        /// Rail id.
        rail: u32,
        /// The network.
        network: String,
        /// Counted by the scheduler.
        held: String,
        /// Wanted.
        guaranteed: Bandwidth,
    },
    /// Allocated on another node.
    #[error("claim {claim} is allocated on {pool}, this is node {node}")]
    OtherNode {
        /// The claim.
        claim: String,
        /// Pool, which is the node's name.
        pool: String,
        /// This node.
        node: String,
    },
}

/// The ResourceClaimTemplate `<network>-rails`, owned by the network: one request per rail.
pub fn template(network: &TrainingNetwork, resolved: &Resolved) -> ResourceClaimTemplate {
    let name = network.metadata.name.clone().unwrap_or_default();
    let fabric = resolved.fabric.metadata.name.as_deref().unwrap_or_default();
    let requests = resolved
        .rails
        .iter()
        .map(|rail| request(rail.id, fabric, resolved.guaranteed))
        .collect();
    let config = ClaimConfig::NetworkClaim {
        api_version: format!("{}/{}", railhead_crds::GROUP, railhead_crds::VERSION),
        network: name.clone(),
        network_uid: network.metadata.uid.clone().unwrap_or_default(),
    };
    let parameters = serde_json::to_value(config).unwrap_or_default();
    ResourceClaimTemplate {
        metadata: ObjectMeta {
            name: Some(names::claim_template(&name)),
            namespace: network.metadata.namespace.clone(),
            labels: Some([(names::NETWORK_LABEL.to_owned(), name)].into()),
            owner_references: Some(vec![owner(network)]),
            ..ObjectMeta::default()
        },
        spec: ResourceClaimTemplateSpec {
            metadata: None,
            spec: ResourceClaimSpec {
                devices: Some(DeviceClaim {
                    requests: Some(requests),
                    constraints: None,
                    config: Some(vec![DeviceClaimConfiguration {
                        opaque: Some(OpaqueDeviceConfiguration {
                            driver: names::DRIVER.to_owned(),
                            parameters: RawExtension(parameters),
                        }),
                        requests: None,
                    }]),
                }),
            },
        },
    }
}

fn request(rail: u32, fabric: &str, guaranteed: Bandwidth) -> DeviceRequest {
    let driver = names::DRIVER;
    // Every attribute is guarded: an error in a selector stops scheduling on all nodes, not only on the odd one.
    let expression = format!(
        "device.driver == '{driver}' && '{rail_key}' in device.attributes['{driver}'] && device.attributes['{driver}'].{rail_key} == {rail} && '{fabric_key}' in device.attributes['{driver}'] && device.attributes['{driver}'].{fabric_key} == '{fabric}'",
        rail_key = names::RAIL_ATTRIBUTE,
        fabric_key = names::FABRIC_ATTRIBUTE,
    );
    let capacity: BTreeMap<String, Quantity> = [
        (names::BANDWIDTH_CAPACITY.to_owned(), Quantity(guaranteed.to_string())),
        (names::VFS_CAPACITY.to_owned(), Quantity("1".to_owned())),
    ]
    .into();
    DeviceRequest {
        name: names::rail_device(rail),
        first_available: None,
        exactly: Some(ExactDeviceRequest {
            device_class_name: names::DEVICE_CLASS.to_owned(),
            selectors: Some(vec![DeviceSelector {
                cel: Some(CELDeviceSelector { expression }),
            }]),
            capacity: Some(CapacityRequirements {
                requests: Some(capacity),
            }),
            ..ExactDeviceRequest::default()
        }),
    }
}

/// Whether a stored template asks for what `wanted` asks for; the API server's defaults do not count.
pub fn same_template(stored: &ResourceClaimTemplate, wanted: &ResourceClaimTemplate) -> bool {
    essence(stored) == essence(wanted)
}

type Essence = (
    Vec<(String, String, Vec<String>, Vec<(String, Option<Bandwidth>, String)>)>,
    Vec<serde_json::Value>,
);

fn essence(template: &ResourceClaimTemplate) -> Essence {
    let Some(devices) = &template.spec.spec.devices else {
        return Essence::default();
    };
    let requests = devices.requests.iter().flatten().filter_map(|request| {
        let exactly = request.exactly.as_ref()?;
        let selectors = exactly
            .selectors
            .iter()
            .flatten()
            .filter_map(|s| Some(s.cel.as_ref()?.expression.clone()));
        let capacity = exactly
            .capacity
            .iter()
            .flat_map(|c| c.requests.iter().flatten())
            .map(|(key, quantity)| {
                // 1000M comes back as 1G: compare values, keep the text for what is not a bandwidth.
                let value = Bandwidth::from_quantity(&quantity.0);
                (
                    key.clone(),
                    value,
                    if value.is_some() {
                        String::new()
                    } else {
                        quantity.0.clone()
                    },
                )
            });
        Some((
            request.name.clone(),
            exactly.device_class_name.clone(),
            selectors.collect(),
            capacity.collect(),
        ))
    });
    let config = devices
        .config
        .iter()
        .flatten()
        .filter_map(|c| Some(c.opaque.as_ref()?.parameters.0.clone()));
    (requests.collect(), config.collect())
}

/// The network that a claim names; what a claim says is believed only after [`check`].
pub fn network_of(claim: &ResourceClaim) -> Result<(String, String), ClaimRefused> {
    let not_ours = || ClaimRefused::NotOurs {
        claim: name_of(&claim.metadata),
    };
    let devices = claim.spec.devices.as_ref().ok_or_else(not_ours)?;
    devices
        .config
        .iter()
        .flatten()
        .filter_map(|config| config.opaque.as_ref())
        .filter(|opaque| opaque.driver == names::DRIVER)
        .find_map(|opaque| serde_json::from_value(opaque.parameters.0.clone()).ok())
        .map(
            |ClaimConfig::NetworkClaim {
                 network, network_uid, ..
             }| (network, network_uid),
        )
        .ok_or_else(not_ours)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::tests::{network, reserved};

    fn allocated(template: &ResourceClaimTemplate) -> (ResourceClaim, Pod) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "llama-0", "namespace": "team-a", "uid": "pod-1", "labels": {"railhead.dev/network": "llama"}},
        }))
        .unwrap();
        let result = |rail: u32| {
            json!({"driver": "railhead.dev", "pool": "node1", "device": format!("rail{rail}"), "request": format!("rail{rail}"),
                "shareID": "s", "consumedCapacity": {"bandwidth": "200M", "vfs": "1"}})
        };
        let claim = serde_json::from_value(json!({
            "metadata": {"name": "llama-0-railhead-x", "namespace": "team-a", "uid": "claim-1",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "llama-0", "uid": "pod-1"}]},
            "spec": serde_json::to_value(&template.spec.spec).unwrap(),
            "status": {"reservedFor": [{"resource": "pods", "name": "llama-0", "uid": "pod-1"}],
                "allocation": {"devices": {"results": [result(1), result(0)]}}},
        }))
        .unwrap();
        (claim, pod)
    }

    #[test]
    fn the_claim_made_from_the_template_is_accepted_with_its_rails_in_order() {
        let network = network(json!({"pods": 2}));
        let (resolved, slice) = reserved(&network);
        let (claim, pod) = allocated(&template(&network, &resolved));
        let rails = check(&claim, &pod, &network, &slice, "node1").unwrap();
        assert_eq!(
            rails.iter().map(|r| (r.rail, r.bandwidth.mbps())).collect::<Vec<_>>(),
            [(0, 200), (1, 200)]
        );
    }

    #[test]
    fn a_tenant_cannot_slip_in_with_a_claim_of_its_own() {
        let network = network(json!({"pods": 2}));
        let (resolved, slice) = reserved(&network);
        let (good, pod) = allocated(&template(&network, &resolved));
        let refused = |change: &dyn Fn(&mut ResourceClaim, &mut Pod)| {
            let (mut claim, mut pod) = (good.clone(), pod.clone());
            change(&mut claim, &mut pod);
            check(&claim, &pod, &network, &slice, "node1").unwrap_err()
        };
        let by_hand = refused(&|c, _| c.spec.devices.as_mut().unwrap().config = None);
        assert!(matches!(by_hand, ClaimRefused::NotOurs { .. }));
        let elsewhere = refused(&|c, _| c.metadata.namespace = Some("team-b".into()));
        assert!(matches!(elsewhere, ClaimRefused::OtherNetwork { .. }));
        let shared = refused(&|c, _| {
            let status = c.status.as_mut().unwrap();
            let first = status.reserved_for.as_ref().unwrap()[0].clone();
            status.reserved_for.as_mut().unwrap().push(first);
        });
        assert!(matches!(shared, ClaimRefused::Shared { .. }));
        let unlabelled = refused(&|_, p| p.metadata.labels = None);
        assert!(matches!(unlabelled, ClaimRefused::OtherLabel { .. }));
        let less = refused(&|c, _| {
            let devices = c
                .status
                .as_mut()
                .unwrap()
                .allocation
                .as_mut()
                .unwrap()
                .devices
                .as_mut()
                .unwrap();
            let capacity = devices.results.as_mut().unwrap()[0].consumed_capacity.as_mut().unwrap();
            capacity.insert("bandwidth".into(), Quantity("1M".into()));
        });
        assert!(
            matches!(less, ClaimRefused::TooLittleBandwidth { rail: 1, .. }),
            "{less}"
        );
        let one_rail = refused(&|c, _| {
            let devices = c
                .status
                .as_mut()
                .unwrap()
                .allocation
                .as_mut()
                .unwrap()
                .devices
                .as_mut()
                .unwrap();
            devices.results.as_mut().unwrap().pop();
        });
        assert!(matches!(one_rail, ClaimRefused::OtherRails { .. }));
    }

    #[test]
    fn a_template_that_the_api_server_wrote_back_is_the_same() {
        let network = network(json!({"pods": 2, "bandwidthPerRail": "1000M"}));
        let (resolved, _) = reserved(&network);
        let wanted = template(&network, &resolved);
        let mut stored = wanted.clone();
        let request = &mut stored.spec.spec.devices.as_mut().unwrap().requests.as_mut().unwrap()[0];
        let exactly = request.exactly.as_mut().unwrap();
        exactly.count = Some(1);
        exactly.allocation_mode = Some("ExactCount".into());
        exactly
            .capacity
            .as_mut()
            .unwrap()
            .requests
            .as_mut()
            .unwrap()
            .insert("bandwidth".into(), Quantity("1G".into()));
        assert!(same_template(&stored, &wanted));
        exactly_bandwidth(&mut stored, "2G");
        assert!(!same_template(&stored, &wanted));
    }

    fn exactly_bandwidth(template: &mut ResourceClaimTemplate, bandwidth: &str) {
        let request = &mut template.spec.spec.devices.as_mut().unwrap().requests.as_mut().unwrap()[0];
        let capacity = request.exactly.as_mut().unwrap().capacity.as_mut().unwrap();
        capacity
            .requests
            .as_mut()
            .unwrap()
            .insert("bandwidth".into(), Quantity(bandwidth.into()));
    }
}
