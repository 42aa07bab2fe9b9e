//! A gRPC channel to a server of this node, which listens on a Unix socket.

use std::{path::Path, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Error};

/// Connects. Connecting and every call through the channel end within `patience`.
pub async fn connect(socket: &Path, patience: Duration) -> Result<Channel, Error> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_timeout(patience)
        .timeout(patience)
        .connect_with_connector(connector)
        .await
}
