//! STATUS: would an ADD of a pod with a plan have what it needs on this node?

use std::fs::{self, OpenOptions};

use crate::{
    context::Context,
    protocol::{CniError, Code},
};

/// The agent makes the plans folder when it first runs; the journal folder must take files.
pub(crate) fn status(context: &Context) -> Result<(), CniError> {
    let plans = context.layout.plans();
    if !plans.is_dir() {
        return Err(CniError::new(
            Code::NotAvailable,
            format!(
                "the folder {} is missing: the railhead-agent has not prepared this node since it booted; look at its pod",
                plans.display()
            ),
        ));
    }
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
