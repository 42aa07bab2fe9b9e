//! `make scale`: the operator beside a real API server at the size of a large cluster, each figure beside its limit.
//!
//! Nodes are objects. What kubelets, agents, the scheduler and Kubernetes' controllers would write about them is written here, in
//! their names and of the size that theirs has; scheduler and controllers themselves are stopped, so that what is measured is the
//! operator and nobody else.

mod api;
mod failover;
mod fill;
mod floor;
mod operator;
mod pending;
mod planning;
mod plugin;
mod rate;
mod reserved;
mod rest;
mod shapes;
mod storm;
mod verdict;
mod writes;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::{Parser, value_parser};
use nix::sys::signal::{Signal, kill};
use railhead_e2e::{
    cluster::eventually,
    lab::{
        Lab,
        cache::Cache,
        prepare::prepare,
        progress::{say, step},
    },
};

use self::{api::Server, operator::Installed, reserved::Reserved, storm::Size, verdict::Verdict};

/// Namespace of the Helm release.
const SYSTEM: &str = "railhead-system";
/// Networks that come at once, and those that wait for room.
const AT_ONCE: usize = 1000;

/// Measures the operator in a large cluster, and fails where a figure is above its limit. Starts a control plane of its own.
#[derive(Parser)]
struct Arguments {
    /// Nodes, with eight ports each.
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u32).range(1..=20_000))]
    nodes: u32,
    /// Attached pods.
    #[arg(long, default_value_t = 16_384, value_parser = value_parser!(u32).range(1..=100_000))]
    pods: u32,
    /// Networks that hold them. Three times as many come later.
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=1000))]
    networks: u32,
    /// How long nothing but heartbeats happens.
    #[arg(long, default_value_t = 300)]
    rest_seconds: u64,
    /// How long changes come as fast as they can.
    #[arg(long, default_value_t = 120)]
    storm_seconds: u64,
    /// How long pods wait for room.
    #[arg(long, default_value_t = 300)]
    pending_seconds: u64,
    /// An operator that is built already. Default: it is built for release.
    #[arg(long)]
    operator: Option<PathBuf>,
    /// Name of the control plane's lab.
    #[arg(long, default_value = "scale")]
    lab: String,
    /// Measure the planner alone, which needs no control plane.
    #[arg(long)]
    planning: bool,
    /// Leave the control plane running.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    if arguments.planning {
        let mut verdict = Verdict::default();
        planning::measure(&mut verdict)?;
        return Ok(verdict.end());
    }
    prepare(&Cache::open()?, None)?;
    let (name, keep) = (arguments.lab.clone(), arguments.keep);
    Lab::down(&name)?;
    let lab = Lab::up(&name, 0)?;
    // One thread enters the lab's network, and with it every thread that it makes. This one stays outside, to end the lab later.
    let inside = thread::spawn(move || {
        lab.enter_netns()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        step("installing the chart", || install(&lab))?;
        let installed = Installed::new(&lab, arguments.operator.as_deref())?;
        let plugin = plugin::build()?;
        stop_controllers(&lab)?;
        runtime.block_on(measure(&arguments, &lab, (&installed, &plugin)))
    });
    let verdict = inside
        .join()
        .map_err(|_| anyhow!("the thread that measures panicked"))?;
    if keep {
        say(format!("left running: lab --name {name} kubectl get tnet -A"));
    } else {
        Lab::down(&name)?;
    }
    Ok(verdict?.end())
}

/// The images do not exist: one replica that waits for a node for ever is enough.
fn install(lab: &Lab) -> Result<()> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/railhead");
    let values = "image.repository=railhead,image.tag=test,operator.replicas=1,operator.nodeSelector.nowhere=yes";
    let install = [
        "install",
        "railhead",
        chart,
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--set",
        values,
    ];
    lab.helm(&install)?.ok()?;
    eventually("the operator's account is there", || {
        lab.kubectl(&["get", "serviceaccount", "railhead-operator", "--namespace", SYSTEM])?
            .ok()
    })
    .map(drop)
}

/// Ends scheduler and controllers.
fn stop_controllers(lab: &Lab) -> Result<()> {
    for pid in lab.namespace().processes()? {
        // The kernel keeps 15 characters of a program's name.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if ["kube-scheduler", "kube-controller"].contains(&name.trim()) {
            kill(pid, Signal::SIGTERM).with_context(|| format!("cannot end {}", name.trim()))?;
        }
    }
    Ok(())
}

