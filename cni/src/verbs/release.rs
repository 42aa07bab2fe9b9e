//! The inverse of ADD as a whole, used by DEL, by a failed ADD, by an ADD that follows a lost sandbox, and by GC.

use railhead_host::{FileLock, Netns, PciAddress};

use super::this_boot;
use crate::{
    attachment_folder,
    context::{Context, Step},
    journal::{Journal, JournalError},
    protocol::{CniError, Code},
    wiring::{Undone, undo_rail},
};

/// Gives back everything that a sandbox holds. The journal goes last, and stays when a function could not be found though
/// it exists: then somebody has to come again.
pub(super) fn release(context: &Context, journal: &Journal) -> Result<Undone, CniError> {
    let io = |error: &dyn std::fmt::Display| CniError::new(Code::Io, error.to_string());
    if journal.boot_id != this_boot()? {
        context.log.note(format!(
            "the journal of sandbox {} is of an earlier boot; what it describes is gone",
            journal.container_id
        ));
        return close(context, journal);
    }
    let step = |step| {
        if (context.after_step)(0, step) {
            Ok(())
        } else {
            Err(CniError::new(Code::Io, "stopped"))
        }
    };
    // First of all: a container that is made from now on finds no folder to mount.
    attachment_folder::remove(&context.layout, &journal.pod.uid, &journal.container_id).map_err(|error| io(&error))?;
    step(Step::FolderRemoved)?;
    let _locks = lock(context, journal)?;
    // Another DEL, or the ADD of the pod's next sandbox, may have given it back while this one waited.
    let current = Journal::read(&context.layout, &journal.container_id).map_err(|error| io(&error))?;
    let Some(journal) = &current else {
        return Ok(Undone::Complete);
    };
    // Under the locks no ADD of the pod is making its folder.
    attachment_folder::remove_leftovers(&context.layout, &journal.pod.uid).map_err(|error| io(&error))?;
    let (netns, exists) = match open_netns(journal)? {
        Some(pod) => (pod, true),
        None => (Netns::current().map_err(|error| io(&error))?, false),
    };
    let undone = netns.run_each(&journal.rails, |rail, door| {
        undo_rail(context, exists.then_some(door), rail)
    });
    let results: Vec<_> = undone
        .into_iter()
        .zip(&journal.rails)
        .map(|(undone, rail)| match undone {
            Ok(Ok(undone)) => Ok(undone),
            Ok(Err(error)) => Err(format!("rail {}: {error}", rail.rail)),
            Err(error) => Err(format!("rail {}: {error}", rail.rail)),
        })
        .collect();
    let errors: Vec<&str> = results
        .iter()
        .filter_map(|result| result.as_ref().err().map(String::as_str))
        .collect();
    if !errors.is_empty() {
        return Err(io(&errors.join("; ")));
    }
    let elsewhere: Vec<&str> = results
        .iter()
        .zip(&journal.rails)
        .filter(|(result, _)| **result == Ok(Undone::Elsewhere))
        .map(|(_, rail)| rail.vf.as_str())
        .collect();
    if elsewhere.is_empty() {
        return close(context, journal);
    }
    context.log.note(format!(
        "functions {} are neither in the pod nor on the host: a process still holds the pod's namespace. The journal of sandbox {} stays; call DEL again",
        elsewhere.join(", "),
        journal.container_id
    ));
    Ok(Undone::Elsewhere)
}

fn close(context: &Context, journal: &Journal) -> Result<Undone, CniError> {
    Journal::remove(&context.layout, &journal.container_id)
        .map(|()| Undone::Complete)
        .map_err(|error| CniError::new(Code::Io, error.to_string()))
}

/// Makes the functions of a pod free for a new sandbox, before anything of it is journaled.
///
/// kubelet makes a sandbox again without telling us that the old one is gone, so what the pod held is given back first.
/// A sandbox of another pod that holds one of the functions is given back too when its namespace is gone; while that lives,
/// the function is in use, and taking it would break a running pod.
pub(super) fn make_way(
    context: &Context,
    pod_uid: &str,
    container_id: &str,
    functions: &[&PciAddress],
) -> Result<(), CniError> {
    for journal in readable(context)? {
        let own = journal.pod.uid == pod_uid || journal.container_id == container_id;
        let shared = journal.rails.iter().find(|rail| functions.contains(&&rail.vf));
        let holder = format!(
            "sandbox {} of pod {}/{}",
            journal.container_id, journal.pod.namespace, journal.pod.name
        );
        match shared {
            _ if own => context.log.note(format!("giving back what {holder} still holds")),
            None => continue,
            Some(rail) if journal.boot_id == this_boot()? && open_netns(&journal)?.is_some() => {
                return Err(CniError::new(
                    Code::TryAgain,
                    format!(
                        "function {} is in use by {holder}; if that pod is gone, the railhead-agent gives its functions back",
                        rail.vf
                    ),
                ));
            }
            Some(_) => context.log.note(format!("giving back what {holder} left behind")),
        }
        if release(context, &journal)? == Undone::Elsewhere {
            return Err(CniError::new(
                Code::TryAgain,
                format!("a function of {holder} has not come back yet; a process still holds the namespace"),
            ));
        }
    }
    Ok(())
}

/// All journals that can be read; the others are reported.
pub(super) fn readable(context: &Context) -> Result<Vec<Journal>, CniError> {
    let io = |error: JournalError| CniError::new(Code::Io, error.to_string());
    Ok(Journal::read_all(&context.layout)
        .map_err(io)?
        .into_iter()
        .filter_map(|journal| journal.inspect_err(|error| context.log.note(error.to_string())).ok())
        .collect())
}

fn lock(context: &Context, journal: &Journal) -> Result<Vec<FileLock>, CniError> {
    let mut functions: Vec<&str> = journal.rails.iter().map(|rail| rail.vf.as_str()).collect();
    functions.sort_unstable();
    functions
        .iter()
        .map(|function| {
            FileLock::take(&context.layout.function_lock(function), context.lock_patience)
                .map_err(|error| CniError::new(Code::TryAgain, error.to_string()))
        })
        .collect()
}

/// The sandbox's namespace, if it still exists and its path does not name another one by now.
fn open_netns(journal: &Journal) -> Result<Option<Netns>, CniError> {
    match Netns::open(&journal.netns) {
        Ok(netns) if netns.id() == journal.netns_id => Ok(Some(netns)),
        Ok(_) => Ok(None),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(CniError::new(Code::Io, error.to_string())),
    }
}
