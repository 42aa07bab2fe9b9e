//! STATUS: could an ADD on this node ever work?
//!
//! Whether the agent has run is not asked. A runtime may take a failed STATUS for a node without network and then starts no
//! pod at all, the agent's own included, which would be the one to mend it. A pod that asks for a network before the agent
//! has run is refused by its ADD.

use std::fs::{self, OpenOptions};

use crate::{
    context::Context,
    protocol::{CniError, Code},
};

/// The journal folder must take files: without a journal ADD changes nothing.
pub(crate) fn status(context: &Context) -> Result<(), CniError> {
    let journals = context.layout.journals();
    let probe = journals.join(format!(".probe.{}", std::process::id()));
    let written = fs::create_dir_all(&journals)
        .and_then(|()| OpenOptions::new().write(true).create(true).truncate(true).open(&probe))
        .and_then(|_| fs::remove_file(&probe));
    written.map_err(|error| {
        CniError::new(
            Code::NotAvailable,
            format!(
                "the journal folder {} does not take files ({error}); look at the node's disk",
                journals.display()
            ),
        )
    })
}