async fn measure(arguments: &Arguments, lab: &Lab, (installed, plugin): (&Installed, &Path)) -> Result<Verdict> {
    let server = &Server::connect(&lab.kubeconfig()).await?;
    let verdict = &mut Verdict::default();
    let size = Size {
        nodes: usize::try_from(arguments.nodes)?,
        networks: usize::try_from(arguments.networks)?,
        pods: usize::try_from(arguments.pods)?,
    };
    let note = |verdict: &mut Verdict, what: &str, result: Result<()>| {
        if let Err(error) = result {
            verdict.failed(what, &error);
        }
    };
    let result = planning::measure(verdict);
    note(verdict, "planning", result);
    fill::nodes(server, size.nodes).await?;
    fill::fabric(server).await?;
    let alone: Vec<_> = rate::more("alone", size.networks);
    fill::namespaces(server, size.networks).await?;
    let floor = writes::measure(server, &alone).await?;
    verdict.note(format!(
        "floor: the same writes of {} networks by a client that does nothing else: {floor:.1} s",
        size.networks
    ));
    let mut operator = installed.start("operator-a").await?;
    operator::led(server, "operator-a").await?;
    fill::agents(server, size.nodes).await?;
    fill::namespaces(server, size.networks.max(3 * AT_ONCE)).await?;
    let reserved = &Reserved::watch(server);
    let places: Vec<_> = (0..size.networks)
        .map(|network| (fill::place(network), fill::size(network, size.networks, size.pods)))
        .collect();
    let first = rate::measure(verdict, server, &mut operator, reserved, (&places, floor), "first").await?;
    step_memory(verdict, &mut operator, "with nodes and networks");
    revive(installed, &mut operator).await?;
    fill::pods(server, size.nodes, size.networks, size.pods).await?;
    step_memory(verdict, &mut operator, "all attached");
    revive(installed, &mut operator).await?;
    let beats = tokio::spawn(rest::heartbeats(server.clone(), size.nodes));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let rest = Duration::from_secs(arguments.rest_seconds);
    let result = rest::measure(verdict, server, &mut operator, rest).await;
    note(verdict, "rest", result);
    revive(installed, &mut operator).await?;
    let result = tokio::task::block_in_place(|| plugin::measure(verdict, lab, plugin));
    note(verdict, "kubectl railhead", result);
    let storm = Duration::from_secs(arguments.storm_seconds);
    let result = storm::measure(verdict, server, &mut operator, reserved, size, storm).await;
    note(verdict, "changes", result);
    step_memory(verdict, &mut operator, "after the changes");
    revive(installed, &mut operator).await?;
    let pending = Duration::from_secs(arguments.pending_seconds);
    let result = pending::measure(verdict, server, reserved, (size.nodes, size.networks), pending).await;
    note(verdict, "pending pods", result);
    beats.abort();
    revive(installed, &mut operator).await?;
    let mut operator = match failover::measure(verdict, server, installed, reserved, operator).await {
        Ok(leader) => leader,
        Err(error) => {
            verdict.failed("failover", &error);
            installed.start("operator-d").await?
        }
    };
    let more = rate::more("more", 2 * size.networks);
    let result = rate::networks(server, reserved, &more).await.map(drop);
    note(verdict, "networks up to three times as many", result);
    let last = rate::more("last", size.networks);
    match rate::measure(
        verdict,
        server,
        &mut operator,
        reserved,
        (&last, floor),
        "three times as many held",
    )
    .await
    {
        Ok(took) => {
            verdict.note(format!(
                "{:.2} times as long as the first ones",
                took.networks / first.networks
            ));
            verdict.at_most(
                "time of these to that of the first ones, each in bare writes of its moment",
                took.in_bare_writes() / first.in_bare_writes(),
                1.25,
                "times",
            );
        }
        Err(error) => verdict.failed("networks with three times as many held", &error),
    }
    operator.runs()?;
    let (now, _) = operator.resident()?;
    verdict.note(format!(
        "resident memory of {}, with four times as many networks: {now:.2} MB",
        operator.name
    ));
    Ok(std::mem::take(verdict))
}

/// Starts another one where this one has ended, as a kubelet would. What was measured of it is above its limit by then.
async fn revive(installed: &Installed, operator: &mut operator::Operator) -> Result<()> {
    if let Err(error) = operator.runs() {
        say(format!("{error:#}; starting another one"));
        *operator = installed.start(&format!("{}x", operator.name)).await?;
    }
    Ok(())
}

fn step_memory(verdict: &mut Verdict, operator: &mut operator::Operator, when: &str) {
    if let Err(error) = rest::memory(verdict, operator, when) {
        verdict.failed("memory", &error);
    }
}
