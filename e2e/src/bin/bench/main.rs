//! `make bench`: sizes, and times of Railhead beside what a pod costs without it.
//!
//! Figures of one run may be compared with each other and with nothing else: the lab's processors are emulated.

mod attach;
mod memory;
mod pods;
mod sizes;
mod standin;
mod times;
mod unlabelled;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, value_parser};
use railhead_e2e::{
    cluster::PATIENCE_FLAG,
    installation,
    lab::{
        DEFAULT_NAME, Lab,
        cache::Cache,
        images::build_workspace_images,
        prepare::prepare,
        progress::{say, step},
    },
    limits::{UNWIRE_MS, WIRE_MS},
};

/// Namespace of everything that the benchmark applies.
const NAMESPACE: &str = "railhead-bench";
/// The network of its labelled pods, with all rails.
const NETWORK: &str = "bench";
/// The network of pods with one rail.
const ONE_RAIL: &str = "bench-one";

/// Prints sizes and times, and fails where one is more than is allowed. Uses the lab that is up; otherwise brings one up and takes it down again.
#[derive(Parser)]
struct Arguments {
    /// Only what needs no lab.
    #[arg(long)]
    without_lab: bool,
    /// Only what needs one.
    #[arg(long, conflicts_with = "without_lab")]
    only_lab: bool,
    /// How often a pod is made; the plugins run about twice as often on each node.
    #[arg(long, default_value_t = 7, value_parser = value_parser!(u32).range(1..=99))]
    runs: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let images = build_workspace_images()?;
    let sizes = sizes::measure(&images)?;
    let mut exceeded = Vec::new();
    print!("\nSizes\n{sizes}");
    if !arguments.only_lab {
        on_this_machine(&mut exceeded)?;
    }
    if !arguments.without_lab {
        in_a_lab(arguments.runs, &mut exceeded)?;
    }
    ensure!(
        exceeded.is_empty(),
        "more than is allowed:\n  {}",
        exceeded.join("\n  ")
    );
    Ok(())
}

fn on_this_machine(exceeded: &mut Vec<String>) -> Result<()> {
    let unlabelled = step("ADD without a plan, on this machine", || unlabelled::measure(exceeded))?;
    print!("\nA pod without the label, on this machine (processes started in turn)\n{unlabelled}");
    let standin = step("ADD and DEL on stand-in ports", || standin::measure(exceeded))?;
    print!("{standin}");
    Ok(())
}

/// Attaches to the lab, or brings one up for as long as it takes.
fn in_a_lab(runs: u32, exceeded: &mut Vec<String>) -> Result<()> {
    if let Ok(lab) = Lab::attach() {
        ensure!(lab.node_count() > 0, "the lab `{DEFAULT_NAME}` has no nodes");
        say("the lab is up: measuring what is installed there");
        let installed = lab.helm(&["status", installation::RELEASE, "--namespace", installation::NAMESPACE])?;
        if !installed.success() {
            say("Railhead is not installed there: installing it, and leaving it there");
            installation::install(&lab)?;
            installation::apply_fabric(&lab)?;
        }
        return measure(&lab, runs, exceeded);
    }
    prepare(&Cache::open()?, None)?;
    let measured = installation::start_lab(2, |_| Ok(())).and_then(|(lab, ())| measure(&lab, runs, exceeded));
    let down = step("taking the lab down", || Lab::down(DEFAULT_NAME));
    measured.and(down)
}

fn measure(lab: &Lab, runs: u32, exceeded: &mut Vec<String>) -> Result<()> {
    installation::namespace(lab, NAMESPACE)?;
    let result = measure_in_namespace(lab, runs, exceeded);
    // The namespace takes pods, claims and network with it, whatever happened.
    let removed = step("removing the benchmark's pods and network", || {
        lab.kubectl(&["delete", "namespace", NAMESPACE, PATIENCE_FLAG])?.ok()
    });
    result.and(removed.map(drop))
}

/// Says what it measured as it goes, so that what fails late takes nothing of it away.
fn measure_in_namespace(lab: &Lab, runs: u32, exceeded: &mut Vec<String>) -> Result<()> {
    for (name, pods, rails) in [
        (NETWORK, lab.node_count() * memory::PODS_PER_NODE, ""),
        (ONE_RAIL, lab.node_count(), ", rails: {count: 1}"),
    ] {
        let network = format!(
            "apiVersion: railhead.dev/v1alpha1\nkind: TrainingNetwork\nmetadata: {{name: {name}}}\nspec: {{pods: {pods}{rails}}}\n"
        );
        lab.apply(NAMESPACE, &network)?;
        lab.wait_condition(&["tnet", "-n", NAMESPACE, name], "Reserved", "True")?;
    }
    println!("\nThe lab (emulated processors: only ratios mean anything)");
    let started = step("pods with and without the label, in turn", || pods::measure(lab, runs))?;
    print!("{}", started.report);
    let memory = step("memory while pods come", || memory::measure(lab, exceeded))?;
    print!("\nResident memory\n{memory}");
    let wired = pods::on_each_node(lab)?;
    for (node, pods) in lab.nodes().iter().zip(wired) {
        let attached = step(&format!("the plugins by themselves on {}", node.name()), || {
            attach::measure(node, &pods, 2 * runs + 1, exceeded)
        })?;
        // The pods were made on the first node.
        if node.number() == 1 {
            let (wired, unwired) = (started.prepare + attached.add_work, started.unprepare + attached.del);
            for (what, ms, limit) in [
                ("Prepare and ADD, without the wait for signals", wired, WIRE_MS),
                ("DEL and Unprepare", unwired, UNWIRE_MS),
            ] {
                println!("\n  {what}: {ms:.0} ms; the limit is {limit:.0} ms");
                if ms > limit {
                    exceeded.push(format!("{what}: {ms:.0} ms; {limit:.0} ms is the limit"));
                }
            }
        }
    }
    Ok(())
}
