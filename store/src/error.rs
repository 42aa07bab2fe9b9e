//! Why a file was not read or written.

use std::path::PathBuf;

use railhead_host::{DurableError, StateFileError};
use railhead_plan::FormatError;
use thiserror::Error;

/// Why a file was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It is absent, is none of ours, or the kernel could not read it.
    #[error(transparent)]
    File(StateFileError),
    /// Its content is none that this release reads.
    #[error("{path}: {source}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
}

impl ReadError {
    /// Whether there is nothing to read.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::File(error) if error.is_absent())
    }

    /// Whether there is something that cannot be read, now or later.
    pub fn is_damaged(&self) -> bool {
        match self {
            Self::File(error) => error.is_lasting(),
            Self::Format { .. } => true,
        }
    }
}

/// Why a file was not written or removed. The former content is still there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It cannot be made into JSON.
    #[error("encode {what} for {path}: {source}")]
    Encode {
        /// Which kind of file.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the serialiser met.
        #[source]
        source: serde_json::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    File(#[from] DurableError),
}
