//! The node agent's process: arguments, logging, signals.

use std::time::Duration;

use clap::Parser;
use railhead_agent::{
    args::{Args, Command},
    http, run,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How long a connection to the API server may take. One that was begun before the node's service rules were there is never
/// answered, and the agent often starts just then; a new one is.
const CONNECT: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Probe { question }) = args.command {
        return Ok(http::probe(&args.health_socket, question)?);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .init();
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
            let mut config = kube::Config::infer().await?;
            config.connect_timeout = Some(CONNECT);
            run::run(args, kube::Client::try_from(config)?, stop).await
        })
}
