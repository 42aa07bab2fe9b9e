//! Why a claim is not prepared: the texts that the pod's owner reads.

use railhead_crds::{Bandwidth, names};
use thiserror::Error;

/// Why a claim is not prepared.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClaimRefused {
    /// No configuration of ours: written by hand.
    #[error("claim {claim} was not made from the template of a TrainingNetwork: put the label {label}=<network> on the pod instead of writing a claim", label = names::NETWORK_LABEL)]
    NotOurs {
        /// The claim.
        claim: String,
    },
    /// The configuration names what cannot be a network.
    #[error(
        "claim {claim} names {text:?} as {what} of its network, which no TrainingNetwork has: put the label {label}=<network> on the pod instead of writing a claim",
        label = names::NETWORK_LABEL
    )]
    NoNetwork {
        /// The claim.
        claim: String,
        /// Name or UID.
        what: &'static str,
        /// What it says, cut off.
        text: String,
    },
    /// The network was deleted and made again, or is another one.
    #[error(
        "claim {claim} is for another TrainingNetwork {network} (UID {found}, now {current}): delete the pod so that it gets a new claim"
    )]
    OtherNetwork {
        /// The claim.
        claim: String,
        /// Network name.
        network: String,
        /// UID in the claim.
        found: String,
        /// UID of the network.
        current: String,
    },
    /// The scheduler has not allocated it.
    #[error("claim {claim} is not allocated; wait for the scheduler")]
    NotAllocated {
        /// The claim.
        claim: String,
    },
    /// Not reserved for exactly this pod.
    #[error(
        "claim {claim} is reserved for {consumers}: a claim of Railhead belongs to exactly one pod, do not share it"
    )]
    Shared {
        /// The claim.
        claim: String,
        /// Who holds it.
        consumers: String,
    },
    /// The pod does not join the network that the claim names.
    #[error("pod {pod} has the label {label}={found:?} but its claim is for network {network}: the label and the claim must agree", label = names::NETWORK_LABEL)]
    OtherLabel {
        /// The pod.
        pod: String,
        /// Label value.
        found: String,
        /// Network of the claim.
        network: String,
    },
    /// Rails differ from those of the network.
    #[error(
        "claim {claim} asks for other rails than network {network} has (rails {wanted}): delete the pod so that it gets a new claim"
    )]
    OtherRails {
        /// The claim.
        claim: String,
        /// The network.
        network: String,
        /// Rails of the slice.
        wanted: String,
    },
    /// Less bandwidth than the network guarantees.
    #[error(
        "claim {claim} holds {held} on rail {rail}, network {network} guarantees {guaranteed}: delete the pod so that it gets a new claim"
    )]
    TooLittleBandwidth {
        /// The claim.
        claim: String,
        /// Rail id.
        rail: u32,
        /// The network.
        network: String,
        /// Counted by the scheduler.
        held: String,
        /// Wanted.
        guaranteed: Bandwidth,
    },
    /// Allocated on another node.
    #[error("claim {claim} is allocated on {pool}, this is node {node}")]
    OtherNode {
        /// The claim.
        claim: String,
        /// Pool, which is the node's name.
        pool: String,
        /// This node.
        node: String,
    },
}
