//! Reservations: which aligned block of slots and which VLAN a network gets, and what becomes of a ledger that others wrote.

mod believed;
mod bounds;
mod contested;
mod free;
mod refused;
mod rest;
pub mod restored;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use railhead_crds::{
    FabricLedgerSpec, LedgerEntry, LedgerInterval, LedgerOwner, LedgerState, LedgerTakes, NetworkSlice,
};
use serde_json::Value;

pub use self::{
    believed::{Doubted, Said, doubted, is_block},
    contested::{About, Contradiction, Source, Word, contested, contradictions},
    free::{Usage, usage},
    refused::{Holding, Kept, Newer, Refusal, not_said},
    rest::{any_rests, has_rested, next_to_wake, rests},
};
use self::{
    bounds::Counter,
    free::{Taken, find_block, find_vlan},
    rest::Rest,
};
use crate::{
    pools::{self, Laid, Written},
    quota::{self, Bounds},
    slots::Interval,
};

/// The latest version of the ledger's format that is understood here. What is later is neither planned with nor written.
pub const LEDGER_VERSION: u32 = 2;

/// A network that wants a reservation.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The network.
    pub owner: LedgerOwner,
    /// What it asks for.
    pub wanted: Wanted,
}

/// What a network asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A block and a VLAN of its fabric.
    Block {
        /// For how many pods it needs addresses.
        pods: u32,
        /// What it takes of the limits of its namespace.
        takes: LedgerTakes,
        /// What the fabric says of its pools and VLANs.
        written: Arc<Written>,
    },
    /// More than its entry says that it takes, in the block that it has.
    More {
        /// What it is to take.
        takes: LedgerTakes,
    },
    /// What its slice says that it holds. That is entered as it is, and nothing of it is given to another, also where it
    /// cannot be entered.
    Held(Box<LedgerEntry>),
}

impl Request {
    /// What the network of a slice asks for where the ledger does not know it.
    pub fn of_slice(slice: &NetworkSlice) -> Self {
        let entry = entry_of(slice);
        Self {
            owner: entry.owner.clone(),
            wanted: Wanted::Held(Box::new(entry)),
        }
    }

