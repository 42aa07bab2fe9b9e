//! What Helm makes of the chart's values.

use std::{fs, thread};

use anyhow::{Result, anyhow, bail};
use serde_json::json;

use crate::World;
use crate::cluster::contains;
use crate::samples;
use crate::simulated_node::SimulatedNode;

pub(crate) use railhead_e2e::control_plane::{chart as folder, repository};

fn template(world: &World, set: &[&str]) -> Result<railhead_e2e::lab::run::Output> {
    let chart = folder().display().to_string();
    let mut arguments = vec!["template", "railhead", &chart, "--namespace", "railhead-system"];
    for value in set {
        arguments.extend(["--set", value]);
    }
    world.cluster.lab.helm(&arguments)
}

pub(crate) fn an_install_without_an_image_repository_says_what_to_set(world: &World) -> Result<()> {
    let output = template(world, &[])?;
    if output.success() {
        bail!("without image.repository the chart was rendered");
    }
    contains(
        &output.stderr,
        &["image.repository is required", "--set image.repository="],
    )
}

pub(crate) fn an_unknown_value_is_refused(world: &World) -> Result<()> {
    let output = template(world, &["image.repository=railhead", "agent.nodeselector.gpu=h200"])?;
    if output.success() {
        bail!("a misspelt value was accepted");
    }
    contains(&output.stderr, &["/agent", "nodeselector"])
}

/// The runtime's folders may be others than the usual: the mount and what the agent is told move together.
pub(crate) fn the_runtimes_folders_are_values(world: &World) -> Result<()> {
    let rendered = template(world, &["image.repository=railhead"])?.ok()?.stdout;
    contains(
        &rendered,
        &[
            "{name: cdi, mountPath: /var/run/cdi}",
            "hostPath: {path: /var/run/cdi, type: DirectoryOrCreate}",
            "{name: cni-binaries, mountPath: /opt/cni}",
            "{name: cni-config, mountPath: /etc/cni/net.d}",
        ],
    )?;
    // Both behind one link that moves: one mount, since a path may be mounted once.
    let snap = [
        "image.repository=railhead",
        "agent.paths.cniBinaries=/var/snap/microk8s/current/opt/cni/bin",
        "agent.paths.cniBinariesMount=/var/snap/microk8s",
        "agent.paths.cniConfig=/var/snap/microk8s/current/args/cni-network",
        "agent.paths.cniConfigMount=/var/snap/microk8s",
    ];
    let rendered = template(world, &snap)?.ok()?.stdout;
    contains(&rendered, &["{name: cni-binaries, mountPath: /var/snap/microk8s}"])?;
    if rendered.contains("name: cni-config,") {
        bail!("one path is mounted twice");
    }
    let values = [
        "image.repository=railhead",
        "agent.paths.cdi=/var/cdi/dynamic",
        "agent.paths.cniBinaries=/var/lib/k3s/data/current/bin",
        "agent.paths.cniBinariesMount=/var/lib/k3s/data",
    ];
    contains(
        &template(world, &values)?.ok()?.stdout,
        &[
            "{name: cdi, mountPath: /var/cdi/dynamic}",
            "value: /var/cdi/dynamic",
            "{name: cni-binaries, mountPath: /var/lib/k3s/data}",
            "value: /var/lib/k3s/data/current/bin",
        ],
    )?;
    let elsewhere = ["image.repository=railhead", "agent.paths.cniBinariesMount=/usr/lib"];
    let output = template(world, &elsewhere)?;
    if output.success() {
        bail!("a mount that does not hold the folder of binaries was accepted");
    }
    contains(&output.stderr, &["/usr/lib", "/opt/cni/bin"])
}

pub(crate) fn a_class_can_be_changed_added_and_left_out(world: &World) -> Result<()> {
    let values = [
        "image.repository=railhead",
        "qosClasses.realtime=null",
        "qosClasses.production.bandwidth.guaranteed=25G",
        "qosClasses.lab.dscp=26,qosClasses.lab.priority=3,qosClasses.lab.bandwidth.guaranteed=200M",
    ];
    let rendered = template(world, &values)?.ok()?.stdout;
    contains(&rendered, &["guaranteed: 25G", "guaranteed: 200M", "name: lab"])?;
    if rendered.contains("name: realtime") {
        bail!("the class that was set to null is still there");
    }
    let arguments = [
        "get",
        "qosc",
        "--output",
        "jsonpath={range .items[*]}{.metadata.name}={.spec.bandwidth.guaranteed} {end}",
    ];
    let installed = world.cluster.ok(&arguments)?;
    contains(
        &installed,
        &[
            "development=1G",
            "production=10G",
            "large-scale=40G",
            "realtime=100G",
            "storage=",
        ],
    )
}

