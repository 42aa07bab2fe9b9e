//! DEL: give everything back. What is already gone is fine.

use super::release::release;
use crate::{
    attachment_folder,
    context::Context,
    journal::Journal,
    protocol::{CniError, Code, Request},
};

/// Releases what the sandbox holds; a sandbox without a journal holds nothing.
pub(crate) fn del(context: &Context, request: &Request) -> Result<(), CniError> {
    let id = &request.container_id;
    match Journal::read(&context.layout, id) {
        Ok(None) => Ok(()),
        // A function that is elsewhere keeps its journal; the runtime has no use for an error that it cannot do anything about.
        Ok(Some(journal)) => release(context, &journal).map(drop),
        // A DEL that failed for ever would keep the pod for ever.
        Err(error) if error.is_lasting() => {
            context.log.note(error.to_string());
            set_aside(context, request)
        }
        // It holds nothing, and what the node's disk is like is nothing to it.
        Err(error) if request.config.attach.is_none() => {
            context.log.note(error.to_string());
            Ok(())
        }
        Err(error) => Err(CniError::new(Code::Io, error.to_string())),
    }
}

/// The pod's folder goes first, as in any release: its next sandbox could start containers without rails otherwise.
fn set_aside(context: &Context, request: &Request) -> Result<(), CniError> {
    let id = &request.container_id;
    attachment_folder::remove_of_sandbox(&context.layout, id, request.pod.uid.as_deref())
        .map_err(|error| CniError::new(Code::Io, error.to_string()))?;
    Journal::set_aside(&context.layout, id).map_err(|error| {
        CniError::new(
            Code::Io,
            format!("set the unreadable journal of sandbox {id} aside: {error}"),
        )
    })
}
