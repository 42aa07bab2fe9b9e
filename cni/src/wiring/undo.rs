//! The inverse of a wired rail. It looks at what is there and may be run any number of times, after any step of ADD.

use std::{thread, time::Instant};

use railhead_host::{Link, NetlinkError, Netns, RdmaError, RdmaSocket, RouteSocket};
use railhead_vf::POLL;

use super::{UndoError, function::journaled};
use crate::{context::Context, journal::RailJournal};

/// What became of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It is home, or it does not exist any more.
    Complete,
    /// It exists and is neither in the pod nor on the host: something still holds the namespace. To be tried again.
    Elsewhere,
}

/// Gives one function back. `pod` is the sandbox's namespace, if it still exists.
pub(crate) fn undo_rail(context: &Context, pod: Option<&Netns>, rail: &RailJournal) -> Result<Undone, UndoError> {
    if let Some(pod) = pod {
        leave_pod(pod, rail)?;
    }
    let netlink = |source| UndoError::Netlink {
        vf: rail.vf.clone(),
        source,
    };
    let mut host = RouteSocket::open().map_err(netlink)?;
    let start = Instant::now();
    let link = loop {
        if let Some(link) = journaled(&mut host, rail).map_err(netlink)? {
            break link;
        }
        if !may_come_back(context, rail) {
            context
                .log
                .note(format!("function {} is gone; nothing to restore", rail.vf));
            return Ok(Undone::Complete);
        }
        if start.elapsed() >= context.return_patience {
            return Ok(Undone::Elsewhere);
        }
        thread::sleep(POLL);
    };
    restore(context, &mut host, &link, rail).map_err(netlink)?;
    Ok(Undone::Complete)
}

/// A function with a driver has a link somewhere. A link without a function below it died with its namespace.
fn may_come_back(context: &Context, rail: &RailJournal) -> bool {
    let sysfs = context.sysfs();
    rail.has_parent && sysfs.exists(&rail.vf) && sysfs.driver(&rail.vf).is_some()
}

/// Rules, RDMA before the link, then the link itself under its temporary name: the host may have one of the final name.
fn leave_pod(pod: &Netns, rail: &RailJournal) -> Result<(), UndoError> {
    let netlink = |source| UndoError::Netlink {
        vf: rail.vf.clone(),
        source,
    };
    let mut inside = RouteSocket::open_in(pod).map_err(netlink)?;
    for rule in &rail.rules {
        ignore_gone(inside.remove_rule(rule)).map_err(netlink)?;
    }
    if let Some(device) = &rail.soft_rdma {
        remove_soft_rdma(pod, device.as_str()).map_err(|source| UndoError::Rdma {
            vf: rail.vf.clone(),
            source,
        })?;
    }
    let Some(link) = journaled(&mut inside, rail).map_err(netlink)? else {
        return Ok(());
    };
    let host = Netns::current().map_err(|source| UndoError::Netns {
        vf: rail.vf.clone(),
        source,
    })?;
    let moved = (|| {
        inside.set_up(link.index, false)?;
        if link.name != rail.temporary_name.as_str() {
            inside.rename(link.index, &rail.temporary_name)?;
        }
        inside.move_to(link.index, &host)
    })();
    ignore_gone(moved).map_err(netlink)
}

fn remove_soft_rdma(pod: &Netns, device: &str) -> Result<(), RdmaError> {
    let removed = (|| {
        let mut socket = RdmaSocket::open_in(pod)?;
        match socket.device_named(device)? {
            Some(device) => socket.remove_soft(&device),
            None => Ok(()),
        }
    })();
    match removed {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}

/// Makes the link what it was. Bringing it home is the promise; where a driver then refuses a value, that is said and the
/// rest restored.
fn restore(context: &Context, host: &mut RouteSocket, link: &Link, rail: &RailJournal) -> Result<(), NetlinkError> {
    if link.up {
        host.set_up(link.index, false)?;
    }
    let refused = rail.original.put_back(host, &rail.vf, link);
    if !refused.is_empty() {
        let words: Vec<String> = refused.iter().map(ToString::to_string).collect();
        context.log.note(format!(
            "VF {} is home, but not all of it as before: {}",
            rail.vf,
            words.join("; ")
        ));
    }
    Ok(())
}

fn ignore_gone(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