/// The quickstart as a chart of somebody's own: Helm's `--wait` asks every object whether it is ready, as kstatus and GitOps tools do.
pub(crate) fn helm_waits_for_the_quickstart_and_returns(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "helm-wait";
    let namespace = cluster.namespace("helm-wait")?;
    let chart = tempfile::tempdir()?;
    fs::write(
        chart.path().join("Chart.yaml"),
        "apiVersion: v2\nname: quickstart\nversion: 0.1.0\n",
    )?;
    let templates = chart.path().join("templates");
    fs::create_dir(&templates)?;
    // A Fabric, a label and addresses of the test's own, so that no other test's Fabric is in the way; the rest is as it is in the example.
    let [first, second] = samples::pools(fabric);
    let ours = [
        ("10.160.0.0/16", first),
        ("10.161.0.0/16", second),
        ("  name: backend", format!("  name: {fabric}")),
        (
            "railhead.dev/fabric: backend",
            format!("test.railhead.dev/fabric: {fabric}"),
        ),
        ("default: true", "default: false".to_owned()),
        ("pods: 2", format!("pods: 2\n  fabricName: {fabric}")),
    ];
    for file in ["fabric.yaml", "network.yaml", "job.yaml"] {
        let mut text = fs::read_to_string(repository().join("examples/quickstart").join(file))?;
        for (theirs, ours) in &ours {
            text = text.replace(theirs, ours);
        }
        fs::write(templates.join(file), text)?;
    }
    let chart = chart.path().display().to_string();
    let install = [
        "install",
        "quickstart",
        &chart,
        "--namespace",
        &namespace,
        "--wait",
        "--timeout",
        "2m",
    ];
    thread::scope(|scope| {
        let helm = scope.spawn(|| -> Result<()> {
            cluster.lab.helm(&install)?.ok()?;
            Ok(())
        });
        // Its ports come while Helm waits for the Fabric.
        SimulatedNode::join(cluster, "helm-wait-node", fabric, &["100G", "100G"])?;
        helm.join().map_err(|_| anyhow!("Helm's thread panicked"))?
    })?;
    // Helm takes an object without a status for ready; these have one from the beginning.
    cluster.message((&namespace, "tnet", "llama"), "Ready", "True", "Usable")?;
    cluster.message(("default", "fabric", fabric), "Ready", "True", "AllReady")?;
    cluster
        .lab
        .helm(&["uninstall", "quickstart", "--namespace", &namespace])?
        .ok()?;
    Ok(())
}

/// Without this, `helm install` makes a DaemonSet whose pods the API server refuses, and says nothing of it.
pub(crate) fn a_namespace_that_would_refuse_the_pods_is_told_before_anything_is_made(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("strict")?;
    let chart = folder().display().to_string();
    let render = |more: &[&str]| {
        let known = [
            "template",
            "railhead",
            &chart,
            "--namespace",
            &namespace,
            "--dry-run=server",
        ];
        let set = ["--set", "image.repository=railhead"];
        cluster.lab.helm(&[&known[..], &set, more].concat())
    };
    let refused = |words: &[&str]| -> Result<()> {
        let output = render(&[])?;
        if output.success() {
            bail!("the chart was rendered for a namespace that refuses its pods");
        }
        contains(&output.stderr, words)
    };
    let label = |level: &str| {
        let level = format!("pod-security.kubernetes.io/enforce={level}");
        cluster.ok(&["label", "namespace", &namespace, "--overwrite", &level])
    };
    // Helm looks at the namespace first, and then finds that the release is installed elsewhere.
    let admitted = |more: &[&str]| contains(&render(more)?.stderr, &["cannot be imported into the current release"]);
    contains(
        &template(world, &["image.repository=railhead"])?.ok()?.stdout,
        &[
            "name: railhead-priority",
            r#"["system-cluster-critical","system-node-critical"]"#,
        ],
    )?;
    admitted(&[])?;
    label("baseline")?;
    refused(&["enforces the pod security level baseline", "kubectl label namespace"])?;
    admitted(&["--set", "admission.checkPodSecurity=false"])?;
    label("privileged")?;
    admitted(&[])?;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-critical-pods", "namespace": namespace},
        "spec": {
            "hard": {"pods": "0"},
            "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]},
        },
    });
    cluster.create(&cluster.admin(), &[quota])?;
    refused(&["no-critical-pods", "pods of priority class system-node-critical"])
}
