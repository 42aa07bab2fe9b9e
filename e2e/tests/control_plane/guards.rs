//! Who may write Railhead's own records, and that Kubernetes' housekeeping still works on them.

use anyhow::{Context, Result};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{Identity, SYSTEM, contains, expect_refusal};
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// A service account with a role in a namespace.
pub(crate) fn tenant(world: &World, namespace: &str, role: &str) -> Result<Identity> {
    let cluster = &world.cluster;
    cluster.ok(&["create", "serviceaccount", "tenant", "--namespace", namespace])?;
    let account = format!("{namespace}:tenant");
    cluster.ok(&[
        "create",
        "rolebinding",
        "tenant",
        "--namespace",
        namespace,
        role,
        "--serviceaccount",
        &account,
    ])?;
    cluster.service_account(namespace, "tenant", None)
}

fn slice(namespace: &str) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "NetworkSlice",
        "metadata": {"name": "forged-00000000", "namespace": namespace},
        "spec": {
            "network": {"name": "forged", "uid": "00000000-0000-4000-8000-000000000000"},
            "fabric": {"name": "any", "uid": "00000000-0000-4000-8000-000000000000", "mtu": 9000, "linkType": "RoCE", "softRoCE": "Never"},
            "pods": 1, "base": 0, "capacity": 1, "ledgerSequence": 1,
            "qos": {"className": "any", "dscp": 26, "priority": 3, "guaranteed": "1G", "trust": false, "spoofCheck": true},
            "rails": [{"id": 0, "name": "rail0", "vlan": 1000, "prefixes": [{"prefix": "10.0.0.0/32", "pool": "10.0.0.0/16"}]}],
        },
    })
}

pub(crate) fn a_tenant_with_every_right_in_its_namespace_cannot_write_records(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "tenant-fabric";
    let namespace = cluster.namespace("tenant")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let slice_name = reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::add(cluster, "tenant-node", fabric)?;
    let attachment = node.attach(cluster, &namespace, &slice_name, 0)?;
    cluster.ok(&[
        "create",
        "role",
        "everything",
        "--namespace",
        &namespace,
        "--verb=*",
        "--resource=*.railhead.dev",
    ])?;
    let tenant = tenant(world, &namespace, "--role=everything")?;
    let words = ["written by Railhead only", "edit its TrainingNetwork"];
    cluster.refused(&tenant, &slice(&namespace), &words)?;
    cluster.refused(
        &tenant,
        &samples::attachment(&namespace, &slice_name, 1, "tenant-node"),
        &words,
    )?;
    let try_to = |arguments: &[&str]| cluster.kubectl(&tenant, &[arguments, &["--namespace", &namespace]].concat());
    expect_refusal(&try_to(&["delete", "networkslice", &slice_name])?, &words)?;
    expect_refusal(&try_to(&["delete", "networkattachment", &attachment])?, &words)?;
    let unlock = r#"{"metadata": {"finalizers": null}}"#;
    expect_refusal(
        &try_to(&[
            "patch",
            "networkslice",
            &slice_name,
            "--type",
            "merge",
            "--patch",
            unlock,
        ])?,
        &words,
    )?;
    let forge = r#"{"status": {"attached": 7}}"#;
    let by_status = [
        "patch",
        "networkslice",
        &slice_name,
        "--subresource",
        "status",
        "--type",
        "merge",
        "--patch",
        forge,
    ];
    expect_refusal(&try_to(&by_status)?, &words)?;
    cluster
        .kubectl(
            &node.agent,
            &["delete", "networkattachment", &attachment, "--namespace", &namespace],
        )?
        .ok()?;
    Ok(())
}

pub(crate) fn a_tenant_with_the_edit_role_may_make_networks(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("editor")?;
    let tenant = tenant(world, &namespace, "--clusterrole=edit")?;
    // Roles are aggregated by a controller, a little after the install.
    eventually("the edit role covers networks", || {
        cluster
            .feed(
                &tenant,
                &["apply", "--filename", "-"],
                &[samples::network(&namespace, "llama", "nowhere", 2)],
            )?
            .ok()
    })?;
    cluster
        .kubectl(&tenant, &["get", "tnet,nslice,natt", "--namespace", &namespace])?
        .ok()?;
    cluster.kubectl(&tenant, &["get", "fab,qosc"])?.ok()?;
    cluster
        .kubectl(&tenant, &["delete", "tnet", "llama", "--namespace", &namespace])?
        .ok()?;
    let output = cluster.feed(&tenant, &["create", "--filename", "-"], &[slice(&namespace)])?;
    expect_refusal(&output, &["forbidden"])
}

pub(crate) fn not_even_the_administrator_writes_the_ledger(world: &World) -> Result<()> {
    let ledger = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "forged"},
        "spec": {"version": 1, "sequence": 1},
    });
    let words = ["written by Railhead only", "guards.breakGlassGroups"];
    world.cluster.refused(&world.cluster.admin(), &ledger, &words)
}

