//! When networks were Reserved, as a watch tells it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures::StreamExt as _;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ListParams, WatchEvent, WatchParams},
};
use railhead_crds::TrainingNetwork;
use railhead_e2e::lab::progress::say;

use crate::api::Server;

/// When each network was first seen Reserved, by namespace and name.
#[derive(Clone, Default)]
pub(crate) struct Reserved(Arc<Mutex<HashMap<(String, String), Instant>>>);

impl Reserved {
    /// Watches from now on.
    pub(crate) fn watch(server: &Server) -> Self {
        let reserved = Self::default();
        let (follows, api) = (reserved.clone(), Api::all(server.client.clone()));
        tokio::spawn(async move {
            loop {
                if let Err(error) = follows.follow(&api).await {
                    say(format!("the watch of networks broke, and begins again: {error:#}"));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        reserved
    }

    async fn follow(&self, api: &Api<TrainingNetwork>) -> Result<()> {
        let listed = api.list(&ListParams::default()).await?;
        listed.items.iter().for_each(|network| self.note(network));
        let version = listed.metadata.resource_version.unwrap_or_default();
        let mut events = api.watch(&WatchParams::default().timeout(290), &version).await?.boxed();
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(network) | WatchEvent::Modified(network) => self.note(&network),
                WatchEvent::Error(status) => bail!("{status:?}"),
                _ => {}
            }
        }
        Ok(())
    }

    fn note(&self, network: &TrainingNetwork) {
        let conditions = network.status.iter().flat_map(|status| &status.conditions);
        if conditions
            .into_iter()
            .any(|is| is.type_ == "Reserved" && is.status == "True")
        {
            let name = (network.meta().namespace.clone().unwrap_or_default(), network.name_any());
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            seen.entry(name).or_insert_with(Instant::now);
        }
    }

    pub(crate) fn when(&self, namespace: &str, name: &str) -> Option<Instant> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&(namespace.to_owned(), name.to_owned())).copied()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until so many are.
    pub(crate) async fn wait_for(&self, count: usize, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let mut told = Instant::now();
        while self.count() < count {
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                say(format!("  {} of {count} Reserved", self.count()));
            }
            if start.elapsed() > limit {
                bail!("{} of {count} networks are Reserved after {limit:?}", self.count());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// How long it took from `since` on until this one was.
    pub(crate) async fn after(&self, since: Instant, namespace: &str, name: &str, limit: Duration) -> Result<Duration> {
        loop {
            if let Some(when) = self.when(namespace, name) {
                return Ok(when.saturating_duration_since(since));
            }
            if since.elapsed() > limit {
                bail!("{namespace}/{name} is not Reserved after {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
