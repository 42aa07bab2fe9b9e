//! The DRA plugin as kubelet knows it (`pkg/kubelet/pluginmanager`, `pkg/kubelet/cm/dra`): found by its socket in the registry's
//! folder, called at the endpoint that it names.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use railhead_agent::{
    proto::{
        dra::{Claim, NodePrepareResourcesRequest, NodeUnprepareResourcesRequest, dra_plugin_client::DraPluginClient},
        registration::{InfoRequest, RegistrationStatus, registration_client::RegistrationClient},
    },
    unix_channel,
};
use tokio::sync::watch;

use railhead_crds::names::DRIVER;

/// kubelet's patience with a plugin (`pkg/kubelet/cm/dra/plugin`).
const ANSWER: Duration = Duration::from_secs(45);
/// How often the registry's folder is looked at; kubelet watches it.
const LOOK: Duration = Duration::from_millis(200);

/// What kubelet knows of the plugin.
pub(crate) struct Plugin {
    registry: PathBuf,
    endpoint: watch::Sender<Option<PathBuf>>,
}

impl Plugin {
    /// The plugin that registers below kubelet's root folder.
    pub(crate) fn below(kubelet: &Path) -> Self {
        Self {
            registry: kubelet.join("plugins_registry"),
            endpoint: watch::Sender::new(None),
        }
    }

    /// Registers whoever comes, the last one taking the place of those before. Does not end.
    pub(crate) async fn register(&self) {
        let mut known = BTreeSet::new();
        loop {
            let found = sockets(&self.registry);
            known.retain(|socket| found.contains(socket));
            for (socket, made) in found {
                if known.contains(&(socket.clone(), made)) {
                    continue;
                }
                // One that does not answer is what a process before left, or not ready yet.
                match self.take(&socket).await {
                    Ok(endpoint) => {
                        self.endpoint.send_replace(Some(endpoint));
                        known.insert((socket, made));
                    }
                    Err(error) => tracing::info!("register {}: {error:#}", socket.display()),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn take(&self, socket: &Path) -> Result<PathBuf> {
        let mut plugin = RegistrationClient::new(unix_channel::connect(socket, ANSWER).await?);
        let info = plugin.get_info(InfoRequest {}).await?.into_inner();
        let ours = info.r#type == "DRAPlugin" && info.name == DRIVER;
        let status = RegistrationStatus {
            plugin_registered: ours,
            error: if ours {
                String::new()
            } else {
                format!("{} is not known here", info.name)
            },
        };
        plugin.notify_registration_status(status).await?;
        ensure!(ours, "{} of kind {} is not known here", info.name, info.r#type);
        Ok(info.endpoint.into())
    }

    /// NodePrepareResources for one claim.
    pub(crate) async fn prepare(&self, claim: Claim) -> Result<()> {
        let uid = claim.uid.clone();
        let claims = vec![claim];
        let mut client = self.client().await?;
        let answer = client
            .node_prepare_resources(NodePrepareResourcesRequest { claims })
            .await?;
        let mut answer = answer.into_inner();
        told(&uid, answer.claims.remove(&uid).map(|claim| claim.error))
    }

    /// NodeUnprepareResources for one claim.
    pub(crate) async fn unprepare(&self, claim: Claim) -> Result<()> {
        let uid = claim.uid.clone();
        let claims = vec![claim];
        let mut client = self.client().await?;
        let answer = client
            .node_unprepare_resources(NodeUnprepareResourcesRequest { claims })
            .await?;
        let mut answer = answer.into_inner();
        told(&uid, answer.claims.remove(&uid).map(|claim| claim.error))
    }

    async fn client(&self) -> Result<DraPluginClient<tonic::transport::Channel>> {
        let endpoint = self.endpoint.borrow().clone();
        let endpoint = endpoint.context("the DRA driver is not registered")?;
        Ok(DraPluginClient::new(unix_channel::connect(&endpoint, ANSWER).await?))
    }
}

/// What the plugin's answer says of a claim; the error is empty where all went well.
fn told(uid: &str, error: Option<String>) -> Result<()> {
    match error {
        Some(error) if error.is_empty() => Ok(()),
        Some(error) => bail!("{error}"),
        None => bail!("the plugin says nothing of claim {uid}"),
    }
}

/// Sockets with inode and time of their making: one that is made anew is another one.
fn sockets(registry: &Path) -> BTreeSet<(PathBuf, Made)> {
    let entries = fs::read_dir(registry).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let made = entry.metadata().ok()?;
            Some((entry.path(), (made.ino(), made.ctime(), made.ctime_nsec())))
        })
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "sock"))
        .collect()
}

/// Inode, and seconds and nanoseconds of its last change.
type Made = (u64, i64, i64);
