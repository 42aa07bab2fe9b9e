//! Why something of a claim is not given back yet.

use std::path::PathBuf;

use railhead_host::LockError;
use railhead_vf::{CutOffError, HostError, OriginalsError, RestoreError};
use thiserror::Error;

use crate::{
    claims::{
        cdi::CdiError,
        plans::PlansError,
        prepare::{cut_off_passes, originals_pass, passes, restore_passes},
    },
    limits::DEL,
};

/// Why something is not given back yet. It is tried again: by kubelet, and every minute by the garbage collector.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ReleaseError {
    /// Somebody else is at it.
    #[error("claim {claim}: {source}")]
    Lock {
        /// UID of the claim.
        claim: String,
        /// What happened.
        #[source]
        source: LockError,
    },
    /// kubelet's call for the claim has not ended.
    #[error("claim {claim} is being prepared or given back")]
    Turn {
        /// UID of the claim.
        claim: String,
    },
    /// Plans could not be read or removed.
    #[error(transparent)]
    Plans(#[from] PlansError),
    /// The CNI binary could not be run.
    #[error("run {binary} DEL for sandbox {container}: {source}")]
    Run {
        /// The binary.
        binary: PathBuf,
        /// Container id.
        container: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// DEL did not end.
    #[error("{binary} DEL for sandbox {container} did not end within {} s", DEL.as_secs())]
    Slow {
        /// The binary.
        binary: PathBuf,
        /// Container id.
        container: String,
    },
    /// DEL failed.
    #[error("{binary} DEL for sandbox {container}: {message}")]
    Del {
        /// The binary.
        binary: PathBuf,
        /// Container id.
        container: String,
        /// What it printed.
        message: String,
    },
    /// DEL could not take everything out of the pod yet.
    #[error(
        "sandbox {container} of pod {pod} still holds its functions (its network namespace is in use); look for processes of the pod on the node"
    )]
    StillWired {
        /// Namespace and name.
        pod: String,
        /// Container id.
        container: String,
    },
    /// Its runtime makes sandboxes as fast as they are taken apart.
    #[error("pod {pod} was wired again while it was given back; it is tried again")]
    WiredAgain {
        /// Namespace and name.
        pod: String,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The record of an original state.
    #[error(transparent)]
    Originals(#[from] OriginalsError),
    /// A function is not as it was found.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The CDI spec could not be removed.
    #[error(transparent)]
    Cdi(#[from] CdiError),
    /// The indices of this node could not be listed.
    #[error("list the NetworkAttachments of node {node}: {source}")]
    List {
        /// This node.
        node: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The index could not be given back.
    #[error("delete NetworkAttachment {namespace}/{name}: {source}")]
    Attachment {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Pods other than the one that it was prepared for have its functions.
    #[error(
        "claim {claim} is used by {pods} too, and its functions go to nobody else before they have ended; delete {pods}"
    )]
    Shared {
        /// Name of the claim.
        claim: String,
        /// Names of the pods.
        pods: String,
    },
    /// Who uses the claim could not be asked.
    #[error("read {kind} {namespace}/{name}, to see who uses the claim: {source}")]
    Read {
        /// Pod or ResourceClaim.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Programs of the pod have a function open.
    #[error(transparent)]
    CutOff(#[from] CutOffError),
    /// A bug.
    #[error("the agent's work on the node panicked; see its log")]
    Panicked,
}

impl ReleaseError {
    /// Whether it may succeed a little later.
    pub(in crate::claims) fn is_transient(&self) -> bool {
        match self {
            Self::Lock { source, .. } => matches!(source, LockError::Held { .. }),
            Self::Turn { .. }
            | Self::Shared { .. }
            | Self::Slow { .. }
            | Self::StillWired { .. }
            | Self::WiredAgain { .. } => true,
            Self::Read { source, .. } | Self::List { source, .. } | Self::Attachment { source, .. } => {
                railhead_service::is_transient(source)
            }
            Self::Host(error) => passes(error),
            Self::Restore(error) => restore_passes(error),
            Self::Originals(error) => originals_pass(error),
            Self::CutOff(error) => cut_off_passes(error),
            Self::Plans(_) | Self::Run { .. } | Self::Del { .. } | Self::Cdi(_) | Self::Panicked => false,
        }
    }
}
