//! What is free.
//!
//! Best fit among the free aligned blocks keeps large blocks whole. The first and the last address of a pool are used only
//! when nothing else fits, because the kernel makes the last one of a wide prefix a broadcast (the pod then gets a /32).

use railhead_crds::{FabricLedgerSpec, LedgerEntry, VlanRange};

use super::{Refusal, slots};
use crate::slots::{Interval, SlotSpace};

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

/// What somebody has, to be asked many times.
pub(super) struct Taken {
    /// Sorted.
    slots: Vec<Interval>,
    /// By VLAN.
    vlans: Vec<bool>,
}

impl Taken {
    pub(super) fn by<'a>(entries: impl IntoIterator<Item = &'a LedgerEntry>) -> Self {
        let mut taken = Self {
            slots: Vec::new(),
            vlans: vec![false; usize::from(u16::MAX) + 1],
        };
        for entry in entries {
            taken.slots.extend(slots(entry));
            taken.take_vlan(entry);
        }
        taken.slots.sort_unstable();
        taken
    }

    /// Somebody got this.
    pub(super) fn take(&mut self, entry: &LedgerEntry) {
        for slots in slots(entry) {
            let place = self.slots.partition_point(|other| *other < slots);
            self.slots.insert(place, slots);
        }
        self.take_vlan(entry);
    }

    fn take_vlan(&mut self, entry: &LedgerEntry) {
        if let Some(vlan) = entry.vlan {
            self.vlans[usize::from(vlan)] = true;
        }
    }

    fn has_vlan(&self, vlan: u16) -> bool {
        self.vlans[usize::from(vlan)]
    }
}

/// How full the fabric is.
pub fn usage(ledger: &FabricLedgerSpec, space: &SlotSpace, vlans: VlanRange) -> Usage {
    let sizes = ledger.entries.iter().flat_map(|entry| &entry.intervals);
    let held: u64 = sizes.map(|interval| u64::from(interval.size)).sum();
    let total = u64::from(space.slots()).max(1);
    let vlans_held = ledger
        .entries
        .iter()
        .filter_map(|entry| entry.vlan)
        .filter(|vlan| (vlans.min..=vlans.max).contains(vlan))
        .count();
    Usage {
        used_percent: u32::try_from((held * 100).div_ceil(total)).unwrap_or(u32::MAX),
        largest_free: largest_free(&Taken::by(&ledger.entries), space),
        vlans_free: vlan_count(vlans).saturating_sub(u32::try_from(vlans_held).unwrap_or(u32::MAX)),
    }
}

fn vlan_count(vlans: VlanRange) -> u32 {
    u32::from(vlans.max.saturating_sub(vlans.min)) + 1
}

pub(super) fn find_vlan(taken: &Taken, vlans: VlanRange) -> Result<u16, Refusal> {
    (vlans.min..=vlans.max)
        .find(|vlan| !taken.has_vlan(*vlan))
        .ok_or(Refusal::VlanExhausted {
            total: vlan_count(vlans),
            min: vlans.min,
            max: vlans.max,
        })
}

pub(super) fn find_block(taken: &Taken, space: &SlotSpace, pods: u32) -> Result<(u32, u32), Refusal> {
    let needed = u64::from(pods).next_power_of_two();
    let refusal = || Refusal::PoolExhausted {
        pods,
        needed,
        largest: largest_free(taken, space).unwrap_or(0),
        closed: space.closed().to_vec(),
    };
    if space.layout().is_empty() {
        return Err(Refusal::NoPool {
            closed: space.closed().to_vec(),
        });
    }
    let size = u32::try_from(needed).map_err(|_| refusal())?;
    let mut blocks = free_blocks(taken, space);
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
fn largest_free(taken: &Taken, space: &SlotSpace) -> Option<u32> {
    let blocks = free_blocks(taken, space);
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
fn free_blocks(taken: &Taken, space: &SlotSpace) -> Vec<Interval> {
    let mut blocks = Vec::new();
    for pool in space.layout() {
        let mut at = pool.start;
        for held in taken.slots.iter().filter(|held| held.meets(*pool)) {
            split(at, held.start.max(at), &mut blocks);
            at = at.max(held.end);
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
