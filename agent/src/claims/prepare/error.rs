//! Why a claim was not prepared. The texts become events of the pod and kubelet's log.

use railhead_crds::reasons::Reason;
use railhead_host::{LockError, SysfsError};
use railhead_planner::{
    attachment::PlanError,
    claim::ClaimRefused,
    index::{IndexError, Span},
};
use railhead_vf::{HostError, OriginalsError, ProgramError};
use thiserror::Error;

use super::passes::{is_held, originals_pass, passes};
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
    /// Somebody else has the network's addresses or VLAN as well.
    #[error("TrainingNetwork {namespace}/{network} takes no more pods: {why}")]
    Quarantined {
        /// Namespace.
        namespace: String,
        /// Name.
        network: String,
        /// What its slice says.
        why: String,
    },
    /// The claim does not entitle the pod.
    #[error(transparent)]
    Refused(Box<ClaimRefused>),
    /// The pod can have no index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The network asks for more pods than its slice has; either the operator is about to change that, or says why not.
    #[error("network {network} has {pods} pods and not index {index} yet: see its condition Reserved")]
    NotGrown {
        /// The pod's index.
        index: u32,
        /// The network.
        network: String,
        /// Pods of the slice.
        pods: u32,
    },
    /// Another pod has the index.
    #[error("IndexHeld: {index} by {holder}; {advice}")]
    IndexHeld {
        /// The index.
        index: u32,
        /// The holder, with what is known of it.
        holder: String,
        /// What can be done.
        advice: String,
    },
    /// Another agent on the node prepared the claim meanwhile.
    #[error("another agent on this node has prepared the claim with index {planned}, not {taken}; it is tried again")]
    Overtaken {
        /// The index that was taken in vain.
        taken: u32,
        /// The index of the plan.
        planned: u32,
    },
    /// Somebody deleted the attachment while the claim was prepared.
    #[error("the NetworkAttachment of index {index} was deleted while the claim was prepared; it is tried again")]
    IndexLost {
        /// The index.
        index: u32,
    },
    /// All indices are taken.
    #[error("network {network} has pods: {pods} and all of the indices {first} to {last} that the pod may have are held; wait for a pod to end or apply a larger network", first = span.first, last = span.first + span.pods.saturating_sub(1))]
    NetworkFull {
        /// The network.
        network: String,
        /// Its size.
        pods: u32,
        /// Those that the pod may have.
        span: Span,
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
    /// Whether the same try may succeed a little later. What was reached is kept then, and tried again until the deadline,
    /// and by kubelet after it.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::TakeIndex { source, .. } => railhead_service::is_transient(source),
            // Each has been waited for until the deadline where it arises, or comes right by itself.
            Self::NoSlice { .. }
            | Self::NotGrown { .. }
            | Self::IndexHeld { .. }
            | Self::IndexLost { .. }
            | Self::NetworkFull { .. }
            | Self::Overtaken { .. }
            | Self::NoInventory { .. }
            | Self::NoFreeFunction { .. } => true,
            Self::Busy(error) => error.is_transient(),
            Self::Lock(error) => is_held(error),
            // The module is loaded, and the device named by udev, a moment after the driver was bound.
            Self::Cdi(error) => matches!(**error, CdiError::NoUverbs { .. }) || passes(error.as_ref()),
            Self::Host(error) => passes(error.as_ref()),
            Self::Originals(error) => originals_pass(error),
            Self::Program(error) => passes(error.as_ref()),
            Self::Sysfs(error) => passes(error),
            Self::TearingDown { .. }
            | Self::Gone { .. }
            | Self::OtherNode { .. }
            | Self::PodEnded { .. }
            | Self::SliceEnds { .. }
            | Self::Quarantined { .. }
            | Self::Refused(_)
            | Self::Index(_)
            | Self::OtherFabric { .. }
            | Self::SecondClaim { .. }
            | Self::NoPort { .. }
            | Self::Plan(_)
            | Self::Plans(_)
            | Self::Panicked => false,
        }
    }

    /// Reason of the event: a word to search for.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::TearingDown { .. } => Reason::NodeTearingDown,
            Self::Refused(_) | Self::OtherFabric { .. } | Self::SecondClaim { .. } => Reason::ClaimRefused,
            Self::Index(error) => error.reason(),
            Self::NotGrown { .. } => Reason::IndexOutOfRange,
            Self::IndexHeld { .. } => Reason::IndexHeld,
            Self::NetworkFull { .. } => Reason::NetworkFull,
            Self::NoSlice { .. } | Self::SliceEnds { .. } => Reason::NetworkNotReserved,
            Self::Quarantined { .. } => Reason::LedgerMismatch,
            Self::NoFreeFunction { .. } => Reason::NoFreeFunction,
            Self::NoPort { .. } | Self::NoInventory { .. } => Reason::PortMissing,
            Self::Program(_) => Reason::FunctionNotProgrammed,
            _ => Reason::NotPrepared,
        }
    }
}

