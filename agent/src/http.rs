//! /metrics, /healthz and /readyz, on the node's network and on a unix socket for the probes.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{Agent, Phase},
    args::Question,
};

/// How often a taken address is tried again: during a rolling update the old agent still has it.
const RETRY: Duration = Duration::from_secs(5);

/// How long a probe waits: longer than [`SETTLE`], and less than kubelet waits for it (`timeoutSeconds` in the chart).
const PROBE: Duration = Duration::from_secs(9);

/// How long an agent that is not ready waits for becoming so before it says no: kubelet asks seldom, and asks first when the
/// agent has just started.
const SETTLE: Duration = Duration::from_secs(7);

/// The pages.
fn pages(agent: Arc<Agent>) -> Router {
    Router::new()
        .route(
            "/metrics",
            get(|State(agent): State<Arc<Agent>>| async move { agent.metrics.text() }),
        )
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(agent)
}

/// Serves probes on a unix socket until `stop`.
pub async fn serve_probes(agent: Arc<Agent>, socket: PathBuf, stop: CancellationToken) {
    if let Some(folder) = socket.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    let _ = std::fs::remove_file(&socket);
    let listener = match UnixListener::bind(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(socket = %socket.display(), %error, "probes cannot be answered");
            return;
        }
    };
    let served = axum::serve(listener, pages(agent)).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(%error, "the probes' server ended");
    }
}

/// Asks the agent behind `socket`; the error says what it answered.
pub fn probe(socket: &Path, question: Question) -> io::Result<()> {
    let path = match question {
        Question::Live => "/healthz",
        Question::Ready => "/readyz",
    };
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PROBE))?;
    stream.set_write_timeout(Some(PROBE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    Err(io::Error::other(body.to_owned()))
}

/// Serves until `stop`. An address that is taken is no reason for the agent not to work.
pub async fn serve(agent: Arc<Agent>, address: SocketAddr, stop: CancellationToken) {
    let app = pages(agent);
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let served = axum::serve(listener, app.clone()).with_graceful_shutdown(stop.clone().cancelled_owned());
                if let Err(error) = served.await {
                    tracing::warn!(%error, "the HTTP server ended");
                }
            }
            Err(error) => tracing::warn!(%address, %error, "the HTTP address is not free"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Alive: every loop has gone round within its limit. The liveness probe ends an agent in which one hangs.
async fn alive(State(agent): State<Arc<Agent>>) -> (StatusCode, String) {
    match agent.passes.report() {
        Ok(ages) => (StatusCode::OK, ages),
        Err(ages) => (StatusCode::SERVICE_UNAVAILABLE, ages),
    }
}

/// Ready: what to serve is known, and kubelet knows who serves it.
async fn ready(State(agent): State<Arc<Agent>>) -> (StatusCode, &'static str) {
    let (mut phase, mut registered) = (agent.phase.subscribe(), agent.registered.subscribe());
    let mut settled = pin!(tokio::time::sleep(SETTLE));
    loop {
        let Some(missing) = missing(*phase.borrow_and_update(), registered.borrow_and_update().accepted) else {
            return (StatusCode::OK, "ok");
        };
        // The agent holds the senders of both: neither closes.
        tokio::select! {
            () = &mut settled => return (StatusCode::SERVICE_UNAVAILABLE, missing),
            _ = phase.changed() => {}
            _ = registered.changed() => {}
        }
    }
}

/// What keeps an agent from being ready.
fn missing(phase: Phase, registered: bool) -> Option<&'static str> {
    match phase {
        Phase::Starting => Some("what the node is to serve is not known yet; the log says what the agent waits for"),
        Phase::Serving if !registered => Some("kubelet has not registered the plugin yet"),
        Phase::Serving | Phase::TearingDown | Phase::WaitingForPods | Phase::TornDown => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};

    use super::*;

    /// During a rolling update the old agent goes when the new one is ready.
    #[test]
    fn an_agent_that_kubelet_does_not_know_is_not_ready() {
        for registered in [false, true] {
            assert!(missing(Phase::Starting, registered).is_some());
            assert_eq!(missing(Phase::Serving, registered).is_none(), registered);
            assert!(missing(Phase::TornDown, registered).is_none());
        }
    }

    #[tokio::test]
    async fn a_probe_tells_good_from_bad_and_from_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("health.sock");
        assert!(probe(&socket, Question::Live).is_err());
        let app = Router::new().route("/healthz", get(|| async { "ok" })).route(
            "/readyz",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "not yet") }),
        );
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let (live, ready) =
            tokio::task::spawn_blocking(move || (probe(&socket, Question::Live), probe(&socket, Question::Ready)))
                .await
                .unwrap();
        assert!(live.is_ok(), "{live:?}");
        assert_eq!(ready.unwrap_err().to_string(), "not yet");
        server.abort();
    }
}
