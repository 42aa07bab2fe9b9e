//! Serves both sockets and takes them away again when the agent ends.

use std::{fs, sync::Arc};

use thiserror::Error;
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::{Claims, Plugin, Registered, Registration, SocketError, SocketPaths, socket};
use crate::proto::{dra::dra_plugin_server::DraPluginServer, registration::registration_server::RegistrationServer};

/// Why the plugin stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A server failed.
    #[error("serve kubelet's plugin API: {0}")]
    Serve(#[source] tonic::transport::Error),
}

/// The two listening sockets.
#[derive(Debug)]
pub struct Sockets {
    paths: SocketPaths,
    driver: String,
    plugin: UnixListener,
    registration: UnixListener,
}

impl Sockets {
    /// Listens on both, the plugin's first: kubelet dials it as soon as it has seen the other one.
    pub fn open(paths: SocketPaths, driver: &str) -> Result<Self, SocketError> {
        socket::remove_dead(&paths.registration, driver);
        socket::remove_dead(&paths.plugin, super::PLUGIN_SOCKET);
        let plugin = socket::listen(&paths.plugin)?;
        let registration = socket::listen(&paths.registration)?;
        Ok(Self {
            paths,
            driver: driver.to_owned(),
            plugin,
            registration,
        })
    }

    /// Serves until `stop`. Both socket files are gone afterwards, so that kubelet knows at once.
    pub async fn serve<C: Claims>(
        self,
        claims: Arc<C>,
        registered: watch::Sender<Registered>,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let registration = Registration::new(&self.driver, self.paths.plugin.clone(), registered.clone());
        let registration = Server::builder()
            .add_service(RegistrationServer::new(registration))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(self.registration),
                stop.clone().cancelled_owned(),
            );
        let plugin = Server::builder()
            .add_service(DraPluginServer::new(Plugin::new(claims)))
            .serve_with_incoming_shutdown(UnixListenerStream::new(self.plugin), stop.clone().cancelled_owned());
        let paths = self.paths;
        let unlink = async {
            stop.cancelled().await;
            // kubelet keeps its connection open; without this the servers would wait for it.
            let _ = fs::remove_file(&paths.registration);
            let _ = fs::remove_file(&paths.plugin);
        };
        let served = tokio::select! {
            served = async { tokio::try_join!(registration, plugin) } => served.map(|_| ()),
            () = unlink => Ok(()),
        };
        let _ = fs::remove_file(&paths.registration);
        let _ = fs::remove_file(&paths.plugin);
        registered.send_modify(|registered| registered.accepted = false);
        served.map_err(ServeError::Serve)
    }
}
