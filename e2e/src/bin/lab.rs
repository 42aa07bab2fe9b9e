//! `lab`: brings up, uses and takes down the lab.

use clap::{Parser, Subcommand};
use railhead_e2e::lab::cache::Cache;
use railhead_e2e::lab::prepare::prepare;

/// A real Kubernetes with SR-IOV nodes on one machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build or download everything that comes from elsewhere, once per set of pins.
    Prepare,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Prepare => prepare(&Cache::open()?).map(|_| ()),
    }
}
