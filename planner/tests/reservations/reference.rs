//! What must hold, by sets of addresses, VLANs and slots and by arithmetic of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::Ipv4Addr,
};

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerState, Rail, VlanRange};
use railhead_planner::{
    attachment,
    ledger::{self, Outcome, Refusal, Request, Wanted},
};

use crate::world::{World, is_for_room};

/// No address, no MAC address and no VLAN of a fabric is in two slices.
pub(crate) fn nothing_is_held_twice(world: &World) -> Result<(), TestCaseError> {
    let mut addresses = BTreeSet::new();
    let mut macs = BTreeSet::new();
    let mut vlans = BTreeSet::new();
    for (fabric, slice) in world.slices.values() {
        let spec = &slice.spec;
        prop_assert!(spec.pods <= spec.capacity, "{spec:?}");
        for rail in &spec.rails {
            prop_assert_eq!(rail.prefixes.len(), 1);
            let prefix = rail.prefixes[0].prefix.to_string();
            let (first, length) = prefix.split_once('/').unwrap_or_default();
            let first: Ipv4Addr = first.parse().map_err(|_| TestCaseError::fail(prefix.clone()))?;
            prop_assert_eq!(length, (32 - spec.capacity.ilog2()).to_string());
            for index in 0..spec.capacity {
                let address = Ipv4Addr::from(u32::from(first) + index);
                prop_assert!(
                    addresses.insert(address),
                    "{address} of {} is another's too",
                    spec.network.name
                );
            }
            for index in 0..spec.pods {
                let mac = attachment::mac(&spec.fabric.uid, rail.id, spec.base + index);
                prop_assert!(macs.insert((*fabric, mac.to_string())), "{mac} is another's too");
            }
        }
        let vlan = spec.rails.iter().map(|rail| rail.vlan).collect::<BTreeSet<_>>();
        prop_assert_eq!(vlan.len(), 1, "one VLAN on all rails");
        for vlan in vlan.into_iter().flatten() {
            prop_assert!(
                vlans.insert((*fabric, vlan)),
                "VLAN {vlan} of {} is another's too",
                spec.network.name
            );
        }
    }
    Ok(())
}

/// Whatever a slice has is in the ledger, unless somebody damaged that and no operator has looked since, or gave it to another.
pub(crate) fn nothing_is_lost(world: &World) -> Result<(), TestCaseError> {
    for (fabric, slice) in world.slices.values() {
        let stored = &world.ledgers[*fabric];
        let held = ledger::entry_of(slice);
        let entries = &stored.spec.entries;
        let is_there = entries.iter().any(|entry| same(entry, &held));
        let is_contested = entries
            .iter()
            .any(|entry| meet(entry, &held) || entry.owner == held.owner);
        prop_assert!(
            is_there || is_contested || stored.is_damaged,
            "{held:?} is lost: {entries:?}"
        );
    }
    Ok(())
}

fn same(entry: &LedgerEntry, held: &LedgerEntry) -> bool {
    (slots(entry), entry.vlan, &entry.owner.uid) == (slots(held), held.vlan, &held.owner.uid)
}

fn slots(entry: &LedgerEntry) -> BTreeSet<u32> {
    let intervals = entry.intervals.iter();
    intervals
        .flat_map(|interval| interval.base..interval.base + interval.size)
        .collect()
}

fn meet(one: &LedgerEntry, other: &LedgerEntry) -> bool {
    (one.vlan.is_some() && one.vlan == other.vlan) || !slots(one).is_disjoint(&slots(other))
}

/// Whoever gives back has nothing any more, but what rests; of what rests only what has rested goes, and all that others have stays.
pub(crate) fn only_its_own_is_released(
    before: &FabricLedgerSpec,
    after: Option<&FabricLedgerSpec>,
    uid: &str,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    let of = |ledger: &FabricLedgerSpec, its: bool| -> Vec<LedgerEntry> {
        let entries = ledger.entries.iter();
        entries
            .filter(|entry| (entry.owner.uid == uid) == its)
            .cloned()
            .collect()
    };
    let rest_left = |entry: &LedgerEntry| match &entry.rests_until {
        Some(until) => entry.state == LedgerState::Resting && until.0 > now,
        None => false,
    };
    let after = after.unwrap_or(before);
    prop_assert_eq!(
        of(after, false),
        of(before, false),
        "releasing {} changed what others have",
        uid
    );
    prop_assert!(
        of(after, true).iter().all(rest_left),
        "{uid} keeps something: {after:?}"
    );
    let kept = of(before, true)
        .into_iter()
        .filter(|entry| entry.state != LedgerState::Resting || rest_left(entry));
    prop_assert_eq!(of(after, true).len(), kept.count(), "something of {} did not rest", uid);
    Ok(())
}

