//! Which pod a claim is for, which network it joins, and whether it may. All of it is read from the API server now: what
//! a cache says may be of an earlier pod.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{core::v1::Pod, resource::v1::ResourceClaim},
};
use kube::{Api, Client, Resource, ResourceExt};
use railhead_crds::{NetworkSlice, TrainingNetwork, names};
use railhead_planner::{
    attachment::ClaimOfPod,
    claim::{self, ClaimRefused, RailAllocation},
};
use railhead_service::within;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::PrepareError;
use crate::{agent::Agent, kubelet::ClaimRef, limits::SLICE_POLL as POLL};

/// A pod with a checked claim.
#[derive(Debug)]
pub(super) struct Entitled {
    pub(super) pod: Pod,
    pub(super) claim: ClaimOfPod,
    pub(super) network: TrainingNetwork,
    pub(super) slice: NetworkSlice,
    pub(super) rails: Vec<RailAllocation>,
}

/// Reads everything about a claim and checks it.
pub(super) async fn entitled(agent: &Agent, reference: &ClaimRef, deadline: Instant) -> Result<Entitled, PrepareError> {
    let client = &agent.client;
    let namespace = &reference.namespace;
    let claim: ResourceClaim = get(client, deadline, "ResourceClaim", namespace, &reference.name).await?;
    if claim.metadata.uid.as_deref() != Some(&reference.uid) {
        return Err(gone("ResourceClaim", namespace, &reference.name, &reference.uid));
    }
    let (pod_name, pod_uid) = claim::consumer(&claim)?;
    let (network_name, network_uid) = claim::network_of(&claim)?;
    let slice = SliceOf {
        client,
        namespace,
        network: &network_name,
        name: names::slice(&network_name, &network_uid),
    };
    // The claim names all three. Each has its own answer, and the first thing that is wrong in this order is said.
    let (pod, network, found) = tokio::join!(
        get::<Pod>(client, deadline, "Pod", namespace, &pod_name),
        get::<TrainingNetwork>(client, deadline, "TrainingNetwork", namespace, &network_name),
        slice.get(deadline),
    );
    let pod = pod?;
    check_pod(&pod, &pod_uid, &agent.node)?;
    let network = network?;
    // Before the slice is waited for: there will never be one for a claim that was copied from another namespace.
    check_network(&claim, &network, &network_uid)?;
    let slice = match found? {
        Some(slice) => slice,
        None => slice.wait(deadline).await?,
    };
    let rails = claim::check(&claim, &pod, &network, &slice, &agent.node)?;
    Ok(Entitled {
        pod,
        claim: ClaimOfPod {
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        },
        network,
        slice,
        rails,
    })
}

fn check_network(claim: &ResourceClaim, network: &TrainingNetwork, wanted: &str) -> Result<(), ClaimRefused> {
    let current = network.uid().unwrap_or_default();
    if current == wanted {
        return Ok(());
    }
    Err(ClaimRefused::OtherNetwork {
        claim: format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any()),
        network: network.name_any(),
        found: wanted.to_owned(),
        current,
    })
}

fn check_pod(pod: &Pod, uid: &str, node: &str) -> Result<(), PrepareError> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    if pod.metadata.uid.as_deref() != Some(uid) {
        return Err(gone("Pod", &namespace, &name, uid));
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(PrepareError::PodEnded { namespace, name });
    }
    let found = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .unwrap_or_default();
    if found != node {
        return Err(PrepareError::OtherNode {
            namespace,
            name,
            found,
            node: node.to_owned(),
        });
    }
    Ok(())
}

/// The network's slice. The claim's template exists before the reservation, so a quick scheduler can be here first.
struct SliceOf<'a> {
    client: &'a Client,
    namespace: &'a str,
    network: &'a str,
    name: String,
}

impl SliceOf<'_> {
    async fn get(&self, deadline: Instant) -> Result<Option<NetworkSlice>, PrepareError> {
        let slices: Api<NetworkSlice> = Api::namespaced(self.client.clone(), self.namespace);
        let found = within(deadline, slices.get_opt(&self.name)).await;
        found.map_err(|source| read("NetworkSlice", self.namespace, &self.name, source))
    }

    async fn wait(&self, deadline: Instant) -> Result<NetworkSlice, PrepareError> {
        while Instant::now() + POLL < deadline {
            tokio::time::sleep(POLL).await;
            if let Some(slice) = self.get(deadline).await? {
                return Ok(slice);
            }
        }
        Err(PrepareError::NoSlice {
            namespace: self.namespace.to_owned(),
            network: self.network.to_owned(),
        })
    }
}

async fn get<K>(
    client: &Client,
    deadline: Instant,
    kind: &'static str,
    namespace: &str,
    name: &str,
) -> Result<K, PrepareError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let found = within(deadline, api.get_opt(name)).await;
    found
        .map_err(|source| read(kind, namespace, name, source))?
        .ok_or_else(|| gone(kind, namespace, name, "any"))
}

fn read(kind: &'static str, namespace: &str, name: &str, source: kube::Error) -> PrepareError {
    PrepareError::Read {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn gone(kind: &'static str, namespace: &str, name: &str, uid: &str) -> PrepareError {
    PrepareError::Gone {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_a_living_pod_of_this_node_with_the_reserved_uid_is_prepared() {
        let good = json!({
            "metadata": {"name": "llama-5", "namespace": "team-a", "uid": "u1"},
            "spec": {"nodeName": "gpu-1", "containers": []},
        });
        assert!(check_pod(&pod(good.clone()), "u1", "gpu-1").is_ok());
        let other = check_pod(&pod(good.clone()), "u2", "gpu-1").unwrap_err();
        assert!(matches!(other, PrepareError::Gone { .. }), "{other}");
        let elsewhere = check_pod(&pod(good.clone()), "u1", "gpu-2").unwrap_err();
        assert!(elsewhere.to_string().contains("gpu-1"), "{elsewhere}");
        let mut ending = good;
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(check_pod(&pod(ending), "u1", "gpu-1").is_err());
    }

    #[test]
    fn a_claim_for_a_network_of_the_same_name_elsewhere_is_refused_without_waiting_for_a_slice() {
        let claim = ResourceClaim::default();
        let network: TrainingNetwork = serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
            "metadata": {"name": "llama", "namespace": "team-b", "uid": "u2"}, "spec": {"pods": 1},
        }))
        .unwrap();
        assert!(check_network(&claim, &network, "u2").is_ok());
        let refused = check_network(&claim, &network, "u1").unwrap_err().to_string();
        assert!(refused.contains("another TrainingNetwork llama"), "{refused}");
    }
}
