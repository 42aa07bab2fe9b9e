//! The ResourceClaimTemplate of a network.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::resource::v1::{
        CELDeviceSelector, CapacityRequirements, DeviceClaim, DeviceClaimConfiguration, DeviceRequest, DeviceSelector,
        ExactDeviceRequest, OpaqueDeviceConfiguration, ResourceClaimSpec, ResourceClaimTemplate,
        ResourceClaimTemplateSpec,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use railhead_crds::{Bandwidth, TrainingNetwork, names};

use super::ClaimConfig;
use crate::network::{Resolved, owner};

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
