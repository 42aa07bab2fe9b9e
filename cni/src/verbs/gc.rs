//! GC: give back what belongs to sandboxes that the runtime does not know any more.

use super::release::{readable, release};
use crate::{
    context::Context,
    protocol::{CniError, Code, Request, ValidAttachment},
};

/// Releases the journals of this CNI network whose sandbox is not in the list. Without a list nothing is freed: some
/// callers leave it out, and that is not the same as an empty one.
pub(crate) fn gc(context: &Context, request: &Request) -> Result<(), CniError> {
    let journals: Vec<_> = readable(context)?
        .into_iter()
        .filter(|journal| journal.network == request.config.name)
        .collect();
    let Some(valid) = &request.config.valid_attachments else {
        context.log.note(format!(
            "GC without cni.dev/valid-attachments: {} sandboxes of network {} hold functions, none was touched",
            journals.len(),
            request.config.name
        ));
        return Ok(());
    };
    let mut errors = Vec::new();
    for journal in journals {
        let attachment = ValidAttachment {
            container_id: journal.container_id.clone(),
            if_name: journal.if_name.clone(),
        };
        if !valid.contains(&attachment)
            && let Err(error) = release(context, &journal)
        {
            errors.push(format!("sandbox {}: {error}", journal.container_id));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(CniError::new(Code::Io, errors.join("; ")))
    }
}