/// The pools of one place in the rails' lists.
struct Line {
    /// One of every rail.
    cidrs: BTreeSet<String>,
    size: u32,
    /// How far from the first address those are that no pod may have.
    never: HashSet<u32>,
}

/// What is free on a fabric, slot by slot. Which slots a line has is the ledger's to say, once somebody has some of them.
pub(crate) struct Room {
    lines: Vec<Line>,
    /// Nobody can tell where there is room.
    was_damaged: bool,
    taken: HashSet<u32>,
    vlans: BTreeSet<u16>,
    by_owner: BTreeMap<String, LedgerEntry>,
}

impl Room {
    /// What is free beside what a ledger and the slices of `requests` hold.
    pub(crate) fn of(
        rails: &[Rail],
        vlans: VlanRange,
        ledger: &FabricLedgerSpec,
        requests: &[Request],
        was_damaged: bool,
    ) -> Self {
        let line = |place: usize| {
            let pools = || rails.iter().map(|rail| &rail.pools[place]);
            let cidr = &rails[0].pools[place].cidr;
            let length: u32 = cidr.rsplit('/').next().and_then(|l| l.parse().ok()).unwrap_or(32);
            // Single addresses of a pool whose last number is its own.
            let last = |excluded: &String| excluded.trim_end_matches("/32").rsplit('.').next()?.parse().ok();
            Line {
                cidrs: pools().map(|pool| pool.cidr.clone()).collect(),
                size: 1 << (32 - length),
                never: pools().flat_map(|pool| &pool.exclude).filter_map(last).collect(),
            }
        };
        let mut room = Self {
            lines: (0..rails[0].pools.len()).map(line).collect(),
            was_damaged,
            taken: HashSet::new(),
            vlans: (vlans.min..=vlans.max).collect(),
            by_owner: BTreeMap::new(),
        };
        for entry in ledger
            .entries
            .iter()
            .filter(|entry| entry.state != LedgerState::Resting)
        {
            room.by_owner.entry(entry.owner.uid.clone()).or_insert(entry.clone());
        }
        let held = requests.iter().filter_map(held_of);
        for entry in ledger.entries.iter().chain(held) {
            room.take(entry);
        }
        room
    }

    fn take(&mut self, entry: &LedgerEntry) {
        self.taken.extend(slots(entry));
        if let Some(vlan) = entry.vlan {
            self.vlans.remove(&vlan);
        }
    }

