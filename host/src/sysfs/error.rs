//! Why sysfs was not read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::PciAddress;

/// Why sysfs was not read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// A file or folder could not be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file refused a value.
    #[error("write {value:?} to {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Which value.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} holds {text:?}, which is not what the kernel documents for it")]
    Unexpected {
        /// Which file.
        path: PathBuf,
        /// Its content, cut off.
        text: String,
    },
    /// A text that was to become part of a path is not a plain name.
    #[error("{name:?} is not a device name")]
    Name {
        /// The text, cut off.
        name: String,
    },
    /// The function is not there.
    #[error("there is no PCI function {address}")]
    NoFunction {
        /// Which one.
        address: PciAddress,
    },
    /// The function has no driver to unbind.
    #[error("PCI function {address} has no driver")]
    NoDriver {
        /// Which one.
        address: PciAddress,
    },
}

impl SysfsError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}
