//! What a plan says of NCCL, and of the traffic class for everybody, before the pod is wired.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};
use railhead_crds::{LinkType, Nccl, NetworkSlice};
use railhead_plan::{ContainerVariable, NCCL_CONF_FILE, NCCL_IB_GID_INDEX, NCCL_IB_HCA, NcclSetting, TrafficClass};

/// Variables that may be right on one cluster and wrong on this one.
const WATCHED: [&str; 3] = [NCCL_CONF_FILE, NCCL_IB_GID_INDEX, NCCL_IB_HCA];
/// So much of what a pod sets is kept, variables.
const MOST_VARIABLES: usize = 32;
/// So much of a value is kept, characters.
const LONGEST_VALUE: usize = 256;

/// The derived settings and the network's own, which win.
pub(crate) fn settings(slice: &NetworkSlice, nccl: &Nccl) -> Vec<NcclSetting> {
    let mut derived = vec![NcclSetting {
        name: "NCCL_SOCKET_IFNAME".into(),
        value: "=eth0".into(),
        origin: "bootstrap stays on the cluster network".into(),
    }];
    if let Some(class) = traffic_class(slice) {
        derived.push(NcclSetting {
            name: "NCCL_IB_TC".into(),
            value: class.value.to_string(),
            origin: class.origin,
        });
    }
    let own = nccl.settings.iter().map(|(name, value)| {
        let mut origin = format!("TrainingNetwork {}: spec.nccl.settings", slice.spec.network.name);
        if let Some(instead) = derived
            .iter()
            .find(|setting| setting.name == *name && setting.value != *value)
        {
            origin = format!("{origin}, instead of {} ({})", instead.value, instead.origin);
        }
        NcclSetting {
            name: name.clone(),
            value: value.clone(),
            origin,
        }
    });
    let own: Vec<NcclSetting> = own.collect();
    derived.retain(|setting| !nccl.settings.contains_key(&setting.name));
    derived.extend(own);
    derived
}

/// The traffic class of the network's RDMA packets, for NCCL and for all others.
pub(crate) fn traffic_class(slice: &NetworkSlice) -> Option<TrafficClass> {
    let qos = &slice.spec.qos;
    (slice.spec.fabric.link_type == LinkType::RoCE).then(|| TrafficClass {
        value: u32::from(qos.dscp) << 2,
        origin: format!("QosClass {}: DSCP {} times 4", qos.class_name, qos.dscp),
    })
}

/// The watched variables that the containers with the claim set in the pod's manifest. Of one that comes from elsewhere
/// (`valueFrom`) or is put together when the container starts the name alone is known; of `envFrom` and the image nothing is.
pub(crate) fn environment(pod: &Pod, claim: &str) -> Vec<ContainerVariable> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let requests = requests_of(pod, claim);
    let has_claim = |container: &&Container| {
        let resources = container.resources.as_ref();
        let claims = resources
            .and_then(|resources| resources.claims.as_deref())
            .unwrap_or_default();
        claims.iter().any(|claim| requests.contains(claim.name.as_str()))
    };
    let init = spec.init_containers.iter().flatten();
    let variables = init.chain(&spec.containers).filter(has_claim).flat_map(|container| {
        let environment = container.env.iter().flatten();
        environment.filter_map(|variable| {
            let known = variable.value_from.is_none();
            // Kubernetes takes a variable with neither as an empty one.
            let value = variable.value.as_deref().unwrap_or_default();
            let value = (known && !value.contains("$(")).then(|| value.chars().take(LONGEST_VALUE).collect());
            WATCHED.contains(&variable.name.as_str()).then(|| ContainerVariable {
                container: container.name.clone(),
                name: variable.name.clone(),
                value,
            })
        })
    });
    let mut variables: Vec<ContainerVariable> = variables.collect();
    // Railhead sets this one where nobody else does, so that somebody does must not be lost.
    variables.sort_by_key(|variable| variable.name != NCCL_CONF_FILE);
    variables.truncate(MOST_VARIABLES);
    variables
}

