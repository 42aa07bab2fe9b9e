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
    claims::journals::{self, Journal},
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
    for journal in journals::all(&agent.layout) {
        round.done();
        let container = &journal.container;
        if let Some(netns) = lost_namespace(&journal) {
            tracing::warn!(
                container,
                netns = %netns.display(),
                "the runtime took a sandbox away without DEL; taking its functions home"
            );
            if let Err(error) = sandboxes::del(agent, None, container).await {
                failed = failed.or(Some(error));
            }
            agent.attachments_changed.notify_one();
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The namespace that a journal names, if it was bound where runtimes bind them and is there no more.
fn lost_namespace(journal: &Journal) -> Option<&Path> {
    let netns = &journal.head.as_ref()?.netns;
    is_gone(Path::new(NAMESPACES), netns.to_str()?).then_some(netns)
}

/// Whether `netns`, as the host names it, is no more in `folder`, where the host's namespaces are mounted. Without that
/// folder nothing is known: an agent whose mount is missing must not take every pod for lost.
fn is_gone(folder: &Path, netns: &str) -> bool {
    // On the host /var/run is a link to /run, and runtimes write either. The agent has the one mount.
    let name = ["/var/run/netns/", "/run/netns/"]
        .iter()
        .find_map(|bound| netns.strip_prefix(bound));
    let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('/')) else {
        return false;
    };
    // Any error but its absence says nothing about it.
    folder.is_dir() && matches!(folder.join(name).try_exists(), Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_that_was_bound_and_is_gone_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cni-lives"), "").unwrap();
        let gone = |netns: &str| is_gone(folder.path(), netns);
        for bound in ["/var/run/netns", "/run/netns"] {
            assert!(gone(&format!("{bound}/cni-never-was")), "{bound}");
            assert!(!gone(&format!("{bound}/cni-lives")), "{bound}");
        }
        assert!(!gone("/proc/1/ns/net") && !gone("/run/netns/") && !gone("/run/netns/../../x"));
    }

    #[test]
    fn without_the_mount_no_namespace_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("netns");
        assert!(!is_gone(&absent, "/run/netns/cni-lives"));
        assert!(!is_gone(&absent, "/var/run/netns/cni-lives"));
    }
}
