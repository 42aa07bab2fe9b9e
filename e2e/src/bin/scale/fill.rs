//! The cluster: nodes whose agents have reported, networks, and pods that are attached.

use std::time::Duration;

use anyhow::{Context as _, Result};
use railhead_e2e::lab::progress::say;
use serde_json::{Value, json};

use crate::{
    api::{Server, Verb, Who, for_each},
    shapes,
};

/// How many networks are in a namespace.
const NETWORKS_PER_NAMESPACE: usize = 20;
const RAILHEAD: &str = "/apis/railhead.dev/v1alpha1";

/// A network of the cluster, by its number.
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

pub(crate) fn place(network: usize) -> Place {
    Place {
        namespace: format!("team-{:03}", network / NETWORKS_PER_NAMESPACE),
        name: format!("llama-{network:04}"),
    }
}

/// A namespace that pods can be made in. Kubernetes' controllers do not run any more by then.
pub(crate) async fn namespace(server: &Server, name: &str) -> Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    server.create("/api/v1/namespaces", &namespace).await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    server
        .create(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &account)
        .await
}

/// Namespaces for so many networks.
pub(crate) async fn namespaces(server: &Server, networks: usize) -> Result<()> {
    for_each(
        "namespaces",
        networks.div_ceil(NETWORKS_PER_NAMESPACE),
        async |number| namespace(server, &place(number * NETWORKS_PER_NAMESPACE).namespace).await,
    )
    .await
}

pub(crate) async fn network(server: &Server, network: &Place, pods: usize) -> Result<()> {
    let path = format!("{RAILHEAD}/namespaces/{}/trainingnetworks", network.namespace);
    let body = shapes::network(&network.namespace, &network.name, pods);
    server.write(Who::Admin, Verb::Create, &path, &body).await.map(drop)
}

pub(crate) async fn fabric(server: &Server) -> Result<()> {
    server
        .create(&format!("{RAILHEAD}/qosclasses"), &shapes::class())
        .await?;
    server.create(&format!("{RAILHEAD}/fabrics"), &shapes::fabric()).await
}

pub(crate) async fn nodes(server: &Server, count: usize) -> Result<()> {
    for_each("nodes", count, async |number| {
        server.create("/api/v1/nodes", &shapes::node(number)).await
    })
    .await
}

/// What agents do when they start, once the operator has made the NodeNetwork.
pub(crate) async fn agents(server: &Server, count: usize) -> Result<()> {
    for_each("agents' reports", count, async |number| {
        let node = shapes::node_name(number);
        let object = format!("{RAILHEAD}/nodenetworks/{node}");
        while server.get(&object).await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        report(server, &node, 0).await?;
        let slices = "/apis/resource.k8s.io/v1/resourceslices";
        server
            .write(Who::Agent(&node), Verb::Create, slices, &shapes::resource_slice(&node))
            .await
            .map(drop)
    })
    .await
}

/// What an agent writes with every pod that comes or goes.
pub(crate) async fn report(server: &Server, node: &str, used: usize) -> Result<()> {
    let path = format!("{RAILHEAD}/nodenetworks/{node}/status?fieldManager=railhead-agent&force=true");
    let body = shapes::report(node, used);
    server
        .write(Who::Agent(node), Verb::Apply, &path, &body)
        .await
        .map(drop)
}

/// Another speed of one port, in the ResourceSlice of a node. Agents replace the whole of it; they may not patch.
pub(crate) async fn speed(server: &Server, node: &str, speed: &str) -> Result<()> {
    let path = format!("/apis/resource.k8s.io/v1/resourceslices/railhead-{node}");
    let body = json!({"spec": {"devices": shapes::devices(speed)}});
    server.write(Who::Admin, Verb::Merge, &path, &body).await.map(drop)
}

/// How many pods a network has of `pods` in all.
pub(crate) fn size(network: usize, networks: usize, pods: usize) -> usize {
    (pods / networks + usize::from(network < pods % networks)).max(1)
}

/// The pods of all networks, each on a node, allocated and wired.
pub(crate) async fn pods(server: &Server, nodes: usize, networks: usize, pods: usize) -> Result<()> {
    let mut wanted = Vec::new();
    let mut slices = Vec::new();
    for network in 0..networks {
        let place = place(network);
        let path = format!(
            "{RAILHEAD}/namespaces/{}/trainingnetworks/{}",
            place.namespace, place.name
        );
        let object = server.get(&path).await?;
        let slice = object["status"]["sliceName"]
            .as_str()
            .context("a network without a slice")?
            .to_owned();
        let templates = format!(
            "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaimtemplates",
            place.namespace
        );
        let template = server.get(&format!("{templates}/{}-rails", place.name)).await?;
        let claim_spec = template["spec"]["spec"].clone();
        wanted.extend((0..size(network, networks, pods)).map(|index| (network, index)));
        slices.push((place, slice, claim_spec));
    }
    wanted.truncate(pods);
    say(format!("  {} pods to attach", wanted.len()));
    for_each("attached pods", wanted.len(), async |number| {
        let (network, index) = wanted[number];
        let (place, slice, claim_spec) = &slices[network];
        attach(
            server,
            place,
            slice,
            claim_spec,
            index,
            number,
            &shapes::node_name(number % nodes),
        )
        .await
    })
    .await
}

async fn attach(
    server: &Server,
    network: &Place,
    slice: &str,
    claim_spec: &Value,
    index: usize,
    number: usize,
    node: &str,
) -> Result<()> {
    let namespace = &network.namespace;
    let pod = shapes::pod_name(&network.name, index);
    let of_pods = format!("/api/v1/namespaces/{namespace}/pods");
    let body = shapes::pod(namespace, &network.name, index, Some(node));
    let made = server.write(Who::Admin, Verb::Create, &of_pods, &body).await?;
    let uid = made["metadata"]["uid"].as_str().context("a pod without a UID")?;
    let of_claims = format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims");
    let claim = shapes::claim(namespace, &pod, uid, claim_spec);
    server
        .write(Who::ClaimController, Verb::Create, &of_claims, &claim)
        .await?;
    let allocation = shapes::allocation(node, &pod, uid, claim_spec, number);
    let status = format!("{of_claims}/{}/status", shapes::claim_name(&pod));
    server.write(Who::Admin, Verb::Merge, &status, &allocation).await?;
    let of_attachments = format!("{RAILHEAD}/namespaces/{namespace}/networkattachments");
    let attachment = shapes::attachment(namespace, &network.name, slice, index, node, uid);
    server
        .write(Who::Agent(node), Verb::Create, &of_attachments, &attachment)
        .await?;
    let status = format!("{of_attachments}/{slice}-{index}/status?fieldManager=railhead-agent&force=true");
    server
        .write(
            Who::Agent(node),
            Verb::Apply,
            &status,
            &shapes::wired(namespace, slice, index),
        )
        .await?;
    server
        .write(
            Who::Admin,
            Verb::Merge,
            &format!("{of_pods}/{pod}/status"),
            &shapes::running(&pod),
        )
        .await
        .map(drop)
}