    /// The lines that a ledger says something of, with their first slots.
    fn recorded<'a>(&'a self, ledger: &'a FabricLedgerSpec) -> impl Iterator<Item = (&'a Line, u32)> {
        ledger.pools.iter().filter_map(|pool| {
            let cidrs: BTreeSet<String> = pool.rails.iter().map(|rail| rail.cidr.clone()).collect();
            let line = self.lines.iter().find(|line| line.cidrs == cidrs)?;
            Some((line, pool.base))
        })
    }

    /// An aligned block of one line, of which nothing is taken and whose first `pods` may be pods'. A line that the ledger says
    /// nothing of is nobody's.
    fn has_block(&self, ledger: &FabricLedgerSpec, pods: u32) -> bool {
        let size = pods.next_power_of_two();
        self.lines.iter().any(|line| {
            let first = self.recorded(ledger).find(|(of, _)| of.cidrs == line.cidrs);
            let is_taken = |offset: u32| first.is_some_and(|(_, first)| self.taken.contains(&(first + offset)));
            let mut blocks = (0..line.size / size).map(|number| number * size);
            blocks.any(|base| {
                (base..base + size).all(|offset| !is_taken(offset))
                    && (base..base + pods).all(|offset| !line.never.contains(&offset))
            })
        })
    }

    /// No slot has two pools, and no pool two places.
    fn rows_are_apart(&self, ledger: &FabricLedgerSpec) -> Result<(), TestCaseError> {
        let mut slots = HashSet::new();
        let mut cidrs = HashSet::new();
        for (line, first) in self.recorded(ledger) {
            prop_assert_eq!(first % line.size, 0, "{:?}", ledger.pools);
            prop_assert!(
                (first..first + line.size).all(|slot| slots.insert(slot)),
                "{:?}",
                ledger.pools
            );
        }
        for rail in ledger.pools.iter().flat_map(|pool| &pool.rails) {
            prop_assert!(cidrs.insert(&rail.cidr), "{:?}", ledger.pools);
        }
        Ok(())
    }

    /// Whether each answer is the one that there had to be, in the order of asking.
    pub(crate) fn agrees(mut self, outcome: &Outcome, requests: &[Request]) -> Result<(), TestCaseError> {
        prop_assert_eq!(outcome.results.len(), requests.len());
        self.rows_are_apart(&outcome.ledger)?;
        for (request, result) in requests.iter().zip(&outcome.results) {
            let before = self.by_owner.get(&request.owner.uid).cloned();
            match (result, &request.wanted) {
                (Ok(entry), _) if before.as_ref() == Some(entry) => {}
                (Ok(entry), Wanted::Held(held)) => prop_assert!(same(entry, held), "{entry:?} is not {held:?}"),
                (Ok(entry), Wanted::Block { pods, .. }) => {
                    self.fits(&outcome.ledger, entry, *pods)?;
                    self.take(entry);
                }
                (Err(refusal @ (Refusal::LedgerMismatch { held, .. } | Refusal::Contested { held, .. })), _) => {
                    prop_assert_eq!(&held.owner, &request.owner);
                    let others = outcome.ledger.entries.iter();
                    let mut others = others.chain(requests.iter().filter_map(held_of));
                    prop_assert!(
                        others.any(|entry| entry.owner != held.owner && meet(entry, held)),
                        "{refusal}"
                    );
                }
                (Err(refusal @ Refusal::Rests { .. }), Wanted::Block { pods, .. }) => {
                    prop_assert!(
                        self.was_damaged || !self.has_block(&outcome.ledger, *pods) || self.vlans.is_empty(),
                        "there is room: {refusal}"
                    );
                    let rest = outcome
                        .ledger
                        .entries
                        .iter()
                        .filter(|entry| entry.state == LedgerState::Resting);
                    prop_assert!(rest.count() > 0, "nothing rests: {refusal}");
                }
                (Err(refusal), Wanted::Block { pods, .. }) if is_for_room(refusal) => {
                    prop_assert!(
                        self.was_damaged || !self.has_block(&outcome.ledger, *pods),
                        "there is room: {refusal}"
                    );
                }
                (Err(refusal @ Refusal::VlanExhausted { .. }), Wanted::Block { .. }) => {
                    prop_assert!(self.vlans.is_empty(), "there are VLANs: {refusal}");
                }
                (Ok(_), wanted @ Wanted::More { .. }) => prop_assert!(false, "nobody asks here for {wanted:?}"),
                (Err(refusal), wanted) => prop_assert!(false, "{wanted:?} is refused: {refusal}"),
            }
        }
        Ok(())
    }

    /// Whether a block is one that nobody has, aligned, in one line and free of what no pod may have.
    fn fits(&self, ledger: &FabricLedgerSpec, entry: &LedgerEntry, pods: u32) -> Result<(), TestCaseError> {
        let size = pods.next_power_of_two();
        prop_assert_eq!(entry.intervals.len(), 1);
        let (base, its_size) = (entry.intervals[0].base, entry.intervals[0].size);
        prop_assert!(its_size == size && base % size == 0, "{entry:?}");
        let row = self
            .recorded(ledger)
            .find(|(line, first)| (*first..first + line.size).contains(&base));
        let Some((line, first)) = row.filter(|(line, first)| base + size <= first + line.size) else {
            return Err(TestCaseError::fail(format!(
                "{entry:?} is in none of {:?}",
                ledger.pools
            )));
        };
        prop_assert!(
            slots(entry).iter().all(|slot| !self.taken.contains(slot)),
            "{entry:?} is taken"
        );
        prop_assert!(
            (base..base + pods).all(|slot| !line.never.contains(&(slot - first))),
            "{entry:?}"
        );
        prop_assert!(
            entry.vlan.is_some_and(|vlan| self.vlans.contains(&vlan)),
            "{entry:?} has no free VLAN"
        );
        Ok(())
    }
}

fn held_of(request: &Request) -> Option<&LedgerEntry> {
    match &request.wanted {
        Wanted::Held(entry) => Some(entry),
        Wanted::Block { .. } | Wanted::More { .. } => None,
    }
}
