//! What the agent is told: by the CNI configurations of the node, by kubelet, by the container runtime, and by claims, which
//! whoever may write claims wrote.

use std::{collections::HashSet, path::Path, sync::Arc};

use futures::executor::block_on;
use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use prost::Message;
use railhead_agent::{
    chain::{Conflist, RuntimeView},
    kubelet::{ClaimRef, Claims, Plugin, PreparedDevice, Registered, Registration, by_id},
    proto::{
        cri::StatusResponse,
        dra::{
            NodePrepareResourcesRequest, NodePrepareResourcesResponse, NodeUnprepareResourcesRequest,
            dra_plugin_server::DraPlugin,
        },
        pod_resources::{AllocatableResourcesResponse, ListPodResourcesResponse},
        registration::{RegistrationStatus, registration_server::Registration as _},
    },
};
use railhead_crds::{Bandwidth, NetworkSlice, TrainingNetwork};
use railhead_plan::Layout;
use railhead_planner::claim;
use serde_json::json;
use tokio::sync::watch;
use tonic::Request;

/// A configuration list of the cluster network.
pub fn conflist(input: &[u8]) {
    let folder = Path::new("/etc/cni/net.d");
    for file in ["10-pod.conflist", "10-pod.conf"] {
        match Conflist::parse(folder.join(file), input) {
            Ok(list) => {
                let entry = list.entry(folder);
                assert_eq!(
                    entry.parent().and_then(Path::parent),
                    Some(folder),
                    "{}",
                    entry.display()
                );
                assert!(list.name.len() <= 255, "no file system takes it");
                assert!(!list.versions.is_empty(), "a list is of some version");
                let spoken = ["0.3.1".to_owned(), "1.0.0".to_owned()];
                for loaded in [None, Some(""), Some("1.0.0"), list.versions.first().map(String::as_str)] {
                    let unspoken = list.unspoken(&spoken, loaded);
                    if let Some(version) = unspoken {
                        assert!(!spoken.iter().any(|spoken| spoken == version), "{version}");
                        assert!(list.versions.iter().any(|known| known == version), "{version}");
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(file), "{text}");
                assert!(text.len() < 1024, "{} bytes of error", text.len());
            }
        }
    }
}

/// Takes what is a claim and remembers nothing else.
struct Node;

impl Claims for Node {
    async fn prepare(&self, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
        stays_in_its_folders(&claim);
        Ok(vec![PreparedDevice {
            request: "rail0".to_owned(),
            pool: "node1".to_owned(),
            device: "rail0".to_owned(),
            share_id: None,
            cdi_device_ids: vec![format!("railhead.dev/rail={}", claim.uid)],
        }])
    }

    async fn unprepare(&self, claim: ClaimRef) -> Result<(), String> {
        stays_in_its_folders(&claim);
        Ok(())
    }
}

/// The claim's UID names files, and its name is part of a request.
fn stays_in_its_folders(claim: &ClaimRef) {
    let layout = Layout::under("/node");
    for (file, folder) in [
        (layout.cdi_spec(&claim.uid), layout.cdi()),
        (layout.plan(&claim.uid), layout.plans()),
    ] {
        assert_eq!(file.parent(), Some(folder.as_path()), "{}", file.display());
        assert!(file.as_os_str().len() < 255, "{}", file.display());
    }
    for part in [&claim.namespace, &claim.name] {
        assert!(
            !part.is_empty() && !part.contains(['/', '?', '#', '%', ' ', '\0']),
            "{claim:?}"
        );
        assert!(part != ".." && part.len() <= 253, "{claim:?}");
    }
}

/// NodePrepareResources and NodeUnprepareResources, whose requests look alike.
pub fn dra(input: &[u8]) {
    let plugin = Plugin::new(Arc::new(Node));
    if let Ok(request) = NodePrepareResourcesRequest::decode(input) {
        let asked: HashSet<String> = request.claims.iter().map(|claim| claim.uid.clone()).collect();
        let answer = block_on(plugin.node_prepare_resources(Request::new(request)));
        let answer = answer.expect("kubelet throws away a failed answer").into_inner();
        let answered: HashSet<String> = answer.claims.keys().cloned().collect();
        assert_eq!(asked, answered, "kubelet takes a missing claim for an error of all");
        for (uid, claim) in &answer.claims {
            assert_eq!(claim.devices.is_empty(), !claim.error.is_empty(), "{uid:?}: {claim:?}");
            assert!(claim.error.len() < 1024, "{uid:?}: {claim:?}");
        }
        let again = NodePrepareResourcesResponse::decode(answer.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&answer));
    }
    if let Ok(request) = NodeUnprepareResourcesRequest::decode(input) {
        let asked: HashSet<String> = request.claims.iter().map(|claim| claim.uid.clone()).collect();
        let answer = block_on(plugin.node_unprepare_resources(Request::new(request)));
        let answer = answer.expect("kubelet throws away a failed answer").into_inner();
        assert_eq!(asked, answer.claims.into_keys().collect::<HashSet<_>>());
    }
}

