//! Reservations: which aligned block of slots and which VLAN a network gets.
//!
//! Best fit among the free aligned blocks keeps large blocks whole. The first and the last address of a pool are used only
//! when nothing else fits, because the kernel makes the last one of a wide prefix a broadcast (the pod then gets a /32).

use std::collections::HashSet;

use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerOwner, LedgerState, NetworkSlice, VlanRange};
use thiserror::Error;

use crate::slots::{Interval, SlotSpace};

/// Version of the ledger's format.
pub const LEDGER_VERSION: u32 = 1;

/// A network that wants a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The network.
    pub owner: LedgerOwner,
    /// How many pods it has.
    pub pods: u32,
    /// What its slice says that it holds. That is entered as it is, and nothing of it is given to another, also where it
    /// cannot be entered.
    pub held: Option<LedgerEntry>,
}

impl Request {
    /// What the network of a slice asks for where the ledger does not know it.
    pub fn of_slice(slice: &NetworkSlice) -> Self {
        let entry = entry_of(slice);
        Self {
            owner: entry.owner.clone(),
            pods: slice.spec.pods,
            held: Some(entry),
        }
    }
}

/// Why a network got nothing. The text is the condition's message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No free block is large enough.
    #[error(
        "{pods} pods need a block of {needed} addresses on every rail, the largest free one has {largest}: append a pool to the fabric's rails, delete unused networks, or ask for fewer pods"
    )]
    PoolExhausted {
        /// Pods asked for.
        pods: u32,
        /// Block size, a power of two.
        needed: u64,
        /// Largest free block.
        largest: u32,
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
    /// The network has a slice, but the ledger does not know it and has given its addresses or its VLAN to another.
    #[error(
        "the slice of {owner} has slots {base} to {last} and VLAN {vlan}, and the ledger gives slots {other_base} to {other_last} and VLAN {other_vlan} to {other}: delete the pods of one of the two networks, then that network, and apply it anew"
    )]
    LedgerMismatch {
        /// The network, as `namespace/name`.
        owner: String,
        /// First slot of its slice.
        base: u32,
        /// Last slot of its slice.
        last: u32,
        /// VLAN of its slice.
        vlan: u16,
        /// The other network.
        other: String,
        /// First slot that the ledger gives to the other.
        other_base: u32,
        /// Last slot that the ledger gives to the other.
        other_last: u32,
        /// VLAN that the ledger gives to the other.
        other_vlan: u16,
    },
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PoolExhausted { .. } => "PoolExhausted",
            Self::VlanExhausted { .. } => "VlanExhausted",
            Self::LedgerMismatch { .. } => "LedgerMismatch",
        }
    }
}

/// The answer to a batch of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The ledger to write, if `changed`.
    pub ledger: FabricLedgerSpec,
    /// Whether anything was reserved that was not before.
    pub changed: bool,
    /// One answer per request, in order.
    pub results: Vec<Result<LedgerEntry, Refusal>>,
}

/// How full a fabric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Slots held by networks, in percent, rounded up.
    pub used_percent: u32,
    /// Largest block that a new network could get.
    pub largest_free: Option<u32>,
    /// VLANs that no network holds.
    pub vlans_free: u32,
}

/// An empty ledger.
pub fn empty() -> FabricLedgerSpec {
    FabricLedgerSpec {
        version: LEDGER_VERSION,
        sequence: 0,
        entries: Vec::new(),
    }
}

/// The entry that belongs to a slice.
pub fn entry_of(slice: &NetworkSlice) -> LedgerEntry {
    let spec = &slice.spec;
    LedgerEntry {
        base: spec.base,
        size: spec.capacity,
        vlan: spec.rails.first().map_or(0, |rail| rail.vlan),
        owner: LedgerOwner {
            namespace: slice.metadata.namespace.clone().unwrap_or_default(),
            name: spec.network.name.clone(),
            uid: spec.network.uid.clone(),
        },
        sequence: spec.ledger_sequence,
        state: LedgerState::Held,
    }
}

