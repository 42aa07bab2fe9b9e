//! The id of this boot: what was written under another one describes kernel state that no longer exists.

use std::{fs, io, path::Path};

use thiserror::Error;

/// The boot id could not be read.
#[derive(Debug, Error)]
#[error("read the boot id from {path}: {source}; is /proc mounted?")]
pub struct BootIdError {
    path: String,
    #[source]
    source: io::Error,
}

/// Reads the boot id, normally from `/proc/sys/kernel/random/boot_id`.
pub fn boot_id(path: &Path) -> Result<String, BootIdError> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|source| BootIdError {
            path: path.display().to_string(),
            source,
        })
}
