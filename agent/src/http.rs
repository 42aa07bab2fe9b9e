//! /metrics, /healthz and /readyz.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Phase};

/// How often a taken address is tried again: during a rolling update the old agent still has it.
const RETRY: Duration = Duration::from_secs(5);

/// Serves until `stop`. An address that is taken is no reason for the agent not to work.
pub async fn serve(agent: Arc<Agent>, address: SocketAddr, stop: CancellationToken) {
    let app = Router::new()
        .route(
            "/metrics",
            get(|State(agent): State<Arc<Agent>>| async move { agent.metrics.text() }),
        )
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(agent);
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

/// Ready: there is nothing to serve, or kubelet has registered the plugin.
async fn ready(State(agent): State<Arc<Agent>>) -> (StatusCode, &'static str) {
    let phase = *agent.phase.borrow();
    if phase != Phase::Serving || agent.registered.borrow().accepted {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "kubelet has not registered the plugin yet",
        )
    }
}
