//! From a TrainingNetwork to its reservation and back.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::json;

use crate::World;
use crate::cluster::contains;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Waits until a network is reserved, and gives the name of its slice.
pub(crate) fn reserved(world: &World, namespace: &str, network: &str) -> Result<String> {
    world
        .cluster
        .condition((namespace, "tnet", network), "Reserved", "True", "Reserved")?;
    let network = world.cluster.get(namespace, "tnet", network)?;
    Ok(network["status"]["sliceName"]
        .as_str()
        .context("a reserved network without a slice")?
        .to_owned())
}

/// Waits until a fabric's ledger holds nothing.
pub(crate) fn ledger_is_empty(world: &World, fabric: &str) -> Result<()> {
    eventually(&format!("the ledger of {fabric} is empty"), || {
        let ledger = world.cluster.get("default", "fabricledger", fabric)?;
        let entries = &ledger["spec"]["entries"];
        if entries.as_array().is_none_or(Vec::is_empty) {
            Ok(())
        } else {
            bail!("it holds {entries}")
        }
    })
}

pub(crate) fn a_network_gets_one_block_on_every_rail(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "blocks";
    let namespace = cluster.namespace("blocks")?;
    let networks = [
        samples::network(&namespace, "llama", fabric, 3),
        samples::network(&namespace, "qwen", fabric, 16),
    ];
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    cluster.create(&cluster.admin(), &networks)?;
    for (name, pods) in [("llama", 4), ("qwen", 16)] {
        let slice = cluster.get(&namespace, "networkslice", &reserved(world, &namespace, name)?)?;
        let spec = &slice["spec"];
        if spec["capacity"] != pods {
            bail!("{name} got {} slots instead of {pods}", spec["capacity"]);
        }
        let base = u32::try_from(spec["base"].as_u64().context("no base")?)?;
        for rail in 0..2 {
            let first = samples::address(fabric, rail, base)?;
            let prefix = spec["rails"][rail]["prefixes"][0]["prefix"]
                .as_str()
                .unwrap_or_default();
            if prefix != format!("{first}/{}", 32 - u32::from(pods == 4) * 2 - u32::from(pods == 16) * 4) {
                bail!("rail {rail} of {name} has {prefix}, its block begins at slot {base}");
            }
        }
        if spec["rails"][0]["vlan"] != spec["rails"][1]["vlan"] {
            bail!("{name} has two VLANs: {spec}");
        }
    }
    let line = cluster.ok(&[
        "get",
        "tnet",
        "llama",
        "--namespace",
        &namespace,
        "--output",
        "wide",
        "--no-headers",
    ])?;
    contains(&line, &["llama", "0/3", "production", "True", "Usable", "10."])?;
    let template = cluster.get(&namespace, "resourceclaimtemplate", "llama-rails")?;
    let request = &template["spec"]["spec"]["devices"]["requests"][0];
    if request["name"] != "rail0" || request["exactly"]["capacity"]["requests"]["bandwidth"] != "10G" {
        bail!("the claim template asks for {request}");
    }
    Ok(())
}

