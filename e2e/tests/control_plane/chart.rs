//! What Helm makes of the chart's values.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::World;
use crate::cluster::contains;

/// The repository's own folder.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The chart's folder.
pub(crate) fn folder() -> PathBuf {
    repository().join("charts/railhead")
}

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
