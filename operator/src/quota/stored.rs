//! The quotas of all namespaces, and whether they could be read. Helm installs definitions once, so after an upgrade the cluster may not
//! know what a NetworkQuota is: then nobody waits for them, and nothing new is reserved before somebody has brought the definitions up to
//! date.

use std::{ops::Deref, sync::Arc};

use kube::{
    ResourceExt as _,
    runtime::{
        reflector::Store,
        watcher::{self, Event},
    },
};
use railhead_crds::NetworkQuota;
use railhead_planner::quota::{self, Quota, is_on};
use tokio::sync::watch;

/// How far the reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    NotYet,
    /// The cluster does not know the kind.
    NoSuchKind,
    All,
}

/// The store, and whether it has been filled.
#[derive(Clone)]
pub(crate) struct Quotas {
    store: Store<NetworkQuota>,
    read: watch::Sender<Read>,
}

impl Quotas {
    /// `store` is empty yet; what happens to it is told to [`Self::follow`].
    pub(crate) fn new(store: Store<NetworkQuota>) -> Self {
        Self {
            store,
            read: watch::Sender::new(Read::NotYet),
        }
    }

    /// Follows the watch, of which the store has been told. Returns whether the cluster knows the kind since now.
    pub(crate) fn follow(&self, event: &watcher::Result<Event<NetworkQuota>>) -> bool {
        match event {
            Ok(Event::InitDone) => self.read.send_replace(Read::All) == Read::NoSuchKind,
            Err(watcher::Error::InitialListFailed(error)) if is_no_such_kind(error) => {
                self.read.send_replace(Read::NoSuchKind);
                false
            }
            _ => false,
        }
    }

    /// Waits until all have been read once, or it is clear that there are none.
    pub(crate) async fn wait_until_read(&self) {
        // An error means that the sender is gone, which `self` holds.
        let _ = self.read.subscribe().wait_for(|read| *read != Read::NotYet).await;
    }

    /// Whether all are known. Before that nobody can tell what is allowed.
    pub(crate) fn are_read(&self) -> bool {
        *self.read.borrow() == Read::All
    }

    /// Those that limit what is taken of a fabric.
    pub(crate) fn on(&self, fabric: &str) -> Vec<Quota> {
        let quotas = self.store.state();
        quota::on(quotas.iter().map(Arc::as_ref), fabric)
    }

    /// Whether any limits what a namespace takes of a fabric.
    pub(crate) fn bind(&self, namespace: &str, fabric: &str) -> bool {
        let binds = |quota: &NetworkQuota| quota.namespace().as_deref() == Some(namespace) && is_on(quota, fabric);
        self.store.find(binds).is_some()
    }
}

/// Whether the API server does not know the kind: it answers with a text, in which kube finds the code and no reason.
fn is_no_such_kind(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

impl Deref for Quotas {
    type Target = Store<NetworkQuota>;

    fn deref(&self) -> &Store<NetworkQuota> {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::{core::Status, runtime::reflector::store};

    use super::*;

    fn no_such_kind() -> watcher::Result<Event<NetworkQuota>> {
        // As the API server answers for a kind that it does not know.
        let status = Status::failure("404 page not found", "Failed to parse error data").with_code(404);
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status.boxed())))
    }

    #[tokio::test]
    async fn nobody_waits_for_a_kind_that_the_cluster_does_not_know_and_nothing_is_taken_for_read() {
        let quotas = Quotas::new(store().0);
        assert!(!quotas.are_read());
        assert!(!quotas.follow(&no_such_kind()));
        let read = tokio::time::timeout(Duration::from_secs(5), quotas.wait_until_read());
        read.await.expect("there is nothing to wait for");
        assert!(!quotas.are_read());
        assert!(quotas.follow(&Ok(Event::InitDone)), "it is known since now");
        assert!(quotas.are_read());
        assert!(!quotas.follow(&Ok(Event::InitDone)), "listed once more");
    }

    #[test]
    fn a_quota_is_on_its_fabric_or_on_all() {
        let (reader, mut writer) = store();
        let quotas = Quotas::new(reader);
        for (name, fabric) in [("all", None), ("backend", Some("backend"))] {
            let quota = serde_json::json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkQuota",
                "metadata": {"name": name, "namespace": "team-a"}, "spec": {"fabricName": fabric, "hard": {"networks": 1}},
            });
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(quota).unwrap()));
        }
        let on = |fabric| -> Vec<String> { quotas.on(fabric).into_iter().map(|quota| quota.name).collect() };
        assert_eq!(on("backend"), ["all", "backend"]);
        assert_eq!(on("storage"), ["all"]);
        assert!(quotas.bind("team-a", "storage") && !quotas.bind("team-b", "backend"));
    }
}
