//! The node agent's process: arguments, logging, signals.

use clap::Parser;
use railhead_agent::{
    args::{Args, Command},
    http, run,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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
            let stop = CancellationToken::new();
            let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let stopping = stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                stopping.cancel();
            });
            let client = railhead_service::client::connect(run::ANSWER).await?;
            run::run(args, run::Machine::here(), client, stop).await
        })
}
