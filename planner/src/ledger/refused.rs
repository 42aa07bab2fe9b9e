//! Why a ledger gives nothing, or keeps what somebody gives back.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use railhead_crds::{LedgerEntry, LedgerOwner, reasons::Reason};
use thiserror::Error;

use super::{LEDGER_VERSION, slots};
use crate::quota::Excess;

/// Why a network got nothing. The text is the condition's message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No free block is large enough.
    #[error(
        "{pods} pods need a block of {needed} addresses on every rail, the largest free one has {largest}: append a pool to the fabric's rails, delete unused networks, or ask for fewer pods{}",
        and_closed(closed)
    )]
    PoolExhausted {
        /// Pods asked for.
        pods: u32,
        /// Block size, a power of two.
        needed: u64,
        /// Largest free block.
        largest: u32,
        /// Why nothing is cut from some of the pools.
        closed: Vec<String>,
    },
    /// Nothing is cut from any pool.
    #[error("none of its pools can be used for a new network: {}", closed.join("; "))]
    NoPool {
        /// Why, by pool.
        closed: Vec<String>,
    },
    /// Every VLAN of the range is held.
    #[error(
        "all {total} VLANs of {min}-{max} are held by networks: widen the fabric's vlan.range or delete unused networks"
    )]
    VlanExhausted {
        /// VLANs in the range.
        total: u32,
        /// First.
        min: u16,
        /// Last.
        max: u16,
    },
    /// There would be room, but what networks gave back that are gone rests.
    #[error(
        "all that is free was given back a moment ago and rests until {until}, for those who may not know yet that it is: the network gets it then, and nothing has to be done"
    )]
    Rests {
        /// The condition's reason.
        reason: Reason,
        /// When all of it has rested.
        until: Timestamp,
    },
    /// Quotas of its namespace allow less.
    #[error(
        "namespace {namespace} has no room for it: {}: delete networks of the namespace that are not needed, ask for less, or ask the \
         platform team to raise the limit; the network gets it by itself when there is room",
        listed(excess)
    )]
    QuotaExceeded {
        /// The network's namespace.
        namespace: String,
        /// The limits in its way; there is at least one.
        excess: Vec<Excess>,
    },
    /// There is room in its quotas, and others that wait for it longer come first.
    #[error(
        "the older network {} comes first: it has waited longer for the same room",
        name(older)
    )]
    Behind {
        /// The first of them.
        older: Box<LedgerOwner>,
    },
    /// It wants more than the ledger says that it takes, and the ledger says nothing of it.
    #[error(
        "the ledger has no entry of it yet: it is entered again from the network's slice, and nothing has to be done"
    )]
    NotEntered,
    /// The network has a slice, but the ledger does not know it and has given its addresses or its VLAN to another.
    #[error(
        "the slice of {} has {}, and the ledger gives {} to {}: delete the pods of one of the two networks, then that network, and apply it anew",
        name(&held.owner), Holding(held), Holding(given), name(&given.owner)
    )]
    LedgerMismatch {
        /// What the network's slice has.
        held: Box<LedgerEntry>,
        /// The other network's entry.
        given: Box<LedgerEntry>,
    },
    /// The ledger gives the network, which has no slice yet, something of what another has.
    #[error(
        "the ledger gives {} to {}, and {} has {}: delete one of the two networks when it has no pods, and apply it anew",
        Holding(held), name(&held.owner), name(&given.owner), Holding(given)
    )]
    Contested {
        /// What the network would have.
        held: Box<LedgerEntry>,
        /// What the other has.
        given: Box<LedgerEntry>,
    },
    /// Nobody knows yet what was given.
    #[error(
        "its ledger is older than what its nodes have, as after a restore of etcd from a backup: nothing new is reserved before every node has said what its pods hold; {}",
        not_said(waiting)
    )]
    Restored {
        /// Nodes that have not said it.
        waiting: Vec<String>,
    },
    /// Pods of the network that the API server does not know hold something of it.
    #[error(
        "pods of {} that the API server does not know still have {} on a node, since before its ledger was restored from a backup: the network is served when they have ended; `kubectl get nodenet -o yaml` shows under status.networks where they are",
        name(&held.owner), Holding(held)
    )]
    Quarantined {
        /// What they hold.
        held: Box<LedgerEntry>,
    },
    /// There is nothing to take a block from.
    #[error("it is gone or being deleted: wait for it to be applied anew, or name another in spec.fabricName")]
    FabricGone,
    /// A later release has written the ledger.
    #[error(transparent)]
    LedgerNewer(#[from] Newer),
    /// Nobody can tell what is free.
    #[error(
        "its ledger cannot be read and is left as it is, so nothing is reserved ({why}): run the release of Railhead that wrote it, or a later one"
    )]
    LedgerUnreadable {
        /// What is wrong with it.
        why: String,
    },
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::PoolExhausted { .. } => Reason::PoolExhausted,
            Self::NoPool { .. } => Reason::FabricInvalid,
            Self::VlanExhausted { .. } => Reason::VlanExhausted,
            Self::Rests { reason, .. } => *reason,
            Self::QuotaExceeded { .. } | Self::Behind { .. } => Reason::QuotaExceeded,
            Self::LedgerMismatch { .. } | Self::Contested { .. } | Self::NotEntered => Reason::LedgerMismatch,
            Self::Restored { .. } | Self::Quarantined { .. } => Reason::LedgerRestored,
            Self::FabricGone => Reason::FabricNotFound,
            Self::LedgerNewer(_) => Reason::LedgerNewer,
            Self::LedgerUnreadable { .. } => Reason::LedgerUnreadable,
        }
    }
}

