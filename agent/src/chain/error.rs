//! Why the chain is not in order, and what of it harms pods that want no rails.

use std::path::PathBuf;

use railhead_crds::reasons::Reason;
use thiserror::Error;

use super::{BinaryError, EntryError, FolderError, RuntimeError};

/// Why the chain is not in order.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Files.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The binary.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// The runtime reads other folders than the agent writes.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The binary does not speak the cluster network's version.
    #[error(
        "{path} is of CNI version {version}, which the CNI binary does not speak, so the entry is not in its chain; have the cluster network write one of {spoken}"
    )]
    Version {
        /// Which list.
        path: PathBuf,
        /// Its version.
        version: String,
        /// What the binary speaks.
        spoken: String,
    },
    /// The runtime has not taken the entry up.
    #[error(
        "the container runtime has not loaded {entry}: it needs libcni 1.3 (containerd 2) and a conflist without loadOnlyInlinedPlugins; if the node's folder of CNI configurations is a symlink that has moved, set agent.paths.cniConfigMount to the folder above it"
    )]
    NotLoaded {
        /// The drop-in.
        entry: PathBuf,
    },
    /// The runtime still has the entry.
    #[error("the container runtime still calls the chain entry after it was removed; it is asked again")]
    StillLoaded,
    /// A bug.
    #[error("the agent's work on the node panicked; see its log")]
    Panicked,
}

impl ChainError {
    /// Whether the runtime would fail every pod of the node with the entry in its chain.
    pub(super) fn is_harmful(&self) -> bool {
        match self {
            Self::Version { .. } | Self::Binary(BinaryError::NotStarted { .. }) => true,
            // The runtime's folder is another one than ours, or out of reach.
            Self::Folder(error) => !matches!(error, FolderError::OtherConfig { .. } | FolderError::Read { .. }),
            _ => false,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Version { .. } => Reason::VersionNotSpoken,
            Self::Binary(_) => Reason::BinaryNotUsable,
            Self::Folder(_) => Reason::OtherFolder,
            _ => Reason::ChainNotLoaded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_the_runtime_does_not_call_harms_nobody_and_is_said() {
        let error = ChainError::NotLoaded {
            entry: "/etc/cni/net.d/pod/99-railhead.conf".into(),
        };
        assert_eq!(error.reason(), "ChainNotLoaded");
        assert!(!error.is_harmful());
        assert_eq!(ChainError::StillLoaded.reason(), "ChainNotLoaded");
    }
}