/// What kubelet and the runtime say; the first byte is for which of the messages the rest is.
pub fn node_services(input: &[u8]) {
    let Some((kind, message)) = input.split_first() else {
        return;
    };
    match kind % 4 {
        0 => {
            let Ok(allocatable) = AllocatableResourcesResponse::decode(message) else {
                return;
            };
            let ids: HashSet<String> = allocatable
                .devices
                .iter()
                .flat_map(|devices| devices.device_ids.iter().cloned())
                .collect();
            let devices = by_id(allocatable, ListPodResourcesResponse::default());
            assert_eq!(devices.len(), ids.len());
            assert!(
                devices.values().all(|resource| resource.chars().count() <= 317),
                "{devices:?}"
            );
        }
        1 => {
            let Ok(listed) = ListPodResourcesResponse::decode(message) else {
                return;
            };
            let devices = by_id(AllocatableResourcesResponse::default(), listed.clone());
            let again = by_id(AllocatableResourcesResponse::default(), listed);
            assert_eq!(devices, again);
        }
        2 => {
            let Ok(status) = RegistrationStatus::decode(message) else {
                return;
            };
            let (sender, registered) = watch::channel(Registered::default());
            let service = Registration::new("railhead.dev", "/plugin.sock".into(), sender);
            let accepted = status.plugin_registered;
            let told = block_on(service.notify_registration_status(Request::new(status)));
            assert!(told.is_ok(), "kubelet tries for ever");
            assert_eq!(*registered.borrow(), Registered { accepted, notices: 1 });
        }
        _ => {
            let Ok(status) = StatusResponse::decode(message) else {
                return;
            };
            if let Some(view) = RuntimeView::of(&status) {
                let calls = |network: &railhead_agent::chain::LoadedNetwork| {
                    network.plugins.iter().any(|plugin| plugin == "railhead")
                };
                assert_eq!(view.has_entry(), view.networks.iter().any(calls));
                assert!(
                    view.networks
                        .iter()
                        .all(|network| view.version_of(&network.name).is_some())
                );
            }
        }
    }
}

/// The node on which the claim is prepared.
const NODE: &str = "node1";
/// What the network guarantees.
const GUARANTEED: &str = "200M";

/// A ResourceClaim as the API server has it: configuration and allocation results are what whoever wrote it wants. The pod, the
/// network and its slice are as they should be, so only the claim decides.
pub fn claim(input: &[u8]) {
    let Ok(claim) = serde_json::from_slice::<ResourceClaim>(input) else {
        return;
    };
    let consumer = claim::consumer(&claim);
    let named = claim::network_of(&claim);
    for error in [consumer.as_ref().err(), named.as_ref().err()].into_iter().flatten() {
        is_said(&claim, &error.to_string());
    }
    let (Ok((pod_name, pod_uid)), Ok((network_name, network_uid))) = (consumer, named) else {
        return;
    };
    for name in [&pod_name, &network_name, &network_uid] {
        assert!(
            !name.is_empty() && !name.contains(['/', '?', '#', '%', ' ', '\0']),
            "{name:?}"
        );
    }
    let metadata = &claim.metadata;
    let pod: Pod = value(json!({
        "metadata": {"name": pod_name, "namespace": metadata.namespace, "uid": pod_uid,
            "labels": {"railhead.dev/network": network_name}},
    }));
    let network: TrainingNetwork = value(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
        "metadata": {"name": network_name, "namespace": metadata.namespace, "uid": network_uid}, "spec": {"pods": 2},
    }));
    match claim::check(&claim, &pod, &network, &slice(&network_name, &network_uid), NODE) {
        Ok(rails) => {
            let guaranteed = Bandwidth::from_quantity(GUARANTEED).expect("a bandwidth");
            assert_eq!(rails.iter().map(|rail| rail.rail).collect::<Vec<_>>(), [0, 1]);
            for rail in &rails {
                assert_eq!(rail.pool, NODE);
                assert!(rail.bandwidth >= guaranteed, "{rail:?}");
                assert_eq!(
                    Bandwidth::from_quantity(&rail.bandwidth.to_string()),
                    Some(rail.bandwidth)
                );
            }
            let holders = claim
                .status
                .iter()
                .flat_map(|status| status.reserved_for.iter().flatten());
            assert_eq!(holders.count(), 1, "a shared claim");
        }
        Err(error) => is_said(&claim, &error.to_string()),
    }
}

/// A message names the claim, and is no longer than what the API server lets names and quantities be.
fn is_said(claim: &ResourceClaim, text: &str) {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    assert!(text.contains(name), "{text}");
}

fn slice(network: &str, uid: &str) -> NetworkSlice {
    let rail = |id: u32| json!({"id": id, "name": format!("rail{id}"), "prefix": format!("10.{id}.64.0/31"), "pool": format!("10.{id}.0.0/16"), "vlan": 1012});
    value(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice", "metadata": {"name": "s"},
        "spec": {
            "network": {"name": network, "uid": uid}, "pods": 2, "base": 64, "capacity": 2, "ledgerSequence": 1,
            "fabric": {"name": "backend", "uid": "f", "mtu": 9000, "linkType": "RoCE", "softRoCE": "Never"},
            "qos": {"className": "c", "dscp": 26, "priority": 3, "guaranteed": GUARANTEED, "trust": false, "spoofCheck": true},
            "rails": [rail(0), rail(1)],
        },
    }))
}

fn value<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("an object")
}
