//! `kubectl railhead`: what Railhead knows, in sentences.
//!
//! A command reads the kinds that it needs, all at one moment ([`cluster`]), makes a report of them in a pure function, and shows
//! that as a table, JSON or YAML ([`output`]).

mod cluster;
mod events;
mod exit;
mod facts;
#[cfg(test)]
mod fixtures;
mod fsck;
mod lookup;
mod output;
mod plan;
mod similar;
mod status;
mod waits;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    cluster::{Cluster, From, ReadError, Wanted},
    exit::Exit,
    output::{Format, Output, Report},
};

/// Says what Railhead knows of fabrics, networks, pods and nodes, and why something waits. It only reads, but for
/// `fsck --repair`.
#[derive(Debug, Parser)]
#[command(name = "kubectl-railhead", bin_name = "kubectl railhead", version, after_help = Exit::HELP)]
struct Cli {
    #[command(flatten)]
    from: From,
    /// How the report is shown. JSON and YAML are for programs: `kubectl railhead schema` has what is in them.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fabrics, rails, pools, nodes that are not ready, networks, and what waits for what.
    Status(status::Args),
    /// Explains one pod, network, node or fabric, one sentence per fact.
    #[command(subcommand)]
    Why(why::Args),
    /// What happened to something.
    #[command(subcommand)]
    Events(events::Args),
    /// Compares all records with each other, and says what contradicts what. Reads only, unless told to repair.
    Fsck(fsck::Args),
    /// Would these networks be reserved, do their pods fit, and if not, with which change?
    Plan(plan::Args),
    /// The JSON schema of the reports.
    Schema,
    /// A script that completes commands in a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            let exit = if said.use_stderr() { Exit::Usage } else { Exit::Fine };
            // Nobody is left to be told that stdout is closed.
            let _ = said.print();
            return exit.into();
        }
    };
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::complain(&railhead_service::chain(&error));
            error.exit().into()
        }
    }
}

fn start(cli: Cli) -> Result<Exit, ReadError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ReadError::Runtime)?;
    let asked = Asked {
        from: cli.from,
        output: Output::to(cli.output),
    };
    runtime.block_on(async {
        match cli.command {
            Command::Status(args) => status::run(&asked, &args).await,
            Command::Why(args) => why::run(&asked, &args).await,
            Command::Events(args) => events::run(&asked, &args).await,
            Command::Fsck(args) => fsck::run(&asked, &args).await,
            Command::Plan(args) => plan::run(&asked, &args).await,
            Command::Schema => Ok(output::schema()),
            Command::Completion { shell } => {
                // clap_complete panics where a write fails, and memory takes all.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "kubectl-railhead", &mut script);
                output::print(&script);
                Ok(Exit::Fine)
            }
        }
    })
}

/// What every command is given: where to read, and how to show.
struct Asked {
    from: From,
    output: Output,
}

impl Asked {
    /// Reads what a command needs, all at one moment.
    async fn read(&self, wanted: Wanted) -> Result<Cluster, ReadError> {
        cluster::read(&self.from, wanted).await
    }

    /// That the command is about an object of one namespace.
    fn one_namespace(&self) -> Result<(), ReadError> {
        if self.from.all_namespaces {
            return Err(ReadError::Usage(
                "say in which namespace it is, with -n in place of -A".to_owned(),
            ));
        }
        Ok(())
    }

    /// Shows a report; how the command ends is for the report to say.
    fn show<R: Report>(&self, cluster: &Cluster, report: &R) -> Exit {
        self.output.show(cluster, report)
    }
}