    fn held(&self) -> Option<&LedgerEntry> {
        match &self.wanted {
            Wanted::Held(entry) => Some(entry),
            Wanted::Block { .. } | Wanted::More { .. } => None,
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

/// An empty ledger.
pub fn empty() -> FabricLedgerSpec {
    FabricLedgerSpec {
        version: 1,
        ..FabricLedgerSpec::default()
    }
}

/// A ledger without what nobody may write here.
pub fn check_version(ledger: &FabricLedgerSpec) -> Result<(), Newer> {
    if ledger.version > LEDGER_VERSION {
        return Err(Newer { found: ledger.version });
    }
    Ok(())
}

/// What JSON carries exactly. No ledger counts so far in its life.
const LARGEST_SEQUENCE: u64 = 1 << 53;

/// Whether the ledger can count on from where it is. Else somebody wrote the number, and no change of it could be stored.
pub fn can_count(ledger: &FabricLedgerSpec) -> bool {
    ledger.sequence < LARGEST_SEQUENCE
}

/// The version to write: the lowest that can say it, and never one below what was read.
fn version(ledger: &FabricLedgerSpec) -> u32 {
    let first_can_say = |entry: &LedgerEntry| {
        entry.vlan.is_some()
            && entry.state == LedgerState::Held
            && matches!(&entry.intervals[..], [only] if only.unknown.is_empty())
    };
    let lowest = if ledger.entries.iter().all(first_can_say) { 1 } else { 2 };
    ledger.version.max(lowest)
}

/// The entry that belongs to a slice.
pub fn entry_of(slice: &NetworkSlice) -> LedgerEntry {
    let spec = &slice.spec;
    let namespace = slice.metadata.namespace.clone().unwrap_or_default();
    LedgerEntry {
        intervals: vec![LedgerInterval::new(spec.base, spec.capacity)],
        vlan: spec.rails.first().and_then(|rail| rail.vlan),
        owner: LedgerOwner::new(namespace, &spec.network.name, &spec.network.uid),
        takes: Some(quota::taken_by(slice)),
        sequence: spec.ledger_sequence,
        state: LedgerState::Held,
        rests_until: None,
        node: None,
        unknown: BTreeMap::new(),
    }
}

/// Reserves for all `requests` that fit, each of the pools that it knows of. An owner that already holds an entry gets that
/// one, so asking twice is harmless. What slices hold is entered first, and counts as taken also where the ledger says
/// otherwise of it: nothing new is planned on top of it. `slices` are those of the fabric that are known. What goes beyond
/// `bounds` gets nothing; what is given is given in the order of asking.
pub fn reserve<S: Borrow<NetworkSlice>>(
    ledger: &FabricLedgerSpec,
    slices: &[S],
    requests: &[Request],
    bounds: &Bounds,
) -> Outcome {
    let mut next = ledger.clone();
    if let Err(newer) = check_version(ledger) {
        return Outcome {
            ledger: next,
            changed: false,
            results: requests.iter().map(|_| Err(newer.into())).collect(),
        };
    }
    drop_what_slices_of_others_have(&mut next, requests);
    let entered: Vec<_> = requests
        .iter()
        .map(|request| {
            let held = request.held()?;
            Some(entry_for(&next, &request.owner).map_or_else(|| enter_again(&mut next, held), Ok))
        })
        .collect();
    // What is in the ledger, and what slices hold.
    let mut all = next.entries.clone();
    all.extend(requests.iter().filter_map(Request::held).cloned());
    let mut owners: HashSet<String> = next.entries.iter().map(|entry| entry.owner.uid.clone()).collect();
    let mut taken = Taken::by(&all);
    let mut rest = Rest::of(&all);
    let mut counter = Counter::of(bounds, &all, slices, requests);
    let mut known: Option<(&Arc<Written>, Laid)> = None;
    let results = requests
        .iter()
        .zip(entered)
        .map(|(request, entered)| match (&request.wanted, entered) {
            (_, Some(entered)) => entered,
            (Wanted::Held(held), None) => Ok((**held).clone()),
            (Wanted::More { takes }, None) => counter.raise(&mut next, &request.owner, takes),
            (Wanted::Block { pods, takes, written }, None) => {
                let known_entry = owners
                    .contains(&request.owner.uid)
                    .then(|| entry_for(&next, &request.owner));
                if let Some(entry) = known_entry.flatten() {
                    if restored::is_quarantined(&entry) {
                        let held = Box::new(entry);
                        return Err(Refusal::Quarantined { held });
                    }
                    let entry = uncontested(&all, entry)?;
                    // Its class may be another since, and there is no slice yet that says what it got.
                    return if counter.is_bound(&request.owner) {
                        counter.raise(&mut next, &request.owner, takes)
                    } else {
                        Ok(entry)
                    };
                }
                counter.check(&request.owner, takes)?;
                if known.as_ref().is_none_or(|(before, _)| *before != written) {
                    known = Some((written, pools::lay_out(written, &next, slices)));
                }
                let laid = known.as_ref().map(|(_, laid)| laid).ok_or(Refusal::FabricGone)?;
                let block = |taken: &Taken| find_block(taken, &laid.space, *pods);
                let (base, size) = block(&taken).map_err(|why| rest.or_rests(why, block))?;
                let vlan = |taken: &Taken| find_vlan(taken, written.vlans);
                let vlan = vlan(&taken).map_err(|why| rest.or_rests(why, vlan))?;
                note(&mut next, laid, base);
                next.sequence += 1;
                let entry = LedgerEntry {
                    intervals: vec![LedgerInterval::new(base, size)],
                    vlan: Some(vlan),
                    owner: request.owner.clone(),
                    takes: Some(takes.clone()),
                    sequence: next.sequence,
                    state: LedgerState::Held,
                    rests_until: None,
                    node: None,
                    unknown: BTreeMap::new(),
                };
                insert(&mut next, entry.clone());
                owners.insert(entry.owner.uid.clone());
                all.push(entry.clone());
                taken.take(&entry);
                rest.take(&entry);
                counter.take(&entry);
                Ok(entry)
            }
        })
        .collect();
    if let Some((_, laid)) = known.filter(|_| next.sequence != ledger.sequence) {
        next.pools = laid.rows_of(|place| all.iter().flat_map(slots).any(|slots| slots.meets(place)));
    }
    next.version = version(&next);
    Outcome {
        changed: next.sequence != ledger.sequence,
        ledger: next,
        results,
    }
}

/// Records the row in which a block is given: from here on it keeps its slots.
fn note(ledger: &mut FabricLedgerSpec, laid: &Laid, base: u32) {
    for row in laid.rows_of(|place| Interval::of(base, 1).meets(place)) {
        ledger.pools.retain(|before| before.base != row.base);
        ledger.pools.push(row);
    }
}

/// What a ledger gives to whom, to be asked about many slices.
pub struct Known<'a>(HashSet<(&'a str, Interval, Option<u16>)>);

impl<'a> Known<'a> {
    /// All that is in `ledger`.
    pub fn of(ledger: &'a FabricLedgerSpec) -> Self {
        let held = ledger.entries.iter().filter(|entry| !rests(entry));
        Self(held.flat_map(exactly).collect())
    }

