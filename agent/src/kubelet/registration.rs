//! The registration service: kubelet asks who is there and says whether it took us.

use std::path::PathBuf;

use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::Registration as RegistrationService,
};

/// The version of the DRA gRPC API that the plugin serves.
const SERVICE_VERSION: &str = "v1.DRAPlugin";

/// Whether kubelet has accepted the plugin. The number counts its notices, so that a repeated one is a change too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Accepted in the last notice.
    pub accepted: bool,
    /// Notices so far.
    pub notices: u64,
}

/// The service on the registration socket.
#[derive(Debug)]
pub struct Registration {
    driver: String,
    endpoint: PathBuf,
    registered: watch::Sender<Registered>,
}

impl Registration {
    /// Registers `driver`, served at `endpoint`; kubelet's answer goes to `registered`.
    pub fn new(driver: &str, endpoint: PathBuf, registered: watch::Sender<Registered>) -> Self {
        Self {
            driver: driver.to_owned(),
            endpoint,
            registered,
        }
    }
}

#[tonic::async_trait]
impl RegistrationService for Registration {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "DRAPlugin".to_owned(),
            name: self.driver.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec![SERVICE_VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!(driver = self.driver, "kubelet has registered the plugin");
        } else {
            tracing::error!(driver = self.driver, error = status.error, "kubelet refused the plugin");
        }
        self.registered.send_modify(|registered| {
            registered.accepted = status.plugin_registered;
            registered.notices += 1;
        });
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