/// Reserves for all `requests` that fit. An owner that already holds an entry gets that one, so asking twice is harmless.
/// What slices hold is entered first, and counts as taken also where the ledger says otherwise of it: nothing new is planned
/// on top of it.
pub fn reserve(ledger: &FabricLedgerSpec, space: &SlotSpace, vlans: VlanRange, requests: &[Request]) -> Outcome {
    let mut next = ledger.clone();
    next.version = LEDGER_VERSION;
    let entered: Vec<_> = requests
        .iter()
        .map(|request| {
            let held = request.held.as_ref()?;
            Some(entry_for(&next, &request.owner).map_or_else(|| enter_again(&mut next, held), Ok))
        })
        .collect();
    let mut taken = next.clone();
    taken
        .entries
        .extend(requests.iter().filter_map(|request| request.held.clone()));
    let results = requests
        .iter()
        .zip(entered)
        .map(|(request, entered)| {
            if let Some(entered) = entered {
                return entered;
            }
            if let Some(entry) = entry_for(&next, &request.owner) {
                return Ok(entry);
            }
            let (base, size) = find_block(&taken, space, request.pods)?;
            let vlan = find_vlan(&taken, vlans)?;
            next.sequence += 1;
            let entry = LedgerEntry {
                base,
                size,
                vlan,
                owner: request.owner.clone(),
                sequence: next.sequence,
                state: LedgerState::Held,
            };
            insert(&mut next, entry.clone());
            taken.entries.push(entry.clone());
            Ok(entry)
        })
        .collect();
    Outcome {
        changed: next.sequence != ledger.sequence,
        ledger: next,
        results,
    }
}

/// What a ledger gives to whom, to be asked about many slices.
pub struct Known<'a>(HashSet<(&'a str, u32, u32, u16)>);

impl<'a> Known<'a> {
    /// All that is in `ledger`.
    pub fn of(ledger: &'a FabricLedgerSpec) -> Self {
        Self(ledger.entries.iter().map(exactly).collect())
    }

    /// Whether the owner of `held` is given exactly that. For what the ledger does not know so, a request with `held` must be
    /// in every batch.
    pub fn has(&self, held: &LedgerEntry) -> bool {
        self.0.contains(&exactly(held))
    }
}

fn exactly(entry: &LedgerEntry) -> (&str, u32, u32, u16) {
    (&entry.owner.uid, entry.base, entry.size, entry.vlan)
}

fn entry_for(ledger: &FabricLedgerSpec, owner: &LedgerOwner) -> Option<LedgerEntry> {
    ledger
        .entries
        .iter()
        .find(|entry| entry.owner.uid == owner.uid)
        .cloned()
}

fn insert(ledger: &mut FabricLedgerSpec, entry: LedgerEntry) {
    let place = ledger.entries.partition_point(|other| other.base < entry.base);
    ledger.entries.insert(place, entry);
}

/// Enters what a slice holds, unless somebody else has any of it.
fn enter_again(ledger: &mut FabricLedgerSpec, held: &LedgerEntry) -> Result<LedgerEntry, Refusal> {
    let slots = |entry: &LedgerEntry| Interval::of(entry.base, entry.size);
    let name = |owner: &LedgerOwner| format!("{}/{}", owner.namespace, owner.name);
    let other = ledger
        .entries
        .iter()
        .find(|other| other.vlan == held.vlan || slots(other).meets(slots(held)));
    if let Some(other) = other {
        return Err(Refusal::LedgerMismatch {
            owner: name(&held.owner),
            base: held.base,
            last: slots(held).end.saturating_sub(1),
            vlan: held.vlan,
            other: name(&other.owner),
            other_base: other.base,
            other_last: slots(other).end.saturating_sub(1),
            other_vlan: other.vlan,
        });
    }
    ledger.sequence = ledger.sequence.max(held.sequence) + 1;
    insert(ledger, held.clone());
    Ok(held.clone())
}

/// The ledger without what `owner_uid` holds; `None` if it holds nothing.
pub fn release(ledger: &FabricLedgerSpec, owner_uid: &str) -> Option<FabricLedgerSpec> {
    let mut next = ledger.clone();
    next.entries.retain(|entry| entry.owner.uid != owner_uid);
    (next.entries.len() != ledger.entries.len()).then(|| {
        next.sequence += 1;
        next
    })
}

/// How full the fabric is.
pub fn usage(ledger: &FabricLedgerSpec, space: &SlotSpace, vlans: VlanRange) -> Usage {
    let held: u64 = ledger.entries.iter().map(|entry| u64::from(entry.size)).sum();
    let slots = u64::from(space.slots()).max(1);
    let vlans_held = ledger
        .entries
        .iter()
        .filter(|e| (vlans.min..=vlans.max).contains(&e.vlan))
        .count();
    Usage {
        used_percent: u32::try_from((held * 100).div_ceil(slots)).unwrap_or(u32::MAX),
        largest_free: largest_free(ledger, space),
        vlans_free: vlan_count(vlans).saturating_sub(u32::try_from(vlans_held).unwrap_or(u32::MAX)),
    }
}