pub(crate) fn a_network_grows_in_its_block_and_one_that_cannot_goes_on_and_says_why(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "growing";
    let namespace = cluster.namespace("growing")?;
    cluster.create(&admin, &[samples::fabric(fabric)])?;
    cluster.create(
        &admin,
        &[
            samples::network(&namespace, "llama", fabric, 5),
            samples::network(&namespace, "qwen", fabric, 5),
        ],
    )?;
    let grow = |network: &str, pods: u32| {
        let object = (&*namespace, "tnet", network);
        let patch = json!({"spec": {"pods": pods}});
        cluster.patch(&cluster.admin(), object, &patch, &[])?.ok()
    };
    let slice = reserved(world, &namespace, "llama")?;
    let before = cluster.get(&namespace, "networkslice", &slice)?;
    grow("llama", 7)?;
    eventually("the slice has grown", || {
        let mut now = cluster.get(&namespace, "networkslice", &slice)?;
        if now["spec"]["pods"] != 7 {
            bail!("it has {} pods", now["spec"]["pods"])
        }
        now["spec"]["pods"] = json!(5);
        if now["spec"] != before["spec"] {
            bail!("something else changed: {} and {}", before["spec"], now["spec"])
        }
        let network = cluster.get(&namespace, "tnet", "llama")?;
        if network["status"]["summary"]["attached"] != "0/7" {
            bail!("the network says {}", network["status"]["summary"])
        }
        Ok(())
    })?;
    // The last slot of the other network's block becomes a gateway.
    let other = reserved(world, &namespace, "qwen")?;
    let block = cluster.get(&namespace, "networkslice", &other)?;
    let base = u32::try_from(block["spec"]["base"].as_u64().context("no base")?)?;
    let gateway = samples::address(fabric, 1, base + 7)?;
    let mut changed = samples::fabric(fabric);
    changed["spec"]["rails"][1]["pools"][0]["gateway"] = json!(gateway.to_string());
    cluster.feed(&admin, &["apply", "--filename", "-"], &[changed])?.ok()?;
    grow("qwen", 8)?;
    let qwen = (&*namespace, "tnet", "qwen");
    let message = cluster.condition(qwen, "Reserved", "True", "CannotGrow")?;
    contains(
        &message,
        &["stays at 5 pods and cannot have 8", "index 7", "ask for at most 7 pods"],
    )?;
    let now = cluster.get(&namespace, "networkslice", &other)?;
    if now["spec"] != block["spec"] {
        bail!("a slice that cannot grow changed: {}", now["spec"]);
    }
    Ok(())
}

pub(crate) fn a_network_without_a_fabric_gets_the_default_one(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let quickstart = crate::chart::repository().join("examples/quickstart");
    let file = |name: &str| quickstart.join(name).display().to_string();
    let namespace = cluster.namespace("default-fabric")?;
    cluster.ok(&["apply", "--filename", &file("fabric.yaml")])?;
    cluster.ok(&["apply", "--namespace", &namespace, "--filename", &file("network.yaml")])?;
    reserved(world, &namespace, "llama")?;
    let network = cluster.get(&namespace, "tnet", "llama")?;
    let status = &network["status"];
    if status["fabricName"] != "backend" || status["qosClassName"] != "production" {
        bail!("the defaults are fabric backend and class production, it got {status}");
    }
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    cluster.ok(&["delete", "fabric", "backend"])?;
    Ok(())
}

pub(crate) fn a_label_that_names_no_network_is_answered_with_the_nearest_name(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("typo")?;
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "llama", "nowhere", 2)])?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "llama-0", "lama", 0)])?;
    let message = cluster.event(&namespace, "llama-0", "NetworkNotFound")?;
    contains(&message, &["lama", &namespace, "did you mean \"llama\"?"])
}

pub(crate) fn an_index_beyond_the_network_is_told(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("beyond")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric("beyond"),
            samples::network(&namespace, "llama", "beyond", 2),
        ],
    )?;
    reserved(world, &namespace, "llama")?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "llama-5", "llama", 5)])?;
    let message = cluster.event(&namespace, "llama-5", "IndexOutOfRange")?;
    contains(&message, &["5", "llama", "pods"])
}

pub(crate) fn deleting_a_network_gives_everything_back(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "released";
    let namespace = cluster.namespace("released")?;
    let mut sample = samples::fabric(fabric);
    sample["spec"]["vlan"]["range"] = json!({"min": 20, "max": 29});
    cluster.create(
        &cluster.admin(),
        &[sample, samples::network(&namespace, "llama", fabric, 2)],
    )?;
    let slice = reserved(world, &namespace, "llama")?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    cluster.gone(&namespace, "networkslice", &slice)?;
    cluster.gone(&namespace, "resourceclaimtemplate", "llama-rails")?;
    ledger_is_empty(world, fabric)?;
    eventually("the Fabric shows all VLANs free", || {
        let fabric = cluster.get("default", "fabric", fabric)?;
        let free = &fabric["status"]["vlansFree"];
        if *free == 10 {
            Ok(())
        } else {
            bail!("it shows {free} of 10")
        }
    })
}

