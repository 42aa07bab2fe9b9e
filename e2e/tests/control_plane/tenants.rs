//! Who may use what.

use anyhow::{Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{contains, expect_refusal};
use crate::guards::tenant;
use crate::networks::reserved;
use crate::samples;

const LABEL: &str = "test.railhead.dev/tier";

/// A list for namespaces with [`LABEL`] of this value.
fn allowed(tier: &str) -> Value {
    json!({"matchLabels": {LABEL: tier}})
}

pub(crate) fn a_class_is_for_the_namespaces_that_its_labels_name(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "class-for-some";
    let namespace = cluster.namespace(fabric)?;
    let class = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "for-some"},
        "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G"}, "allowedNamespaces": allowed("prod")},
    });
    let network = |name: &str| {
        let mut network = samples::network(&namespace, name, fabric, 5);
        network["spec"]["qosClassName"] = json!("for-some");
        network
    };
    cluster.create(&admin, &[class, samples::fabric(fabric), network("llama")])?;
    let refused =
        |name: &str, reason: &str| cluster.condition((&*namespace, "tnet", name), "Reserved", "False", reason);
    let asks_for = format!("kubectl label namespace {namespace} {LABEL}=prod");
    let words = [
        &*namespace,
        "QosClass for-some",
        "with the labels test.railhead.dev/tier=prod",
        "spec.qosClassName (",
        "production",
        &asks_for,
    ];
    contains(&refused("llama", "ClassNotAllowed")?, &words)?;
    contains(&cluster.event(&namespace, "llama", "ClassNotAllowed")?, &words)?;
    let label = |who, tier: &str| {
        let label = format!("{LABEL}={tier}");
        cluster.kubectl(who, &["label", "namespace", &namespace, &label, "--overwrite"])
    };
    let tenant = tenant(world, &namespace, "--clusterrole=admin")?;
    expect_refusal(&label(&tenant, "prod")?, &["forbidden"])?;
    label(&admin, "prod")?.ok()?;
    let slice = reserved(world, &namespace, "llama")?;

    // What has its slice goes on whatever becomes of label and class; nothing new is reserved.
    label(&admin, "dev")?.ok()?;
    cluster.create(&admin, &[network("qwen")])?;
    refused("qwen", "ClassNotAllowed")?;
    let grows = |pods: u32| {
        let patch = json!({"spec": {"pods": pods}});
        let object = (&*namespace, "tnet", "llama");
        cluster.patch(&admin, object, &patch, &[])?.ok()?;
        eventually("llama has grown in its slice", || {
            let now = cluster.get(&namespace, "networkslice", &slice)?;
            if now["spec"]["pods"] == pods {
                Ok(())
            } else {
                bail!("{}", now["spec"])
            }
        })?;
        reserved(world, &namespace, "llama")
    };
    grows(6)?;
    let everybody = json!({"spec": {"allowedNamespaces": null}});
    cluster
        .patch(&admin, ("default", "qosclass", "for-some"), &everybody, &[])?
        .ok()?;
    reserved(world, &namespace, "qwen")?;
    cluster.ok(&["delete", "qosclass", "for-some"])?;
    cluster.create(&admin, &[network("mixtral")])?;
    contains(&refused("mixtral", "ClassNotFound")?, &["\"for-some\" does not exist"])?;
    grows(7).map(|_| ())
}

pub(crate) fn a_fabric_is_for_the_namespaces_that_its_labels_name(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let name = "fabric-for-some";
    let mut fabric = samples::fabric(name);
    fabric["spec"]["allowedNamespaces"] = allowed("fabric");
    cluster.create(&admin, &[fabric])?;
    let [inside, outside] = ["inside", "outside"].map(|purpose| cluster.namespace(purpose));
    let (inside, outside) = (inside?, outside?);
    cluster.ok(&["label", "namespace", &inside, &format!("{LABEL}=fabric")])?;
    let networks = [&inside, &outside].map(|namespace| samples::network(namespace, "llama", name, 2));
    cluster.create(&admin, &networks)?;
    reserved(world, &inside, "llama")?;
    let object = (&*outside, "tnet", "llama");
    let message = cluster.condition(object, "Reserved", "False", "FabricNotAllowed")?;
    let words = [&*outside, "Fabric fabric-for-some", "test.railhead.dev/tier=fabric"];
    contains(&message, &words)?;
    // Another list lets the others in, and leaves those that are in alone.
    let list =
        json!({"spec": {"allowedNamespaces": {"matchLabels": {LABEL: null, "kubernetes.io/metadata.name": outside}}}});
    cluster.patch(&admin, ("default", "fabric", name), &list, &[])?.ok()?;
    reserved(world, &outside, "llama")?;
    cluster.create(&admin, &[samples::network(&inside, "qwen", name, 2)])?;
    cluster.condition((&inside, "tnet", "qwen"), "Reserved", "False", "FabricNotAllowed")?;
    reserved(world, &inside, "llama").map(|_| ())
}
