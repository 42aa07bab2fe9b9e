//! `standin`: benchmark, faults and soak on stand-in ports; and the child that each of their calls is.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, value_parser};
use railhead_standin::{bench, call, claim, faults, floor, node::real_vf, soak};

/// Railhead on network namespaces and veth pairs. Needs root.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Times of ADD and DEL beside those of the same kernel work alone; fails above a limit.
    Bench {
        /// How often each is measured.
        #[arg(long, default_value_t = 60, value_parser = value_parser!(u32).range(5..=10_000))]
        runs: u32,
        /// How often 32 pods start at once.
        #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1000))]
        rounds: u32,
    },
    /// kill -9 behind every change of Prepare, ADD, DEL and Unprepare, then every way on from there; fails unless all ends as it began.
    Faults {
        /// Rails of the pod.
        #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(1..=8))]
        rails: u32,
        /// Real VFs that nobody uses, of the node on which this runs, one of each rail: `<PCI address of the VF>@<of its PF>`.
        /// Each step is tried once then.
        #[arg(long, conflicts_with = "rails")]
        vf: Vec<String>,
    },
    /// Many ADDs and DELs at once with random kills; fails if anything leaks or is given out twice.
    Soak {
        /// How many attachments.
        #[arg(long, default_value_t = 10_000)]
        attachments: u32,
        /// How many at once.
        #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..=256))]
        at_once: u32,
        /// Seed of the random choices; printed, so that a run can be repeated.
        #[arg(long)]
        seed: Option<u64>,
    },
}

fn main() -> ExitCode {
    // The children are measured: nothing is parsed for them.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [call::CHILD] => {
            return match call::child() {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => told(&error),
            };
        }
        [claim::CHILD, verb, pod] => claim::child(verb, pod),
        [bench::FLOOR, verb, netns, rails] => run_floor(verb, Path::new(netns), rails),
        _ => run(&Arguments::parse().task),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(&error),
    }
}

fn told(error: &anyhow::Error) -> ExitCode {
    eprintln!("standin: {error:#}");
    ExitCode::FAILURE
}

fn run_floor(verb: &str, netns: &Path, rails: &str) -> Result<()> {
    let rails: Vec<floor::FloorRail> = serde_json::from_str(rails).context("the rails are no JSON")?;
    match verb {
        "add" => {
            // For whoever wants to tell work from waiting.
            println!("{:.3}", floor::add(netns, &rails)?.as_secs_f64() * 1e3);
            Ok(())
        }
        "del" => floor::del(netns, &rails),
        _ => bail!("the floor knows add and del"),
    }
}

fn run(task: &Task) -> Result<()> {
    let program: PathBuf = std::env::current_exe()?;
    match task {
        Task::Bench { runs, rounds } => bench::run(&program, *runs, *rounds),
        Task::Faults { rails, vf } if vf.is_empty() => faults::run(&program, *rails),
        Task::Faults { vf, .. } => {
            let vfs = vf.iter().zip(0..).map(|(text, rail)| {
                let (vf, pf) = text.split_once('@').context("--vf wants <VF>@<PF>")?;
                real_vf(rail, vf, pf)
            });
            faults::run_on_real_vfs(&program, vfs.collect::<Result<_>>()?)
        }
        Task::Soak {
            attachments,
            at_once,
            seed,
        } => {
            let plan = soak::Plan {
                attachments: *attachments,
                at_once: *at_once,
                seed: *seed,
            };
            soak::run(&program, &plan)
        }
    }
}
