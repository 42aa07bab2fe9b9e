//! What the agent reads of the journal that ADD writes of a sandbox before its first change.
//!
//! The rest of the file is the CNI binary's own. The agent has the binary undo a sandbox that the runtime forgot, and compare
//! one that is wired; for both it needs to know which sandbox, of whom and where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{attachment_plan::PodRef, version::Versioned};

/// The version that this release writes.
pub const JOURNAL_VERSION: u32 = 1;

/// Which sandbox a journal is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalHead {
    /// [`JOURNAL_VERSION`] when written by this release.
    pub version: u32,
    /// The boot in which it was written. After another boot there is nothing to undo.
    pub boot_id: String,
    /// The sandbox; also the file's name.
    pub container_id: String,
    /// `CNI_IFNAME` of the ADD.
    pub if_name: String,
    /// The sandbox's network namespace, as the host names it.
    pub netns: PathBuf,
    /// The pod.
    pub pod: PodRef,
}

impl Versioned for JournalHead {
    const WHAT: &'static str = "the journal";
    const VERSION: u32 = JOURNAL_VERSION;
}
