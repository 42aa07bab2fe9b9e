//! `make soak`, control half: the operator under everything at once on a real API server, judged from outside.

use std::{path::PathBuf, process::ExitCode, thread, time::SystemTime};

use anyhow::{Result, anyhow};
use clap::Parser;
use railhead_e2e::{
    control_plane::{cluster::Cluster, install, programs::Programs},
    lab::{
        Lab,
        progress::{say, step},
    },
    soak::Soak,
};

/// Two operators that both believe they lead, and everybody else at random.
#[derive(Debug, Parser)]
struct Cli {
    /// How many operations.
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// What decides everything that is chosen; printed. The same seed does the same, as far as threads allow.
    #[arg(long)]
    seed: Option<u64>,
    /// The operator that is judged. Default: the one of this tree, built now.
    #[arg(long)]
    operator: Option<PathBuf>,
    /// Name of the control plane that is started for it, and stopped.
    #[arg(long, default_value = "soak")]
    lab: String,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let seed = match cli.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    };
    let soak = Soak {
        seed,
        operations: cli.operations,
        port: 18100,
    };
    let binary = match &cli.operator {
        Some(binary) => binary.clone(),
        None => step("building the operator", Programs::build)?.operator,
    };
    Lab::down(&cli.lab)?;
    let lab = Lab::up(&cli.lab, 0)?;
    // One thread enters the lab's network, and with it every thread that it makes.
    let inside = thread::spawn(move || {
        lab.enter_netns()?;
        let cluster = Cluster::new(lab)?;
        step("installing the chart", || install(&cluster))?;
        soak.run(&cluster, &binary, say)
    });
    let report = inside.join().map_err(|_| anyhow!("the soak panicked"));
    let down = Lab::down(&cli.lab);
    let report = report??;
    say(format!(
        "{} operations, {} a second while they were done; {} states judged, {} starts of operators; {} s; 0 duplicates, 0 lost reservations",
        report.operations,
        u128::from(report.operations) * 1000 / report.worked.as_millis().max(1),
        report.states,
        report.starts,
        report.took.as_secs()
    ));
    down
}
