//! The node agent's process: arguments, logging, signals.

use clap::Parser;
use railhead_agent::{
    args::{Args, Command},
    http, run,
};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Probe { question }) = args.command {
        return Ok(http::probe(&args.health_socket, question)?);
    }
    args.log.start()?;
    // Two workers: the agent waits most of its time, and every node of the cluster pays for it.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            let stop = run::until_signal()?;
            let client = railhead_service::client::connect(run::ANSWER).await?;
            run::run(args, run::Machine::here(), client, stop).await
        })
}