fn vlan_count(vlans: VlanRange) -> u32 {
    u32::from(vlans.max.saturating_sub(vlans.min)) + 1
}

fn find_vlan(ledger: &FabricLedgerSpec, vlans: VlanRange) -> Result<u16, Refusal> {
    let held: HashSet<u16> = ledger.entries.iter().map(|entry| entry.vlan).collect();
    (vlans.min..=vlans.max)
        .find(|vlan| !held.contains(vlan))
        .ok_or(Refusal::VlanExhausted {
            total: vlan_count(vlans),
            min: vlans.min,
            max: vlans.max,
        })
}

fn find_block(ledger: &FabricLedgerSpec, space: &SlotSpace, pods: u32) -> Result<(u32, u32), Refusal> {
    let needed = u64::from(pods).next_power_of_two();
    let refusal = || Refusal::PoolExhausted {
        pods,
        needed,
        largest: largest_free(ledger, space).unwrap_or(0),
    };
    let size = u32::try_from(needed).map_err(|_| refusal())?;
    let mut blocks = free_blocks(ledger, space);
    blocks.retain(|block| block.end - block.start >= size);
    blocks.sort_unstable_by_key(|block| (block.end - block.start, block.start));
    let edges: Vec<Interval> = space
        .layout()
        .iter()
        .flat_map(|pool| [Interval::of(pool.start, 1), Interval::of(pool.end - 1, 1)])
        .collect();
    let without_edges = blocks
        .iter()
        .find_map(|block| place(*block, size, pods, &[space.excluded(), &edges]));
    without_edges
        .or_else(|| {
            blocks
                .iter()
                .find_map(|block| place(*block, size, pods, &[space.excluded()]))
        })
        .map(|base| (base, size))
        .ok_or_else(refusal)
}

/// The lowest base in `block`, aligned to `size`, whose first `pods` slots meet none of the `forbidden` intervals.
fn place(block: Interval, size: u32, pods: u32, forbidden: &[&[Interval]]) -> Option<u32> {
    let mut base = block.start;
    while base.checked_add(size).is_some_and(|end| end <= block.end) {
        let wanted = Interval::of(base, pods);
        match forbidden
            .iter()
            .flat_map(|list| list.iter())
            .filter(|f| f.meets(wanted))
            .map(|f| f.end)
            .max()
        {
            None => return Some(base),
            Some(end) => base = end.checked_next_multiple_of(size)?,
        }
    }
    None
}

/// The largest network that would still fit, in pods rounded to a power of two.
fn largest_free(ledger: &FabricLedgerSpec, space: &SlotSpace) -> Option<u32> {
    let blocks = free_blocks(ledger, space);
    let mut size = blocks.iter().map(|block| block.end - block.start).max()?;
    while size > 0 {
        if blocks
            .iter()
            .any(|block| block.end - block.start >= size && place(*block, size, size, &[space.excluded()]).is_some())
        {
            return Some(size);
        }
        size /= 2;
    }
    None
}

/// The free slots as maximal aligned power-of-two blocks.
fn free_blocks(ledger: &FabricLedgerSpec, space: &SlotSpace) -> Vec<Interval> {
    let mut held: Vec<Interval> = ledger
        .entries
        .iter()
        .map(|entry| Interval::of(entry.base, entry.size))
        .collect();
    held.sort_unstable();
    let mut blocks = Vec::new();
    for pool in space.layout() {
        let mut at = pool.start;
        for taken in held.iter().filter(|taken| taken.meets(*pool)) {
            split(at, taken.start.max(at), &mut blocks);
            at = at.max(taken.end);
        }
        split(at, pool.end, &mut blocks);
    }
    blocks
}

fn split(mut start: u32, end: u32, blocks: &mut Vec<Interval>) {
    while start < end {
        let aligned = if start == 0 {
            u32::MAX
        } else {
            1 << start.trailing_zeros()
        };
        let size = aligned.min(1 << (end - start).ilog2());
        blocks.push(Interval::of(start, size));
        start += size;
    }
}

#[cfg(test)]
mod tests;
