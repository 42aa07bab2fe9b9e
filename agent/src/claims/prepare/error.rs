//! Why a claim was not prepared. The texts become events of the pod and kubelet's log.

use railhead_host::{InterfaceName, LockError, RdmaName, SysfsError};
use railhead_planner::{attachment::PlanError, claim::ClaimRefused, index::IndexError};
use railhead_vf::{HostError, OriginalsError, ProgramError};
use thiserror::Error;

use crate::claims::{cdi::CdiError, plans::PlansError, release::ReleaseError};

/// Why a claim was not prepared. kubelet tries again after 60 to 90 s.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum PrepareError {
    /// Everything is being given back.
    #[error(
        "node {node} gives Railhead's changes back (teardown); unset spec.teardown of the Fabric or run the pod elsewhere"
    )]
    TearingDown {
        /// This node.
        node: String,
    },
    /// The API server did not answer.
    #[error("read {kind} {namespace}/{name}: {source}")]
    Read {
        /// Kind.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object is not there, or is another one of the same name.
    #[error("{kind} {namespace}/{name} (UID {uid}) is gone; nothing to prepare")]
    Gone {
        /// Kind.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// UID that was looked for.
        uid: String,
    },
    /// The pod is not to run here.
    #[error("pod {namespace}/{name} is scheduled to node {found:?}, this is {node}")]
    OtherNode {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Its node.
        found: String,
        /// This node.
        node: String,
    },
    /// The pod is being deleted or has ended.
    #[error("pod {namespace}/{name} is being deleted or has ended; nothing to prepare")]
    PodEnded {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The network has no slice.
    #[error(
        "TrainingNetwork {namespace}/{network} has no reserved addresses yet; see: kubectl describe trainingnetwork -n {namespace} {network}"
    )]
    NoSlice {
        /// Namespace.
        namespace: String,
        /// Name.
        network: String,
    },
    /// The slice went while the index was taken.
    #[error(
        "TrainingNetwork {namespace}/{network} is giving its addresses back and takes no more pods; apply it anew when it is gone"
    )]
    SliceEnds {
        /// Namespace.
        namespace: String,
        /// Name.
        network: String,
    },
    /// The claim does not entitle the pod.
    #[error(transparent)]
    Refused(Box<ClaimRefused>),
    /// The pod can have no index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Another pod has the index.
    #[error(
        "IndexHeld: {index} by {holder}; with Jobs, podReplacementPolicy: Failed keeps the replacement from starting before"
    )]
    IndexHeld {
        /// The index.
        index: u32,
        /// The holder, with what is known of it.
        holder: String,
    },
    /// All indices are taken.
    #[error(
        "network {network} has pods: {pods} and all of their indices are held; wait for a pod to end or apply a larger network"
    )]
    NetworkFull {
        /// The network.
        network: String,
        /// Its size.
        pods: u32,
    },
    /// The index could not be taken.
    #[error("create NetworkAttachment {namespace}/{name}: {source}")]
    TakeIndex {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The ports have not been looked at yet.
    #[error("the agent of node {node} does not know its ports yet; see: kubectl describe nodenetwork {node}")]
    NoInventory {
        /// This node.
        node: String,
    },
    /// The node's ports belong to another fabric.
    #[error(
        "the ports of node {node} belong to fabric {found:?}, the network is on fabric {wanted}; delete the pod so that it gets a claim from its network's template"
    )]
    OtherFabric {
        /// This node.
        node: String,
        /// Fabric of its ports.
        found: String,
        /// Fabric of the network.
        wanted: String,
    },
    /// The pod has functions by another claim.
    #[error(
        "pod {namespace}/{name} has its rails by claim {claim} already; take every other claim for railhead.dev out of its spec"
    )]
    SecondClaim {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// UID of the first claim.
        claim: String,
    },
    /// A rail's port is missing.
    #[error("node {node} has no port for rail {rail}; see: kubectl describe nodenetwork {node}")]
    NoPort {
        /// This node.
        node: String,
        /// Rail name.
        rail: String,
    },
    /// A rail's port has no free function.
    #[error("rail {rail}: none of the {total} functions of port {port} is free ({busy}); see: kubectl get networkattachments -A -l {label}={node}", label = railhead_crds::names::NODE_LABEL)]
    NoFreeFunction {
        /// Rail name.
        rail: String,
        /// PCI address of the port.
        port: String,
        /// How many functions it has.
        total: usize,
        /// What the others are doing.
        busy: String,
        /// This node.
        node: String,
    },
    /// Something else is done for the same claim.
    #[error(transparent)]
    Busy(Box<ReleaseError>),
    /// The node's lock was not free.
    #[error("take the node's lock: {0}")]
    Lock(#[source] LockError),
    /// The original state could not be recorded; nothing was changed.
    #[error(transparent)]
    Originals(Box<OriginalsError>),
    /// No plan can be made.
    #[error(transparent)]
    Plan(Box<PlanError>),
    /// Plans could not be read or written.
    #[error(transparent)]
    Plans(Box<PlansError>),
    /// The kernel could not be asked.
    #[error(transparent)]
    Host(Box<HostError>),
    /// Sysfs could not be read.
    #[error(transparent)]
    Sysfs(SysfsError),
    /// A function could not be programmed.
    #[error(transparent)]
    Program(Box<ProgramError>),
    /// The RDMA device has no character device.
    #[error("rail {rail}: RDMA device {device} has no character device; load the module ib_uverbs on the node")]
    NoUverbs {
        /// Rail name.
        rail: InterfaceName,
        /// RDMA device.
        device: RdmaName,
    },
    /// The CDI spec could not be written.
    #[error(transparent)]
    Cdi(Box<CdiError>),
    /// A bug.
    #[error("the agent's work on the node panicked; see its log")]
    Panicked,
}

/// Boxed, because one of these is what every step of Prepare returns.
macro_rules! boxed {
    ($($variant:ident($source:ty),)+) => {
        $(impl From<$source> for PrepareError {
            fn from(source: $source) -> Self {
                Self::$variant(Box::new(source))
            }
        })+
    };
}

boxed! {
    Refused(ClaimRefused),
    Busy(ReleaseError),
    Originals(OriginalsError),
    Host(HostError),
    Program(ProgramError),
    Plan(PlanError),
    Plans(PlansError),
    Cdi(CdiError),
}

impl PrepareError {
    /// Reason of the event: a word to search for.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TearingDown { .. } => "NodeTearingDown",
            Self::Refused(_) | Self::OtherFabric { .. } | Self::SecondClaim { .. } => "ClaimRefused",
            Self::Index(IndexError::OutOfRange { .. }) => "IndexOutOfRange",
            Self::Index(_) => "IndexInvalid",
            Self::IndexHeld { .. } => "IndexHeld",
            Self::NetworkFull { .. } => "NetworkFull",
            Self::NoSlice { .. } | Self::SliceEnds { .. } => "NetworkNotReserved",
            Self::NoFreeFunction { .. } => "NoFreeFunction",
            Self::NoPort { .. } | Self::NoInventory { .. } => "PortMissing",
            Self::Program(_) => "FunctionNotProgrammed",
            _ => "NotPrepared",
        }
    }
}
