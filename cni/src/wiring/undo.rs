//! The inverse of a wired rail. It looks at what is there and may be run any number of times, after any step of ADD.

use railhead_host::{
    Door, InterfaceName, Link, LinkChange, NetlinkError, Netns, RdmaError, RdmaSocket, RouteSocket, wait_until,
};

use super::{
    POLL, UndoError,
    function::{journaled, journaled_on_host},
};
use crate::{
    context::{Context, Step},
    journal::RailJournal,
};

/// What became of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It is home, or it does not exist any more.
    Complete,
    /// It exists and is neither in the pod nor on the host: something still holds the namespace. To be tried again.
    Elsewhere,
}

/// Gives one function back. The thread begins on the host and goes by `door` into the sandbox's namespace, if that still exists.
pub(crate) fn undo_rail(context: &Context, door: Option<Door<'_>>, rail: &RailJournal) -> Result<Undone, UndoError> {
    let step = |step| {
        if (context.after_step)(rail.rail, step) {
            Ok(())
        } else {
            Err(UndoError::Stopped)
        }
    };
    let netlink = |source| UndoError::Netlink {
        vf: rail.vf.clone(),
        source,
    };
    let netns = |source| UndoError::Netns {
        vf: rail.vf.clone(),
        source,
    };
    let mut host = RouteSocket::open().map_err(netlink)?;
    if let Some(door) = door {
        let home = Netns::current().map_err(netns)?;
        door.enter().map_err(netns)?;
        leave_pod(context, &home, rail, &step)?;
    }
    step(Step::Home)?;
    let sysfs = context.sysfs();
    let found = wait_until(context.return_patience, POLL, || {
        match journaled_on_host(&sysfs, &mut host, rail)? {
            Some(link) => Ok(Some(Some(link))),
            None if may_come_back(context, rail) => Ok(None),
            None => Ok(Some(None)),
        }
    });
    let link = match found.map_err(netlink)? {
        Some(Some(link)) => link,
        Some(None) => {
            context.log.note(format!("VF {} is gone; nothing to restore", rail.vf));
            return Ok(Undone::Complete);
        }
        None => return Ok(Undone::Elsewhere),
    };
    restore(context, &mut host, &link, rail).map_err(netlink)?;
    step(Step::Restored)?;
    Ok(Undone::Complete)
}

/// A function with a driver has a link somewhere. A link without a function below it died with its namespace.
fn may_come_back(context: &Context, rail: &RailJournal) -> bool {
    let sysfs = context.sysfs();
    rail.has_parent && sysfs.exists(&rail.vf) && sysfs.driver(&rail.vf).is_some()
}

/// Rules, RDMA before the link, then the link itself. The calling thread is inside the pod.
fn leave_pod(
    context: &Context,
    home: &Netns,
    rail: &RailJournal,
    step: &impl Fn(Step) -> Result<(), UndoError>,
) -> Result<(), UndoError> {
    let netlink = |source| UndoError::Netlink {
        vf: rail.vf.clone(),
        source,
    };
    let mut inside = RouteSocket::open().map_err(netlink)?;
    for rule in &rail.rules {
        ignore_gone(inside.remove_rule(rule)).map_err(netlink)?;
    }
    step(Step::RulesRemoved)?;
    if let Some(device) = &rail.soft_rdma {
        remove_soft_rdma(device.as_str()).map_err(|source| UndoError::Rdma {
            vf: rail.vf.clone(),
            source,
        })?;
    }
    step(Step::RdmaRemoved)?;
    let Some(link) = journaled(&mut inside, rail).map_err(netlink)? else {
        return Ok(());
    };
    ignore_gone(move_home(context, &mut inside, home, &link, rail)).map_err(netlink)
}

/// One request takes the link home and makes it what it was.
///
/// A pod that may change its interfaces can make that fail, and must not keep its VF by it: names that it gave the link and
/// that the host knows go first then, and any name will do.
fn move_home(
    context: &Context,
    inside: &mut RouteSocket,
    host: &Netns,
    link: &Link,
    rail: &RailJournal,
) -> Result<(), NetlinkError> {
    let original = &rail.original;
    let alias = original.alias.as_deref().unwrap_or_default();
    let whole = LinkChange {
        netns: Some(host),
        mac: original.mac.filter(|mac| link.mac != Some(*mac)),
        mtu: (link.mtu != original.mtu).then_some(original.mtu),
        name: (link.name != original.name.as_str()).then_some(&original.name),
        alias: (link.alias.as_deref().unwrap_or_default() != alias).then_some(alias),
        ..LinkChange::default()
    };
    let Err(error) = inside.change_link(link.index, &whole) else {
        return Ok(());
    };
    if error.is_gone() {
        return Err(error);
    }
    // It may have come home before something was refused; what is then still to do is done there.
    let Some(link) = inside.link(link.index)?.filter(|now| now.parent == link.parent) else {
        return Ok(());
    };
    context
        .log
        .note(format!("VF {}: {error}; trying again under another name", rail.vf));
    for name in &link.altnames {
        // What does not go may still not be in the way.
        let _ = inside.remove_altname(link.index, name);
    }
    let mut last = error;
    for name in [rail.temporary_name.clone(), InterfaceName::random()] {
        let change = LinkChange {
            netns: Some(host),
            name: (link.name != name.as_str()).then_some(&name),
            ..LinkChange::default()
        };
        match inside.change_link(link.index, &change) {
            Err(error) if !error.is_gone() => last = error,
            done => return done,
        }
    }
    Err(last)
}

fn remove_soft_rdma(device: &str) -> Result<(), RdmaError> {
    let removed = (|| {
        let mut socket = RdmaSocket::open()?;
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