pub(crate) fn a_group_named_for_emergencies_may_write_records_after_an_upgrade(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    crate::helm_release(cluster, "upgrade", &["--set", "guards.breakGlassGroups={repair}"])?;
    let ledger = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "repaired"},
        "spec": {"version": 1, "sequence": 1},
    });
    let create = |groups: &[&str]| {
        let arguments = [
            &["create", "--dry-run=server", "--filename", "-", "--as", "somebody"],
            groups,
        ]
        .concat();
        cluster.feed(&cluster.admin(), &arguments, std::slice::from_ref(&ledger))
    };
    // The group opens the policy; rights it needs like everybody.
    let member = ["--as-group", "system:masters", "--as-group", "repair"];
    eventually("the group may write", || create(&member)?.ok())?;
    expect_refusal(&create(&member[..2])?, &["written by Railhead only"])?;
    crate::helm_release(cluster, "upgrade", &[])?;
    eventually("the group may write no more", || {
        expect_refusal(&create(&member)?, &["written by Railhead only"])
    })
}

/// A fabric with two nodes, and the agents of both.
fn two_nodes(world: &World, fabric: &str) -> Result<(SimulatedNode, SimulatedNode)> {
    world
        .cluster
        .create(&world.cluster.admin(), &[samples::fabric(fabric)])?;
    let nodes = [format!("{fabric}-1"), format!("{fabric}-2")];
    let mine = SimulatedNode::join(&world.cluster, &nodes[0], fabric, &["100G", "100G"])?;
    let other = SimulatedNode::join(&world.cluster, &nodes[1], fabric, &["100G", "100G"])?;
    Ok((mine, other))
}

pub(crate) fn an_agent_takes_indices_for_its_own_node_only(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (mine, other) = two_nodes(world, "confined")?;
    let namespace = cluster.namespace("confined")?;
    let attachment = other.attach(cluster, &namespace, "slice", 0)?;
    let words = ["agent of node confined-1", "belongs to node confined-2"];
    cluster.refused(
        &mine.agent,
        &samples::attachment(&namespace, "slice", 1, &other.name),
        &words,
    )?;
    let try_to = |arguments: &[&str]| cluster.kubectl(&mine.agent, &[arguments, &["--namespace", &namespace]].concat());
    expect_refusal(&try_to(&["delete", "networkattachment", &attachment])?, &words)?;
    let forged = mine.write_status(
        cluster,
        &namespace,
        "NetworkAttachment",
        &attachment,
        &json!({"summary": "0/2"}),
    );
    contains(
        &format!("{:#}", forged.err().context("it reported for another node")?),
        &words,
    )?;
    cluster
        .kubectl(
            &other.agent,
            &["delete", "networkattachment", &attachment, "--namespace", &namespace],
        )?
        .ok()?;
    Ok(())
}

pub(crate) fn an_agent_takes_an_index_under_its_own_name_only(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let node = SimulatedNode::add(cluster, "named-node", "named")?;
    let namespace = cluster.namespace("named")?;
    let mut second = samples::attachment(&namespace, "slice", 0, &node.name);
    second["metadata"]["name"] = json!("slice-1");
    let words = ["takes index 0 of slice slice", "must be named slice-0"];
    cluster.refused(&node.agent, &second, &words)
}

pub(crate) fn an_agent_reports_its_own_node_only(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (mine, other) = two_nodes(world, "reporting")?;
    let forge = json!({"summary": {"rails": "0/2", "vfs": "0/0"}});
    let foreign = mine.write_status(cluster, "default", "NodeNetwork", &other.name, &forge);
    let message = format!("{:#}", foreign.err().context("it reported another node")?);
    contains(&message, &["agent of node reporting-1", "not reporting-2"])?;
    mine.write_status(cluster, "default", "NodeNetwork", &mine.name, &forge)?;
    // Roles refuse this before the policy is asked.
    let patch = [
        "patch",
        "nodenetwork",
        &mine.name,
        "--type",
        "merge",
        "--patch",
        r#"{"spec": {"mtu": 1500}}"#,
    ];
    expect_refusal(&cluster.kubectl(&mine.agent, &patch)?, &["forbidden"])
}

pub(crate) fn an_agent_publishes_its_own_devices_only(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (mine, other) = two_nodes(world, "publishing")?;
    let slice = |name: &str, node: &str, driver: &str| {
        json!({
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": name},
            "spec": {"driver": driver, "nodeName": node, "pool": {"name": node, "generation": 2, "resourceSliceCount": 1}, "devices": []},
        })
    };
    let words = ["agent of node publishing-1", "on its own node only"];
    cluster.refused(&mine.agent, &slice("foreign-node", &other.name, "railhead.dev"), &words)?;
    cluster.refused(
        &mine.agent,
        &slice("foreign-driver", &mine.name, "gpu.example.com"),
        &words,
    )?;
    let delete = cluster.kubectl(&mine.agent, &["delete", "resourceslice", "railhead-publishing-2"])?;
    expect_refusal(&delete, &words)?;
    cluster
        .kubectl(&mine.agent, &["delete", "resourceslice", "railhead-publishing-1"])?
        .ok()?;
    Ok(())
}