/// A ledger of a later release: what it means and what must stay true in it is not known here.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "its ledger was written by a later release of Railhead (version {found}, this one knows {LEDGER_VERSION}) and is left as it is: run that release again, or a later one"
)]
pub struct Newer {
    /// The ledger's version.
    pub found: u32,
}

/// Why what a network holds is not freed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// A later release has written the ledger.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// A later release has given the entry a state.
    #[error(
        "its ledger has the reservation of {} in the state {state:?} of a later release of Railhead, which alone may free it: run that release again, or a later one",
        name(owner)
    )]
    State {
        /// Who holds it.
        owner: Box<LedgerOwner>,
        /// The state.
        state: String,
    },
    /// Nobody can tell what is held.
    #[error(
        "its ledger cannot be read and is left as it is, and it names the network ({why}): run the release of Railhead that wrote it, or a later one"
    )]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
}

/// What an entry holds, in words: `slots 4 to 7 and VLAN 1000`.
pub struct Holding<'a>(pub &'a LedgerEntry);

impl fmt::Display for Holding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slots ")?;
        for (place, slots) in slots(self.0).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} to {}", slots.start, slots.end.saturating_sub(1))?;
        }
        match self.0.vlan {
            Some(vlan) => write!(f, " and VLAN {vlan}"),
            None => f.write_str(" and no VLAN"),
        }
    }
}

/// For whom nothing new is given, and what to do about those who cannot answer.
pub fn not_said(waiting: &[String]) -> String {
    const SHOWN: usize = 8;
    if waiting.is_empty() {
        return "all have said it, and it is being entered".to_owned();
    }
    let more = match waiting.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} of them have not: {}{more}; each needs an agent of this release that runs: one of an earlier release does not answer, and where there is none the chart's values agent.nodeSelector and agent.tolerations say why; one that is switched off and does not come back is not waited for when its Node is deleted or has the taint node.kubernetes.io/out-of-service",
        waiting.len(),
        waiting[..waiting.len().min(SHOWN)].join(", "),
    )
}

fn and_closed(closed: &[String]) -> String {
    if closed.is_empty() {
        return String::new();
    }
    format!(". Not all pools can be used: {}", closed.join("; "))
}

fn listed(excess: &[Excess]) -> String {
    let limits: Vec<String> = excess.iter().map(Excess::to_string).collect();
    limits.join("; ")
}

pub(super) fn name(owner: &LedgerOwner) -> String {
    format!("{}/{}", owner.namespace, owner.name)
}