/// The names under which the pod's containers ask for the claim.
fn requests_of<'a>(pod: &'a Pod, claim: &str) -> BTreeSet<&'a str> {
    let named = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref());
    let named = named.unwrap_or_default().iter().filter_map(|request| {
        let is_it = request.resource_claim_name.as_deref() == Some(claim);
        is_it.then_some(request.name.as_str())
    });
    let made = pod
        .status
        .as_ref()
        .and_then(|status| status.resource_claim_statuses.as_deref());
    let made = made.unwrap_or_default().iter().filter_map(|request| {
        let is_it = request.resource_claim_name.as_deref() == Some(claim);
        is_it.then_some(request.name.as_str())
    });
    named.chain(made).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::tests::{network, reserved};

    fn slice() -> NetworkSlice {
        reserved(&network(json!({"pods": 2}))).1
    }

    fn with(settings: &[(&str, &str)]) -> Nccl {
        let mut nccl = Nccl::default();
        for (name, value) in settings {
            nccl.settings.insert((*name).into(), (*value).into());
        }
        nccl
    }

    #[test]
    fn a_users_nccl_setting_replaces_the_derived_one_and_says_what_it_was() {
        let made = settings(&slice(), &with(&[("NCCL_IB_TC", "96"), ("NCCL_DEBUG", "INFO")]));
        let found: Vec<(&str, &str, &str)> = made
            .iter()
            .map(|s| (s.name.as_str(), s.value.as_str(), s.origin.as_str()))
            .collect();
        let own = "TrainingNetwork llama: spec.nccl.settings";
        let instead = format!("{own}, instead of 104 (QosClass production: DSCP 26 times 4)");
        assert_eq!(
            found,
            [
                ("NCCL_SOCKET_IFNAME", "=eth0", "bootstrap stays on the cluster network"),
                ("NCCL_DEBUG", "INFO", own),
                ("NCCL_IB_TC", "96", &instead),
            ]
        );
    }

    #[test]
    fn without_roce_there_is_no_traffic_class() {
        let mut slice = slice();
        slice.spec.fabric.link_type = LinkType::Ethernet;
        let made = settings(&slice, &Nccl::default());
        assert_eq!(
            made.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["NCCL_SOCKET_IFNAME"]
        );
    }

    #[test]
    fn the_environment_of_the_containers_with_the_claim_is_known_as_far_as_the_manifest_says_it() {
        let rails = json!({"claims": [{"name": "railhead"}]});
        let pod: Pod = serde_json::from_value(json!({
            "spec": {
                "resourceClaims": [{"name": "railhead", "resourceClaimTemplateName": "llama-rails"}],
                "initContainers": [{"name": "check", "resources": rails, "env": [
                    {"name": "NCCL_IB_HCA", "value": "mlx5".repeat(100)},
                ]}],
                "containers": [
                    {"name": "train", "resources": rails, "env": [
                        {"name": "NCCL_IB_GID_INDEX", "value": "0"},
                        {"name": "NCCL_DEBUG", "value": "INFO"},
                        {"name": "NCCL_IB_HCA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "NCCL_IB_HCA", "value": "$(DEVICES)"},
                    ]},
                    {"name": "sidecar", "env": [{"name": "NCCL_IB_GID_INDEX", "value": "7"}]},
                    {"name": "gpu", "resources": {"claims": [{"name": "gpus"}]},
                     "env": [{"name": "NCCL_IB_GID_INDEX", "value": "8"}]},
                ],
            },
            "status": {"resourceClaimStatuses": [
                {"name": "railhead", "resourceClaimName": "llama-1-railhead-x"},
                {"name": "gpus", "resourceClaimName": "llama-1-gpus-x"},
            ]},
        }))
        .unwrap();
        let found = environment(&pod, "llama-1-railhead-x");
        let found: Vec<(&str, &str, Option<usize>)> = found
            .iter()
            .map(|variable| {
                let length = variable.value.as_ref().map(String::len);
                (variable.container.as_str(), variable.name.as_str(), length)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("check", "NCCL_IB_HCA", Some(256)),
                ("train", "NCCL_IB_GID_INDEX", Some(1)),
                ("train", "NCCL_IB_HCA", None),
                ("train", "NCCL_IB_HCA", None),
            ]
        );
        assert!(environment(&pod, "another").is_empty());
        assert!(environment(&Pod::default(), "llama-1-railhead-x").is_empty());
        let mut own = pod.clone();
        own.status = None;
        own.spec.as_mut().unwrap().resource_claims.as_mut().unwrap()[0].resource_claim_name = Some("mine".to_owned());
        assert_eq!(
            environment(&own, "mine").len(),
            4,
            "a claim that is named and not made from a template"
        );
    }

    #[test]
    fn that_a_pod_names_a_file_of_its_own_is_known_wherever_it_says_so() {
        let rails = json!({"claims": [{"name": "railhead"}]});
        let with = |last: serde_json::Value| {
            let mut variables = vec![json!({"name": "NCCL_IB_HCA", "value": "mlx5"}); 40];
            variables.push(last);
            let pod: Pod = serde_json::from_value(json!({"spec": {
                "resourceClaims": [{"name": "railhead", "resourceClaimName": "mine"}],
                "containers": [{"name": "train", "resources": rails, "env": variables}],
            }}))
            .unwrap();
            let found = environment(&pod, "mine");
            assert_eq!(found.len(), MOST_VARIABLES);
            found[0].clone()
        };
        let from = json!({"configMapKeyRef": {"name": "settings", "key": "file"}});
        for last in [
            json!({"name": NCCL_CONF_FILE, "valueFrom": from}),
            json!({"name": NCCL_CONF_FILE, "value": "$(HOME)/nccl.conf"}),
        ] {
            let found = with(last);
            assert_eq!((found.name.as_str(), found.value), (NCCL_CONF_FILE, None));
        }
        let known = with(json!({"name": NCCL_CONF_FILE, "value": "/nccl.conf"}));
        assert_eq!(known.value.as_deref(), Some("/nccl.conf"));
    }
}
