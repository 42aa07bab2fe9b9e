//! kubelet, as far as Railhead notices it: it registers the plugin, prepares a pod's claims before its sandbox, says that the pod
//! runs, and gives all back when the pod ends. As in kubelet each pod has a worker of its own, and what fails is tried again; unlike
//! there, after a second and not after up to ninety.

mod life;
mod plugin;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{life::Life, plugin::Plugin};

/// kubelet's root folder, below the node's root.
pub(crate) const FOLDER: &str = "var/lib/kubelet";

/// The kubelet of one node.
#[derive(Clone)]
pub(crate) struct Kubelet {
    node: String,
    root: PathBuf,
    client: Client,
    plugin: Arc<Plugin>,
}

/// A pod as the API server has it now; `None` once it is gone.
type Latest = watch::Sender<Option<Arc<Pod>>>;

impl Kubelet {
    pub(crate) fn new(node: &str, root: &Path, client: Client) -> Self {
        Self {
            node: node.to_owned(),
            root: root.to_owned(),
            client,
            plugin: Arc::new(Plugin::below(&root.join(FOLDER))),
        }
    }

    /// Runs the node's pods until `stop`. Their namespaces end with the process.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        let workers = TaskTracker::new();
        let plugin = self.plugin.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = plugin.register() => {}
            ended = self.watch(&workers, &stop) => ended?,
        }
        workers.close();
        workers.wait().await;
        Ok(())
    }

    async fn watch(&self, workers: &TaskTracker, stop: &CancellationToken) -> Result<()> {
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node));
        let pods = watcher(Api::<Pod>::all(self.client.clone()), mine).default_backoff();
        let mut pods = std::pin::pin!(pods);
        let mut known: BTreeMap<String, Latest> = BTreeMap::new();
        let mut listed = Vec::new();
        loop {
            match pods.try_next().await {
                Ok(Some(watcher::Event::InitApply(pod))) => {
                    listed.push(pod.uid().unwrap_or_default());
                    self.tell(&mut known, pod, workers, stop);
                }
                Ok(Some(watcher::Event::Apply(pod))) => self.tell(&mut known, pod, workers, stop),
                Ok(Some(watcher::Event::Delete(pod))) => {
                    if let Some(latest) = known.remove(&pod.uid().unwrap_or_default()) {
                        latest.send_replace(None);
                    }
                }
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitDone)) => known.retain(|uid, latest| {
                    let stays = listed.contains(uid);
                    if !stays {
                        latest.send_replace(None);
                    }
                    stays
                }),
                Err(error) => tracing::warn!(%error, "watch the node's pods"),
                Ok(None) => bail!("the watch of the node's pods ended"),
            }
        }
    }

    fn tell(&self, known: &mut BTreeMap<String, Latest>, pod: Pod, workers: &TaskTracker, stop: &CancellationToken) {
        let uid = pod.uid().unwrap_or_default();
        let latest = known.entry(uid).or_insert_with(|| self.start(&pod, workers, stop));
        latest.send_replace(Some(Arc::new(pod)));
    }

    fn start(&self, pod: &Pod, workers: &TaskTracker, stop: &CancellationToken) -> Latest {
        let (latest, seen) = watch::channel(Some(Arc::new(pod.clone())));
        let life = Life::new(self.clone(), seen);
        let stop = stop.clone();
        workers.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = life.run() => {}
            }
        });
        latest
    }
}
