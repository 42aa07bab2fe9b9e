//! The way to the API server.

use std::time::Duration;

use kube::{Client, Config};

/// How long a connection may take. One that was begun before the node's service rules were there is never answered; a new
/// one is.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take, for a client without watches.
const ANSWER: Duration = Duration::from_secs(20);

/// A client with the credentials of the pod, or those of `KUBECONFIG`.
pub(crate) async fn client() -> Result<Client, kube::Error> {
    Client::try_from(config().await?)
}

/// The same for one that makes requests and watches nothing: none of them hangs for ever.
pub(crate) async fn client_for_requests() -> Result<Client, kube::Error> {
    let mut config = config().await?;
    config.read_timeout = Some(ANSWER);
    Client::try_from(config)
}

async fn config() -> Result<Config, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.connect_timeout = Some(CONNECT);
    Ok(config)
}
