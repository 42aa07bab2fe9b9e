//! Reservations: which aligned block of slots and which VLAN a network gets.
//!
//! Best fit among the free aligned blocks keeps large blocks whole. The first and the last address of a pool are used only
//! when nothing else fits, because the kernel makes the last one of a wide prefix a broadcast (the pod then gets a /32).

use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerOwner, LedgerState, VlanRange};
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
}

impl Refusal {
    /// The condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PoolExhausted { .. } => "PoolExhausted",
            Self::VlanExhausted { .. } => "VlanExhausted",
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

/// Reserves for all `requests` that fit. An owner that already holds an entry gets that one, so asking twice is harmless.
pub fn reserve(ledger: &FabricLedgerSpec, space: &SlotSpace, vlans: VlanRange, requests: &[Request]) -> Outcome {
    let mut next = ledger.clone();
    next.version = LEDGER_VERSION;
    let results = requests
        .iter()
        .map(|request| {
            if let Some(entry) = next.entries.iter().find(|entry| entry.owner.uid == request.owner.uid) {
                return Ok(entry.clone());
            }
            let (base, size) = find_block(&next, space, request.pods)?;
            let vlan = find_vlan(&next, vlans)?;
            next.sequence += 1;
            let entry = LedgerEntry {
                base,
                size,
                vlan,
                owner: request.owner.clone(),
                sequence: next.sequence,
                state: LedgerState::Held,
            };
            let place = next.entries.partition_point(|other| other.base < base);
            next.entries.insert(place, entry.clone());
            Ok(entry)
        })
        .collect();
    Outcome {
        changed: next.sequence != ledger.sequence,
        ledger: next,
        results,
    }
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
    (vlans.min..=vlans.max)
        .find(|vlan| ledger.entries.iter().all(|entry| entry.vlan != *vlan))
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::slots::tests::rail;

    const VLANS: VlanRange = VlanRange { min: 1000, max: 1003 };

    fn request(uid: &str, pods: u32) -> Request {
        Request {
            owner: LedgerOwner {
                namespace: "team".into(),
                name: uid.into(),
                uid: uid.into(),
            },
            pods,
        }
    }

    fn space(cidr: &str) -> SlotSpace {
        SlotSpace::new(&[rail(0, &[cidr])]).unwrap()
    }

    #[test]
    fn asking_twice_gives_the_same_block_and_does_not_change_the_ledger() {
        let space = space("10.0.0.0/24");
        let first = reserve(&empty(), &space, VLANS, &[request("a", 5)]);
        let second = reserve(&first.ledger, &space, VLANS, &[request("a", 5)]);
        assert_eq!(first.results, second.results);
        assert!(first.changed && !second.changed);
    }

    #[test]
    fn exactly_as_many_pods_as_addresses_fit() {
        let space = space("10.0.0.0/24");
        let outcome = reserve(&empty(), &space, VLANS, &[request("a", 256)]);
        assert_eq!(outcome.results[0].as_ref().map(|e| (e.base, e.size)), Ok((0, 256)));
        let refused = reserve(&outcome.ledger, &space, VLANS, &[request("b", 1)]);
        assert_eq!(
            refused.results[0],
            Err(Refusal::PoolExhausted {
                pods: 1,
                needed: 1,
                largest: 0
            })
        );
    }

    #[test]
    fn the_first_and_last_address_of_a_pool_are_used_last() {
        let space = space("10.0.0.0/28");
        let outcome = reserve(&empty(), &space, VLANS, &[request("a", 2)]);
        assert_eq!(outcome.results[0].as_ref().map(|e| e.base), Ok(2));
    }

    #[test]
    fn gateways_and_excluded_prefixes_are_never_given_away() {
        let mut rails = [rail(0, &["10.0.0.0/28"]), rail(1, &["10.1.0.0/28"])];
        rails[1].pools[0].gateway = Some("10.1.0.9".into());
        rails[0].pools[0].exclude = vec!["10.0.0.0/29".into()];
        let space = SlotSpace::new(&rails).unwrap();
        let outcome = reserve(&empty(), &space, VLANS, &[request("a", 4), request("b", 4)]);
        assert_eq!(outcome.results[0].as_ref().map(|e| e.base), Ok(12));
        assert_eq!(
            outcome.results[1],
            Err(Refusal::PoolExhausted {
                pods: 4,
                needed: 4,
                largest: 2
            })
        );
    }

    #[test]
    fn a_network_without_a_vlan_gets_no_addresses_either() {
        let space = space("10.0.0.0/24");
        let requests: Vec<Request> = (0..5).map(|i| request(&format!("n{i}"), 2)).collect();
        let outcome = reserve(&empty(), &space, VLANS, &requests);
        assert_eq!(
            outcome.results[4],
            Err(Refusal::VlanExhausted {
                total: 4,
                min: 1000,
                max: 1003
            })
        );
        assert_eq!(outcome.ledger.entries.len(), 4);
    }

    #[test]
    fn more_pods_than_any_pool_has_is_refused_with_numbers() {
        let outcome = reserve(&empty(), &space("10.0.0.0/24"), VLANS, &[request("a", 65536)]);
        let text = outcome.results[0].as_ref().unwrap_err().to_string();
        assert!(
            text.contains("65536 addresses") && text.contains("largest free one has 256"),
            "{text}"
        );
    }

    proptest! {
        /// Promise 1 and 2 at the ledger: whatever comes and goes, no slot and no VLAN is held twice, blocks are aligned
        /// and lie in one pool, and excluded slots reach no pod.
        #[test]
        fn no_slot_and_no_vlan_is_held_twice(steps in prop::collection::vec((0u32..40, 1u32..70, any::<bool>()), 1..60)) {
            let mut rails = [rail(0, &["10.0.0.0/24", "10.2.0.0/23"]), rail(1, &["10.1.0.0/24", "10.4.0.0/23"])];
            rails[0].pools[0].gateway = Some("10.0.0.77".into());
            let space = SlotSpace::new(&rails).unwrap();
            let mut ledger = empty();
            let mut pods = std::collections::BTreeMap::new();
            for (id, count, keep) in steps {
                let uid = format!("n{id}");
                if keep {
                    let outcome = reserve(&ledger, &space, VlanRange { min: 1, max: 30 }, &[request(&uid, count)]);
                    prop_assert_eq!(outcome.changed, outcome.ledger != ledger);
                    if outcome.changed { pods.insert(uid, count); }
                    ledger = outcome.ledger;
                } else if let Some(next) = release(&ledger, &uid) {
                    pods.remove(&uid);
                    ledger = next;
                }
                for (place, entry) in ledger.entries.iter().enumerate() {
                    prop_assert!(entry.size.is_power_of_two() && entry.base % entry.size == 0);
                    prop_assert!(space.prefix(0, entry.base, entry.size).is_some());
                    prop_assert!(space.prefix(1, entry.base, entry.size).is_some());
                    let used = Interval::of(entry.base, pods[&entry.owner.uid]);
                    prop_assert!(pods[&entry.owner.uid] <= entry.size);
                    prop_assert!(!used.meets(Interval::of(77, 1)), "the gateway's slot");
                    for other in &ledger.entries[place + 1..] {
                        prop_assert!(!Interval::of(entry.base, entry.size).meets(Interval::of(other.base, other.size)));
                        prop_assert_ne!(entry.vlan, other.vlan);
                        prop_assert_ne!(&entry.owner.uid, &other.owner.uid);
                    }
                }
            }
        }

        /// What was reserved and released leaves room for everything that fitted before.
        #[test]
        fn releasing_gives_everything_back(sizes in prop::collection::vec(1u32..64, 1..8)) {
            let space = space("10.0.0.0/23");
            let vlans = VlanRange { min: 1, max: 4094 };
            let mut ledger = empty();
            for (id, pods) in sizes.iter().enumerate() {
                ledger = reserve(&ledger, &space, vlans, &[request(&format!("n{id}"), *pods)]).ledger;
            }
            for id in 0..sizes.len() {
                if let Some(next) = release(&ledger, &format!("n{id}")) { ledger = next; }
            }
            prop_assert!(reserve(&ledger, &space, vlans, &[request("all", 512)]).results[0].is_ok());
        }
    }
}
