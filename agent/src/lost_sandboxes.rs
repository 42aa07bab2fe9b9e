//! Sandboxes that the runtime takes away without calling DEL.
//!
//! It happens when the chain entry was missing at that moment: libcni runs DEL for the plugins that it has loaded. The pod's
//! folder would stay, and with it the mount source that lets containers start: also in the next sandbox, which nobody wired.
//! The runtime deletes a sandbox's network namespace last, so a journal that names a namespace that is gone is one whose
//! DEL never came.

use std::{path::Path, sync::Arc, thread, time::Duration};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{agent::Agent, release};

/// Where runtimes bind network namespaces.
const NAMESPACES: &str = "/var/run/netns";
/// How often is looked without being told to.
const PERIOD: Duration = Duration::from_mins(1);
/// How long to wait before a watch that failed is set up again.
const AGAIN: Duration = Duration::from_secs(30);

/// Runs until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let gone = Arc::new(Notify::new());
    let rung = gone.clone();
    // It ends with the process: a blocked read holds nothing.
    let started = thread::Builder::new().name("namespaces".to_owned()).spawn(move || {
        loop {
            let error = watch(Path::new(NAMESPACES), &rung).err();
            tracing::warn!(?error, folder = NAMESPACES, "network namespaces cannot be watched");
            thread::sleep(AGAIN);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to watch network namespaces");
    }
    loop {
        if let Err(error) = release::lost_sandboxes(&agent).await {
            tracing::warn!(%error, "a lost sandbox could not be given back yet");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = gone.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
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
