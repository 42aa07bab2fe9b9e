//! The way to the API server.

use std::time::Duration;

use kube::{Client, Config};

/// How long a connection may take. One that was begun before the node's service rules were there is never answered; a new
/// one is.
const CONNECT: Duration = Duration::from_secs(5);

/// A client with the credentials of the pod, or those of `KUBECONFIG`.
pub(crate) async fn client() -> Result<Client, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config)
}
