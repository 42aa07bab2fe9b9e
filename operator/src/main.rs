//! Railhead's operator: turns Fabrics, QosClasses and TrainingNetworks into reservations, slices, claim templates and
//! conditions. It holds no privileges on nodes; what happens there is the agent's.

mod changes;
mod class;
mod conditions;
mod controller;
mod fabric;
mod facts;
mod freed;
mod http;
mod leader;
mod metrics;
mod network;
mod observe;
mod pod;
mod reservations;
mod route;
mod run;
mod slice;
mod teardown;
mod torn_down;
mod trim;
mod world;
mod write;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// The controllers of Railhead.
#[derive(Debug, Parser)]
#[command(name = "railhead-operator", version)]
struct Cli {
    /// What is logged, as in `info,railhead_operator=debug`.
    #[arg(long, env = "RAILHEAD_LOG", default_value = "info", global = true)]
    log: String,
    /// How it is written.
    #[arg(long, env = "RAILHEAD_LOG_FORMAT", value_enum, default_value = "json", global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Options,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
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
    let filter = EnvFilter::try_new(&cli.log)?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match cli.log_format {
        LogFormat::Json => logs.json().init(),
        LogFormat::Text => logs.init(),
    }
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
