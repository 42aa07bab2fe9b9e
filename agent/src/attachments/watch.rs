//! Says when the folder of attachments changes.

use std::{sync::Arc, thread, time::Duration};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::agent::Agent;

/// How long to wait before a watch that failed is set up again; the periodic look goes on meanwhile.
const AGAIN: Duration = Duration::from_secs(30);

/// Starts a thread that rings `attachments_changed`. It ends with the process: a blocked read holds nothing.
pub(super) fn start(agent: Arc<Agent>) {
    let started = thread::Builder::new().name("attachments".to_owned()).spawn(move || {
        loop {
            let error = watch(&agent);
            tracing::warn!(%error, "the folder of attachments cannot be watched");
            thread::sleep(AGAIN);
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to watch the folder of attachments");
    }
}

fn watch(agent: &Agent) -> nix::errno::Errno {
    let result = (|| {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(&agent.layout.attachments(), flags)?;
        loop {
            let events = inotify.read_events()?;
            agent.attachments_changed.notify_one();
            if events
                .iter()
                .any(|event| event.mask.intersects(AddWatchFlags::IN_IGNORED))
            {
                return Err(nix::errno::Errno::ENOENT);
            }
        }
    })();
    match result {
        Ok(()) => nix::errno::Errno::ENOENT,
        Err(error) => error,
    }
}