pub(crate) fn deleting_a_network_under_pods_waits_and_says_so(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "waiting";
    let namespace = cluster.namespace("waiting")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let slice = reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::add(cluster, "waiting-node", fabric)?;
    let attachment = node.attach(cluster, &namespace, &slice, 0)?;
    eventually("the network counts its pod", || {
        contains(
            &cluster.ok(&["get", "tnet", "llama", "--namespace", &namespace, "--no-headers"])?,
            &["1/2"],
        )
    })?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--wait=false"])?;
    let message = cluster.condition(
        (&namespace, "tnet", "llama"),
        "Ready",
        "False",
        "DeletingWaitingForPods",
    )?;
    contains(&message, &["1 pod", "pod-0"])?;
    cluster
        .get(&namespace, "networkslice", &slice)
        .context("the slice of a wired pod is gone")?;
    let delete = ["delete", "networkattachment", &attachment, "--namespace", &namespace];
    cluster.kubectl(&node.agent, &delete)?.ok()?;
    cluster.gone(&namespace, "tnet", "llama")?;
    ledger_is_empty(world, fabric)
}

/// kubelet looks at a pod again when its annotations change, and else only after more than a minute.
pub(crate) fn a_pod_that_waits_for_an_index_is_woken_when_it_is_free(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "freed";
    let namespace = cluster.namespace("freed")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let slice = reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::add(cluster, "freed-node", fabric)?;
    let mut uids = Vec::new();
    for index in 0..2 {
        let attachment = node.attach(cluster, &namespace, &slice, index)?;
        let attachment = cluster.get(&namespace, "networkattachment", &attachment)?;
        uids.push(attachment["metadata"]["uid"].clone());
        let mut pod = samples::pod(&namespace, &format!("next-{index}"), "llama", index);
        pod["spec"]["nodeName"] = json!(node.name);
        cluster.create(&cluster.admin(), &[pod])?;
    }
    let free = format!("{slice}-1");
    let delete = ["delete", "networkattachment", &free, "--namespace", &namespace];
    cluster.kubectl(&node.agent, &delete)?.ok()?;
    let mark = |pod: &str| -> Result<serde_json::Value> {
        let pod = cluster.get(&namespace, "pod", pod)?;
        Ok(pod["metadata"]["annotations"]["railhead.dev/index-free"].clone())
    };
    eventually("the pod that waits for index 1 is woken", || {
        let found = mark("next-1")?;
        if found == uids[1] {
            Ok(())
        } else {
            bail!("its mark is {found}, the attachment was {}", uids[1])
        }
    })?;
    if !mark("next-0")?.is_null() {
        bail!("the pod that waits for index 0 was woken too");
    }
    // Nothing that holds the network stays for the tests of teardown.
    let held = format!("{slice}-0");
    let delete = ["delete", "networkattachment", &held, "--namespace", &namespace];
    cluster.kubectl(&node.agent, &delete)?.ok()?;
    Ok(())
}

