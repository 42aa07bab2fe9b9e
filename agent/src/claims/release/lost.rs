//! Sandboxes that the runtime takes away without calling DEL.
//!
//! It happens when the chain entry was missing at that moment: libcni runs DEL for the plugins that it has loaded. The pod's
//! folder would stay, and with it the mount source that lets containers start: also in the next sandbox, which nobody wired.
//! The runtime deletes a sandbox's network namespace last, so a journal that names a namespace that is gone is one whose
//! DEL never came.

use std::{path::Path, sync::Arc, thread};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use railhead_service::Pass;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{ReleaseError, sandboxes};
use crate::{
    agent::Agent,
    limits::{COLLECT_PASS, LOST_SANDBOXES, WATCH_AGAIN},
};

/// Where runtimes bind network namespaces.
const NAMESPACES: &str = "/var/run/netns";

/// Runs until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let gone = Arc::new(Notify::new());
    let rung = gone.clone();
    // It ends with the process: a blocked read holds nothing.
    let started = thread::Builder::new().name("namespaces".to_owned()).spawn(move || {
        loop {
            let error = watch(Path::new(NAMESPACES), &rung).err();
            tracing::warn!(?error, folder = NAMESPACES, "network namespaces cannot be watched");
            thread::sleep(WATCH_AGAIN);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to watch network namespaces");
    }
    let round = agent.passes.begin("lost sandboxes", COLLECT_PASS);
    loop {
        round.done();
        if let Err(error) = give_back(&agent, &round).await {
            tracing::warn!(%error, "a lost sandbox could not be given back yet");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = gone.notified() => {}
            () = tokio::time::sleep(LOST_SANDBOXES) => {}
        }
    }
}

/// Rings whenever a namespace goes away. Returns when the folder itself does.
fn watch(folder: &Path, gone: &Notify) -> nix::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(folder, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR)?;
    loop {
        let events = inotify.read_events()?;
        if events
            .iter()
            .any(|event| event.mask.intersects(AddWatchFlags::IN_IGNORED))
        {
            return Ok(());
        }
        gone.notify_one();
    }
}

/// Runs DEL for every sandbox whose network namespace is gone: the runtime deletes it after its own DEL, so none came.
async fn give_back(agent: &Agent, round: &Pass) -> Result<(), ReleaseError> {
    let mut failed = None;
    for (container, journal) in sandboxes::journals(&agent.layout) {
        round.done();
        if let Some(netns) = lost_namespace(&journal) {
            tracing::warn!(
                container,
                netns,
                "the runtime took a sandbox away without DEL; taking its functions home"
            );
            if let Err(error) = sandboxes::del(agent, None, &container).await {
                failed = failed.or(Some(error));
            }
            agent.attachments_changed.notify_one();
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The namespace that a journal names, if it was bound where runtimes bind them and is there no more.
fn lost_namespace(journal: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Sandbox {
        netns: String,
    }
    let netns = serde_json::from_str::<Sandbox>(journal).ok()?.netns;
    let bound = ["/var/run/netns/", "/run/netns/"]
        .iter()
        .any(|folder| netns.starts_with(folder));
    // Any error but its absence says nothing about it.
    let gone = matches!(std::path::Path::new(&netns).try_exists(), Ok(false));
    (bound && gone).then_some(netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_that_was_bound_and_is_gone_is_lost() {
        let journal = |netns: &str| serde_json::json!({"version": 1, "netns": netns}).to_string();
        assert!(lost_namespace(&journal("/var/run/netns/cni-never-was")).is_some());
        assert!(lost_namespace(&journal("/proc/1/ns/net")).is_none());
        assert!(lost_namespace("{").is_none());
    }
}
