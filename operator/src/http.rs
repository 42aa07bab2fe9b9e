//! `/metrics`, `/healthz` and `/readyz`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::{metrics::Metrics, world::World};

/// Why nothing is served.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    #[error("cannot listen on {address} for metrics and probes: choose another with --http")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("metrics and probes on {address} ended")]
    Serve {
        address: SocketAddr,
        source: std::io::Error,
    },
}

/// What the handlers show.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) world: World,
    /// Whether the stores have been filled.
    pub(crate) synced: Arc<AtomicBool>,
}

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, shown: Shown) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(shown);
    axum::serve(listener, routes)
        .await
        .map_err(|source| ServeError::Serve { address, source })
}

async fn metrics(State(shown): State<Shown>) -> Result<([(&'static str, &'static str); 1], String), StatusCode> {
    let text = shown
        .metrics
        .text(&shown.world)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([("content-type", content_type)], text))
}

/// Leader and followers are ready alike: a follower that knows everything is what makes a takeover quick.
async fn ready(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    if shown.synced.load(Ordering::Acquire) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "still reading what the cluster has")
    }
}