/// `kubectl wait`, Helm and GitOps tools wait for a network before its Job is there, and look at it after that has ended.
pub(crate) fn a_network_is_ready_before_its_job_is_applied_and_after_that_ended(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "usable";
    let namespace = cluster.namespace("usable")?;
    let network = samples::network(&namespace, "llama", fabric, 2);
    cluster.create(&cluster.admin(), &[samples::fabric(fabric), network])?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "tnet/llama",
        "--timeout=240s",
        "--namespace",
        &namespace,
    ];
    cluster.ok(&ready)?;
    let llama = (&*namespace, "tnet", "llama");
    cluster.condition(llama, "Attached", "False", "WaitingForPods")?;
    let job = crate::chart::repository().join("examples/quickstart/job.yaml");
    let job = job.display().to_string();
    cluster.ok(&["apply", "--namespace", &namespace, "--filename", &job])?;
    let pods = eventually("the Job has its two pods", || {
        let pods = cluster.list(&namespace, "pods")?;
        if pods.len() == 2 {
            Ok(pods)
        } else {
            bail!("{} pods", pods.len())
        }
    })?;
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
        let ended = json!({"status": {"phase": "Succeeded"}}).to_string();
        let patch = [
            "patch",
            "pod",
            name,
            "--namespace",
            &namespace,
            "--subresource=status",
            "--patch",
            &ended,
        ];
        cluster.ok(&patch)?;
    }
    let complete = [
        "wait",
        "--for=condition=Complete",
        "job/llama",
        "--timeout=240s",
        "--namespace",
        &namespace,
    ];
    cluster.ok(&complete)?;
    cluster.condition(llama, "Attached", "False", "PodsEnded")?;
    cluster.message(llama, "Ready", "True", "Usable")?;
    cluster.ok(&ready)?;
    Ok(())
}

/// Networks that name no class get none then, so this one runs alone.
pub(crate) fn two_classes_that_want_to_be_the_default_say_so_as_long_as_there_are_two(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let production = ("default", "qosclass", "production");
    cluster.condition(production, "Default", "True", "Default")?;
    cluster.create(
        &cluster.admin(),
        &[json!({
            "apiVersion": "railhead.dev/v1alpha1",
            "kind": "QosClass",
            "metadata": {"name": "rival"},
            "spec": {"default": true, "dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "1G"}},
        })],
    )?;
    for name in ["production", "rival"] {
        let message = cluster.condition(("default", "qosclass", name), "Default", "False", "DefaultConflict")?;
        contains(&message, &["production, rival", "leave one default"])?;
    }
    cluster.ok(&["delete", "qosclass", "rival"])?;
    cluster.condition(production, "Default", "True", "Default")?;
    Ok(())
}

/// Pods that came before their network, or from something whose count no policy sees.
pub(crate) fn pods_for_which_no_index_is_left_are_named_and_told(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "oversubscribed";
    let namespace = cluster.namespace("oversubscribed")?;
    let network = samples::network(&namespace, "llama", fabric, 1);
    cluster.create(&cluster.admin(), &[samples::fabric(fabric), network])?;
    reserved(world, &namespace, "llama")?;
    let pods: Vec<_> = ["first", "second"]
        .into_iter()
        .map(|name| {
            let mut pod = samples::pod(&namespace, name, "llama", 0);
            pod["metadata"]["labels"] = json!({"railhead.dev/network": "llama"});
            pod["metadata"]["annotations"] = json!({});
            pod
        })
        .collect();
    cluster.create(&cluster.admin(), &pods)?;
    let message = cluster.condition((&namespace, "tnet", "llama"), "Attached", "False", "Oversubscribed")?;
    contains(
        &message,
        &[
            "0/1 attached",
            "no index is left for 1 of its pods",
            "second",
            "pods: 2",
        ],
    )?;
    let note = cluster.event(&namespace, "second", "Oversubscribed")?;
    contains(
        &note,
        &["TrainingNetwork llama has 1 indices", "apply a network with pods: 2"],
    )?;
    if !cluster.events(&namespace, "first", "Oversubscribed")?.is_empty() {
        bail!("the pod that is to have the index was told too");
    }
    cluster.ok(&[
        "delete",
        "pod",
        "second",
        "--namespace",
        &namespace,
        "--grace-period=0",
        "--force",
    ])?;
    cluster.condition((&namespace, "tnet", "llama"), "Attached", "False", "WaitingForPods")?;
    Ok(())
}