pub(crate) fn a_token_without_a_node_writes_nothing(world: &World) -> Result<()> {
    let by_hand = world.cluster.service_account(SYSTEM, "railhead-agent", None)?;
    let attachment = samples::attachment("default", "by-hand", 0, "any");
    world
        .cluster
        .refused(&by_hand, &attachment, &["token of the agent says no node"])
}

pub(crate) fn the_garbage_collector_still_collects(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("garbage")?;
    let node = SimulatedNode::add(cluster, "garbage-node", "garbage")?;
    cluster.ok(&["create", "configmap", "owner", "--namespace", &namespace])?;
    let owner = cluster.get(&namespace, "configmap", "owner")?;
    let mut attachment = samples::attachment(&namespace, "garbage", 0, &node.name);
    attachment["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}]);
    cluster.create(&node.agent, &[attachment])?;
    // Foreground deletion lets the collector work on the owned object's metadata as well.
    cluster.ok(&[
        "delete",
        "configmap",
        "owner",
        "--namespace",
        &namespace,
        "--cascade=foreground",
        "--wait=false",
    ])?;
    cluster.gone(&namespace, "networkattachment", "garbage-0")
}

/// A network with an attachment as an agent makes it, and the names of its slice and of the attachment.
fn held(world: &World, node: &SimulatedNode, namespace: &str, fabric: &str) -> Result<(String, String)> {
    let cluster = &world.cluster;
    cluster.create(&cluster.admin(), &[samples::network(namespace, "llama", fabric, 2)])?;
    let slice = reserved(world, namespace, "llama")?;
    let mut attachment = samples::attachment(namespace, &slice, 0, &node.name);
    attachment["metadata"]["finalizers"] = json!(["railhead.dev/unwired"]);
    cluster.create(&node.agent, &[attachment])?;
    let name = format!("{slice}-0");
    Ok((slice, name))
}

/// Its node may still run the pod: nobody else gets VLAN and addresses until it has unwired it.
pub(crate) fn a_namespace_that_is_deleted_waits_for_the_node_that_runs_its_pod(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "ending";
    let namespace = cluster.namespace("ending")?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let node = SimulatedNode::add(cluster, "ending-node", fabric)?;
    let (slice, attachment) = held(world, &node, &namespace, fabric)?;
    cluster.ok(&["delete", "namespace", &namespace, "--wait=false"])?;
    let network = (&*namespace, "tnet", "llama");
    let message = cluster.condition(network, "Ready", "False", "DeletingWaitingForPods")?;
    contains(&message, &["pod-0"])?;
    eventually("the namespace says what it waits for", || {
        let namespace = cluster.get("default", "namespace", &namespace)?;
        contains(
            &namespace["status"]["conditions"].to_string(),
            &["railhead.dev/unwired"],
        )
    })?;
    cluster.get(&namespace, "networkslice", &slice)?;
    let ledger = cluster.get("default", "fabricledger", fabric)?;
    let entries = ledger["spec"]["entries"].as_array().context("no entries")?;
    if entries.len() != 1 {
        anyhow::bail!("the node has not unwired the pod, and the ledger holds {entries:?}");
    }
    // The node has.
    let unwired = r#"{"metadata": {"finalizers": null}}"#;
    let patch = ["patch", "networkattachment", &attachment, "--namespace", &namespace];
    let merge = ["--type", "merge", "--patch", unwired];
    cluster.kubectl(&node.agent, &[&patch[..], &merge].concat())?.ok()?;
    cluster.gone("default", "namespace", &namespace)?;
    crate::networks::ledger_is_empty(world, fabric)
}

/// Only then nobody can say that the pod is unwired, and the administrator has said that it does not run.
pub(crate) fn what_a_node_held_is_free_when_the_node_is_gone_or_out_of_service(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "lost-nodes";
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let gone = SimulatedNode::add(cluster, "lost-node-1", fabric)?;
    let out = SimulatedNode::add(cluster, "lost-node-2", fabric)?;
    let silent = SimulatedNode::add(cluster, "lost-node-3", fabric)?;
    let mut held_by = Vec::new();
    for node in [&gone, &out, &silent] {
        let namespace = cluster.namespace("lost")?;
        let (_, attachment) = held(world, node, &namespace, fabric)?;
        held_by.push((namespace, attachment));
    }
    cluster.ok(&["delete", "node", &gone.name])?;
    let key = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
    cluster.ok(&["taint", "node", &out.name, key])?;
    cluster.ok(&[
        "taint",
        "node",
        &silent.name,
        "node.kubernetes.io/unreachable:NoExecute",
    ])?;
    for (namespace, attachment) in &held_by[..2] {
        cluster.gone(namespace, "networkattachment", attachment)?;
    }
    let (namespace, attachment) = &held_by[2];
    let left = cluster.get(namespace, "networkattachment", attachment)?;
    if !left["metadata"]["deletionTimestamp"].is_null() {
        anyhow::bail!("a node that only does not answer lost {left}");
    }
    // Nothing stays for the tests of teardown.
    cluster.ok(&["delete", "node", &silent.name])?;
    cluster.gone(namespace, "networkattachment", attachment)
}