#[cfg(test)]
mod tests {
    use railhead_host::{Errno, LockHolder, NetlinkError};
    use railhead_planner::claim::ClaimRefused;
    use railhead_vf::ProgramError;

    use super::*;

    fn refused(errno: Errno) -> PrepareError {
        let source = NetlinkError::Refused {
            request: "set Vlan of VF 2".to_owned(),
            errno,
            text: None,
        };
        PrepareError::from(ProgramError::Host {
            rail: "rail0".parse().unwrap(),
            source: Box::new(HostError::Netlink(source)),
        })
    }

    #[test]
    fn the_event_has_a_reason_of_its_own_where_there_is_something_to_do_about_it() {
        let network = || "llama".to_owned();
        let node = || "node1".to_owned();
        let full = PrepareError::NetworkFull {
            network: network(),
            pods: 2,
            span: Span { first: 0, pods: 2 },
        };
        let no_function = PrepareError::NoFreeFunction {
            rail: "rail0".to_owned(),
            port: "0000:18:00.0".to_owned(),
            total: 7,
            busy: "7 are held by pods".to_owned(),
            node: node(),
        };
        let not_grown = PrepareError::NotGrown {
            index: 2,
            network: network(),
            pods: 2,
        };
        for (error, reason) in [
            (PrepareError::TearingDown { node: node() }, "NodeTearingDown"),
            (full, "NetworkFull"),
            (no_function, "NoFreeFunction"),
            (not_grown, "IndexOutOfRange"),
            (PrepareError::NoInventory { node: node() }, "PortMissing"),
            (refused(Errno::EINVAL), "FunctionNotProgrammed"),
            (PrepareError::Panicked, "NotPrepared"),
        ] {
            assert_eq!(error.reason(), reason, "{error}");
            assert!(error.reason().is_of_event("Pod"), "{reason}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_what_does_not_is_said_at_once() {
        assert!(refused(Errno::EBUSY).is_transient() && refused(Errno::EAGAIN).is_transient());
        assert!(!refused(Errno::EINVAL).is_transient() && !refused(Errno::EPERM).is_transient());
        let held = LockError::Held {
            path: "node.lock".into(),
            waited: std::time::Duration::from_secs(1),
            holder: LockHolder::default(),
        };
        assert!(PrepareError::Lock(held).is_transient());
        let away = HostError::NotHome {
            vf: "0000:18:00.3".parse().unwrap(),
            waited: std::time::Duration::ZERO,
        };
        let program = ProgramError::Host {
            rail: "rail0".parse().unwrap(),
            source: Box::new(away),
        };
        assert!(PrepareError::from(program).is_transient());
        let shared = ClaimRefused::Shared {
            claim: "team-a/c".to_owned(),
            consumers: "no pod".to_owned(),
        };
        assert!(!PrepareError::from(shared).is_transient());
        let read = |code: u16| PrepareError::Read {
            kind: "Pod",
            namespace: "team-a".to_owned(),
            name: "llama-7".to_owned(),
            source: Box::new(kube::Error::Api(
                kube::core::Status::failure("", "").with_code(code).boxed(),
            )),
        };
        assert!(read(503).is_transient() && !read(403).is_transient());
    }
}
