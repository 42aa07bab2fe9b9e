//! Why a record was not written or read.

use std::{io, path::PathBuf};

use railhead_host::{LockError, PciAddress};
use railhead_store::{ReadError, WriteError};
use thiserror::Error;

use crate::{CutOffError, HostError, RestoreError};

/// Why a record was not written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OriginalsError {
    /// The VF could not be read.
    #[error("record the original state of VF {vf}: {source}")]
    Observe {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The folder or a file could not be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A record could not be read.
    #[error("the original state: {0}")]
    File(#[source] ReadError),
    /// A record could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A pod had the VF, nobody gave it back, and that does not work now.
    #[error("a pod that has ended left VF {vf} as it had it, and it cannot be given back: {source}")]
    GiveBack {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<RestoreError>,
    },
    /// Programs have the VF open.
    #[error(transparent)]
    CutOff(#[from] CutOffError),
    /// It could not be noted that a pod gets the VF. It was not changed.
    #[error("note below /run/railhead that VF {vf} is a pod's: {source}; is /run full?")]
    Note {
        /// PCI address.
        vf: PciAddress,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else works on the VF.
    #[error("VF {vf}: {source}")]
    Lock {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: LockError,
    },
}