    /// Whether the owner of `held` is given exactly that. For what the ledger does not know so, a request with `held` must be
    /// in every batch.
    pub fn has(&self, held: &LedgerEntry) -> bool {
        exactly(held).all(|what| self.0.contains(&what))
    }
}

fn exactly(entry: &LedgerEntry) -> impl Iterator<Item = (&str, Interval, Option<u16>)> {
    slots(entry).map(|slots| (entry.owner.uid.as_str(), slots, entry.vlan))
}

/// The slots of an entry.
fn slots(entry: &LedgerEntry) -> impl Iterator<Item = Interval> {
    entry
        .intervals
        .iter()
        .map(|interval| Interval::of(interval.base, interval.size))
}

fn entry_for(ledger: &FabricLedgerSpec, owner: &LedgerOwner) -> Option<LedgerEntry> {
    ledger
        .entries
        .iter()
        .find(|entry| entry.owner.uid == owner.uid && !rests(entry))
        .cloned()
}

/// What a network without a slice holds, unless somebody else has any of it: a ledger that was edited by hand may say so.
fn uncontested(all: &[LedgerEntry], entry: LedgerEntry) -> Result<LedgerEntry, Refusal> {
    let is_anothers = |other: &&LedgerEntry| other.owner.uid != entry.owner.uid && collide(other, &entry);
    match all.iter().find(is_anothers).cloned() {
        None => Ok(entry),
        Some(other) => Err(Refusal::Contested {
            held: Box::new(entry),
            given: Box::new(other),
        }),
    }
}

/// A backup brings back what a network had that has no slice yet; meanwhile that may have become another's, who has a slice.
fn drop_what_slices_of_others_have(ledger: &mut FabricLedgerSpec, requests: &[Request]) {
    let held: Vec<&LedgerEntry> = requests.iter().filter_map(Request::held).collect();
    if held.is_empty() {
        return;
    }
    let asking = requests
        .iter()
        .filter(|request| matches!(request.wanted, Wanted::Block { .. }));
    let asking: HashSet<&str> = asking.map(|request| request.owner.uid.as_str()).collect();
    let before = ledger.entries.len();
    ledger.entries.retain(|entry| {
        let is_anothers = |held: &&LedgerEntry| held.owner.uid != entry.owner.uid && collide(held, entry);
        // Pods have what is quarantined, whatever slices say.
        restored::is_quarantined(entry) || !asking.contains(entry.owner.uid.as_str()) || !held.iter().any(is_anothers)
    });
    if ledger.entries.len() != before {
        ledger.sequence += 1;
    }
}

fn first_slot(entry: &LedgerEntry) -> u32 {
    slots(entry).map(|slots| slots.start).min().unwrap_or(0)
}

fn insert(ledger: &mut FabricLedgerSpec, entry: LedgerEntry) {
    let first = first_slot(&entry);
    let place = ledger.entries.partition_point(|other| first_slot(other) < first);
    ledger.entries.insert(place, entry);
}

/// Whether two networks cannot have these two at a time.
fn collide(one: &LedgerEntry, other: &LedgerEntry) -> bool {
    let same_vlan = one.vlan.is_some() && one.vlan == other.vlan;
    same_vlan || share_slots(one, other)
}

fn share_slots(one: &LedgerEntry, other: &LedgerEntry) -> bool {
    slots(one).any(|mine| slots(other).any(|theirs| mine.meets(theirs)))
}

/// Enters what a slice holds, unless somebody else has any of it.
fn enter_again(ledger: &mut FabricLedgerSpec, held: &LedgerEntry) -> Result<LedgerEntry, Refusal> {
    // What a slice has was given back too early, and rests: it is the slice's again.
    let is_its_own = |other: &LedgerEntry| rests(other) && other.owner.uid == held.owner.uid;
    let mut others = ledger.entries.iter().filter(|other| !is_its_own(other));
    if let Some(other) = others.find(|other| collide(other, held)) {
        return Err(Refusal::LedgerMismatch {
            held: Box::new(held.clone()),
            given: Box::new(other.clone()),
        });
    }
    ledger.entries.retain(|other| !is_its_own(other));
    ledger.sequence = ledger.sequence.max(held.sequence) + 1;
    insert(ledger, held.clone());
    Ok(held.clone())
}

/// A new ledger from what slices hold.
pub fn from_held(entries: impl IntoIterator<Item = LedgerEntry>) -> FabricLedgerSpec {
    let mut ledger = empty();
    ledger.entries = entries.into_iter().collect();
    ledger.entries.sort_by_key(first_slot);
    ledger.sequence = ledger.entries.iter().map(|entry| entry.sequence).max().unwrap_or(0);
    ledger.version = version(&ledger);
    ledger
}

/// Whether a ledger says anything of the network with this UID, in whatever field. What it means may not be known here.
pub fn speaks_of(ledger: &Value, uid: &str) -> bool {
    match ledger {
        Value::String(text) => text.contains(uid),
        Value::Array(list) => list.iter().any(|item| speaks_of(item, uid)),
        Value::Object(fields) => fields
            .iter()
            .any(|(field, value)| field.contains(uid) || speaks_of(value, uid)),
        _ => false,
    }
}

/// The ledger when `owner_uid` has given back what it holds at `now`; `None` if nothing changes. That rests for so long: it is
/// nobody's, and given to nobody before then. What of it has rested goes.
///
/// # Errors
///
/// What a later release has written is not freed.
pub fn release(
    ledger: &FabricLedgerSpec,
    owner_uid: &str,
    now: Timestamp,
    rest: SignedDuration,
) -> Result<Option<FabricLedgerSpec>, Kept> {
    if let Err(newer) = check_version(ledger) {
        // What came as JSON can be written as JSON.
        let written = serde_json::to_value(ledger).unwrap_or_default();
        return if speaks_of(&written, owner_uid) {
            Err(newer.into())
        } else {
            Ok(None)
        };
    }
    let is_owners = |entry: &LedgerEntry| entry.owner.uid == owner_uid;
    for entry in ledger.entries.iter().filter(|entry| is_owners(entry)) {
        if let LedgerState::Unknown(state) = &entry.state {
            return Err(Kept::State {
                owner: Box::new(entry.owner.clone()),
                state: state.clone(),
            });
        }
    }
    let mut next = ledger.clone();
    for entry in next
        .entries
        .iter_mut()
        .filter(|entry| is_owners(entry) && !rests(entry) && !restored::is_quarantined(entry))
    {
        entry.state = LedgerState::Resting;
        entry.rests_until = Some(Time(now.saturating_add(rest).unwrap_or(now)));
    }
    next.entries
        .retain(|entry| !is_owners(entry) || !has_rested(entry, now));
    if next.entries == ledger.entries {
        return Ok(None);
    }
    next.sequence += 1;
    next.version = version(&next);
    Ok(Some(next))
}

#[cfg(test)]
pub(crate) mod tests;
