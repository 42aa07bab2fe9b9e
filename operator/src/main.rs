//! Railhead's operator: turns Fabrics, QosClasses and TrainingNetworks into reservations, slices, claim templates and
//! conditions. It holds no privileges on nodes; what happens there is the agent's.

mod changes;
mod class;
mod conditions;
mod contested;
mod controller;
mod fabric;
mod facts;
mod freed;
mod grouped;
mod http;
mod kept;
mod known;
mod leader;
mod lost_nodes;
mod metrics;
mod network;
mod observe;
mod pod;
mod quota;
mod recount;
mod reservations;
mod route;
mod run;
mod schemas;
mod slice;
mod stray;
mod surroundings;
mod teardown;
#[cfg(test)]
mod test_api;
mod torn_down;
mod trim;
mod world;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use railhead_service::LogArgs;

/// The controllers of Railhead.
#[derive(Debug, Parser)]
#[command(name = "railhead-operator", version)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch and reconcile (what happens without a command).
    Run,
    /// Give back what was changed on the nodes, before an uninstall; refused while pods are attached.
    Teardown(teardown::Options),
}

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not a log line: with `teardown` this is what Helm shows to people.
            eprintln!("railhead-operator: {}", railhead_service::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    cli.log.start()?;
    // Two workers: the load is a few small requests a second, and every thread costs memory of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command.unwrap_or(Command::Run) {
            Command::Run => run::run(cli.run).await,
            Command::Teardown(options) => Ok(teardown::teardown(options).await?),
        }
    })
}
