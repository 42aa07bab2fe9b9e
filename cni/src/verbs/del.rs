//! DEL: give everything back. What is already gone is fine.

use super::release::release;
use crate::{
    context::Context,
    journal::{Journal, JournalError},
    protocol::{CniError, Code, Request},
};

/// Releases what the sandbox holds; a sandbox without a journal holds nothing.
pub(crate) fn del(context: &Context, request: &Request) -> Result<(), CniError> {
    match Journal::read(&context.layout, &request.container_id) {
        Ok(None) => Ok(()),
        // A function that is elsewhere keeps its journal; the runtime has no use for an error that it cannot do anything about.
        Ok(Some(journal)) => release(context, &journal).map(drop),
        // A DEL that failed for ever would keep the pod for ever.
        Err(error @ (JournalError::Damaged { .. } | JournalError::Version { .. })) => {
            context.log.note(error.to_string());
            Journal::set_aside(&context.layout, &request.container_id).map_err(|error| {
                CniError::new(
                    Code::Io,
                    format!(
                        "set the unreadable journal of sandbox {} aside: {error}",
                        request.container_id
                    ),
                )
            })
        }
        Err(error) => Err(CniError::new(Code::Io, error.to_string())),
    }
}
