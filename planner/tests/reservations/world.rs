//! What the API server holds and what two operators do with it, as far as reservations go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proptest::{prelude::*, sample::Index};
use railhead_crds::{
    Bandwidth, Fabric, FabricLedgerSpec, LedgerEntry, LedgerOwner, LedgerPool, LedgerTakes, NetworkSlice, NodeNetwork,
    QosClass, TrainingNetwork, VlanRange,
};
use railhead_planner::{
    ledger::{self, Known, Refusal, Request, Wanted},
    network,
    pools::{self, Written},
    quota::Bounds,
    tenant::Tenant,
};
use serde_json::{Value, json};

use crate::reference::{self, Room};

pub(crate) const FABRICS: usize = 2;
pub(crate) const OPERATORS: usize = 2;
const RAILS: u32 = 2;
/// Addresses in the pool that every fabric begins with.
pub(crate) const LARGEST_POOL: u32 = 64;
/// How long what was given back rests.
pub(crate) const REST_SECONDS: i64 = 300;
const NO_NODES: &[NodeNetwork] = &[];
/// Class and fabrics are for everybody.
const ANYBODY: Tenant<'static> = Tenant {
    namespace: "team",
    has: &|_, _| false,
};

/// A stored ledger. Whoever writes it must have read this version.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) spec: FabricLedgerSpec,
    /// Somebody damaged it, and no operator has written it since.
    pub(crate) is_damaged: bool,
    /// Somebody damaged it since it was empty: it may say of slots what no pool has, so that nobody can tell where there is room.
    pub(crate) was_damaged: bool,
    /// All that it ever was: what a backup may bring back.
    copies: Vec<FabricLedgerSpec>,
}

impl Stored {
    fn write(&mut self, spec: FabricLedgerSpec) {
        self.copies.push(spec.clone());
        self.spec = spec;
        self.version += 1;
    }
}

/// What an operator read at one time.
#[derive(Clone, Debug)]
struct Reading {
    at: Timestamp,
    fabric: usize,
    version: u64,
    spec: FabricLedgerSpec,
    /// Of slices that the ledger does not know as they are.
    lost: Vec<Request>,
    slices: Vec<NetworkSlice>,
    waiting: Vec<TrainingNetwork>,
}

/// What an operator got for a network.
#[derive(Clone, Debug)]
struct Grant {
    at: Timestamp,
    fabric: usize,
    network: TrainingNetwork,
    entry: LedgerEntry,
    /// In which it lies.
    pools: Vec<LedgerPool>,
}

/// What somebody does to a ledger behind Railhead's back.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    TakeOut { entry: Index },
    Alter { entry: Index, base: u32, vlan: u16 },
    Empty,
    Restore { copy: Index },
}

pub(crate) struct World {
    pub(crate) fabrics: Vec<Fabric>,
    pub(crate) ledgers: Vec<Stored>,
    /// By UID. A network that is deleted is there until its reservation is given back.
    networks: BTreeMap<String, (usize, TrainingNetwork)>,
    deleted: BTreeSet<String>,
    /// By UID of the network.
    pub(crate) slices: BTreeMap<String, (usize, NetworkSlice)>,
    attachments: BTreeSet<(String, u32)>,
    class: QosClass,
    readings: Vec<Option<Reading>>,
    /// By operator: what each got when, and has made no slices of.
    grants: Vec<Vec<Grant>>,
    now: Timestamp,
    named: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            fabrics: (0..FABRICS).map(fabric).collect(),
            ledgers: (0..FABRICS)
                .map(|_| Stored {
                    version: 0,
                    spec: ledger::empty(),
                    is_damaged: false,
                    was_damaged: false,
                    copies: vec![ledger::empty()],
                })
                .collect(),
            networks: BTreeMap::new(),
            deleted: BTreeSet::new(),
            slices: BTreeMap::new(),
            attachments: BTreeSet::new(),
            class: from(json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "any"},
                "spec": {"default": true, "dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "1G"}},
            })),
            readings: vec![None; OPERATORS],
            grants: vec![Vec::new(); OPERATORS],
            now: Timestamp::UNIX_EPOCH,
            named: 0,
        }
    }

    pub(crate) fn apply(&mut self, fabric: usize, pods: u32) {
        self.named += 1;
        let uid = format!("{:08x}-0000-4000-8000-000000000000", self.named);
        let network = from(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
            "metadata": {"name": format!("network-{}", self.named), "namespace": "team", "uid": uid},
            "spec": {"pods": pods, "fabricName": name(fabric)},
        }));
        self.networks.insert(uid, (fabric, network));
    }

    pub(crate) fn delete(&mut self, network: Index) {
        if let Some(uid) = pick(self.networks.keys(), network) {
            self.deleted.insert(uid);
        }
    }

    pub(crate) fn read(&mut self, operator: usize, fabric: usize) {
        let stored = &self.ledgers[fabric];
        let known = Known::of(&stored.spec);
        let slices = self.slices.values().filter(|(of, _)| *of == fabric);
        let slices: Vec<NetworkSlice> = slices.map(|(_, slice)| slice.clone()).collect();
        let lost = slices
            .iter()
            .filter(|slice| !known.has(&ledger::entry_of(slice)))
            .map(Request::of_slice)
            .collect();
        let waiting = self
            .networks
            .iter()
            .filter(|(uid, (of, _))| *of == fabric && !self.slices.contains_key(*uid) && !self.deleted.contains(*uid))
            .map(|(_, (_, network))| network.clone())
            .collect();
        self.readings[operator] = Some(Reading {
            at: self.now,
            fabric,
            version: stored.version,
            spec: stored.spec.clone(),
            lost,
            slices,
            waiting,
        });
    }

    /// Networks that came or went since the reading are still planned for as they were.
    pub(crate) fn reserve(&mut self, operator: usize, then: Then) -> Result<(), TestCaseError> {
        let reading = self.readings[operator].take();
        let Some(reading) = reading.filter(|reading| self.is_recent(reading.at)) else {
            return Ok(());
        };
        let fabric = &self.fabrics[reading.fabric];
        let vlans = fabric.spec.vlan.range;
        let written = Arc::new(Written::of_fabric(fabric, Vec::new()));
        let asks = reading.waiting.iter();
        let mut requests: Vec<Request> = asks.map(|network| request(network, Arc::clone(&written))).collect();
        requests.extend(reading.lost.iter().cloned());
        let outcome = ledger::reserve(&reading.spec, &reading.slices, &requests, &Bounds::default());
        prop_assert_eq!(outcome.changed, outcome.ledger != reading.spec);
        let stored = &mut self.ledgers[reading.fabric];
        let room = Room::of(&fabric.spec.rails, vlans, &reading.spec, &requests, stored.was_damaged);
        room.agrees(&outcome, &requests)?;
        if stored.version != reading.version {
            return Ok(());
        }
        let of_entry = |entry: &LedgerEntry| pools::of_entry(&outcome.ledger, entry);
        let grants: Vec<Grant> = reading
            .waiting
            .into_iter()
            .zip(outcome.results)
            .filter_map(|(network, result)| {
                let entry = result.ok()?;
                Some(Grant {
                    at: self.now,
                    fabric: reading.fabric,
                    network,
                    pools: of_entry(&entry),
                    entry,
                })
            })
            .collect();
        if outcome.changed {
            stored.write(outcome.ledger);
        }
        stored.is_damaged = false;
        if then == Then::Dies {
            self.grants[operator].clear();
            return Ok(());
        }
        self.grants[operator].extend(grants);
        if then == Then::Dawdles {
            return Ok(());
        }
        self.make_slices(operator)
    }

    /// Nothing that an operator does takes so long that what is given back meanwhile may have rested.
    fn is_recent(&self, at: Timestamp) -> bool {
        self.now.duration_since(at) < SignedDuration::from_secs(REST_SECONDS / 2)
    }

    pub(crate) fn make_slices(&mut self, operator: usize) -> Result<(), TestCaseError> {
        for grant in std::mem::take(&mut self.grants[operator]) {
            if self.is_recent(grant.at) {
                self.make_slice(&grant)?;
            }
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn make_slice(&mut self, grant: &Grant) -> Result<(), TestCaseError> {
        let fabric = grant.fabric;
        let space = pools::recorded(&self.fabrics[fabric].spec.rails, &grant.pools);
        let uid = grant.network.metadata.uid.clone().unwrap_or_default();
        let fabrics = [self.fabrics[fabric].clone()];
        let resolved = network::resolve(
            &grant.network,
            &ANYBODY,
            &fabrics,
            std::slice::from_ref(&self.class),
            NO_NODES,
        )
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
        // Refused where somebody altered the entry so that it is no block of the pools.
        if let Ok(slice) = network::slice(&grant.network, &resolved, &space, &grant.entry) {
            self.slices.entry(uid).or_insert((fabric, slice));
        }
        Ok(())
    }

    pub(crate) fn attach(&mut self, slice: Index, index: Index) {
        if let Some(uid) = pick(self.slices.keys(), slice) {
            let pods = self.slices[&uid].1.spec.pods;
            let index = u32::try_from(index.index(pods as usize)).expect("less than the pods");
            self.attachments.insert((uid, index));
        }
    }

    pub(crate) fn detach(&mut self, attachment: Index) {
        if let Some(attachment) = pick(self.attachments.iter(), attachment) {
            self.attachments.remove(&attachment);
        }
    }

    pub(crate) fn end(&mut self, network: Index, dies: bool) -> Result<(), TestCaseError> {
        match pick(self.deleted.iter(), network) {
            Some(uid) => self.end_of(&uid, dies),
            None => Ok(()),
        }
    }

    /// In the order in which the operator does it. The slice is held while anybody is attached.
    fn end_of(&mut self, uid: &str, dies: bool) -> Result<(), TestCaseError> {
        if self.attachments.iter().any(|(of, _)| of == uid) {
            return Ok(());
        }
        self.slices.remove(uid);
        if dies {
            return Ok(());
        }
        let (fabric, _) = self.networks[uid];
        self.release(fabric, uid)?;
        self.networks.remove(uid);
        self.deleted.remove(uid);
        Ok(())
    }

    fn release(&mut self, fabric: usize, uid: &str) -> Result<(), TestCaseError> {
        let stored = &mut self.ledgers[fabric];
        let rest = SignedDuration::from_secs(REST_SECONDS);
        let released = ledger::release(&stored.spec, uid, self.now, rest);
        let after = released.map_err(|kept| TestCaseError::fail(kept.to_string()))?;
        reference::only_its_own_is_released(&stored.spec, after.as_ref(), uid, self.now)?;
        if let Some(after) = after {
            stored.write(after);
        }
        Ok(())
    }

    /// Slices whose network is gone go by Kubernetes' garbage collector; then nobody holds their entries.
    pub(crate) fn sweep(&mut self, fabric: usize) -> Result<(), TestCaseError> {
        let (networks, attachments) = (&self.networks, &self.attachments);
        self.slices
            .retain(|uid, _| networks.contains_key(uid) || attachments.iter().any(|(of, _)| of == uid));
        let owners = self.ledgers[fabric].spec.entries.iter();
        let nobodys: Vec<String> = owners
            .filter(|entry| !ledger::rests(entry) || ledger::has_rested(entry, self.now))
            .map(|entry| entry.owner.uid.clone())
            .filter(|uid| !self.networks.contains_key(uid) && !self.slices.contains_key(uid))
            .collect();
        nobodys.iter().try_for_each(|uid| self.release(fabric, uid))
    }

    /// Nobody repairs a ledger while networks that it gave something have no slices yet: of those nobody else could know.
    pub(crate) fn damage(&mut self, fabric: usize, damage: &Damage) {
        for grants in &mut self.grants {
            grants.retain(|grant| grant.fabric != fabric);
        }
        let stored = &mut self.ledgers[fabric];
        let mut spec = stored.spec.clone();
        match damage {
            Damage::Empty => spec.entries.clear(),
            Damage::Restore { copy } => spec = copy.get(&stored.copies).clone(),
            Damage::TakeOut { .. } | Damage::Alter { .. } if spec.entries.is_empty() => return,
            Damage::TakeOut { entry } => drop(spec.entries.remove(entry.index(spec.entries.len()))),
            Damage::Alter { entry, base, vlan } => {
                let place = entry.index(spec.entries.len());
                spec.entries[place].intervals[0].base = *base;
                spec.entries[place].vlan = Some(*vlan);
            }
        }
        stored.write(spec);
        stored.is_damaged = true;
        stored.was_damaged = true;
    }

    pub(crate) fn append_pool(&mut self, fabric: usize, length: u8) {
        let rails = &mut self.fabrics[fabric].spec.rails;
        let place = rails[0].pools.len();
        if place < 4 {
            for (rail, its) in rails.iter_mut().enumerate() {
                its.pools.push(from(
                    json!({"cidr": format!("{}.{place}.0/{length}", addresses(fabric, rail))}),
                ));
            }
        }
    }

    /// The address of a rail's first pool that has this number becomes the router's.
    pub(crate) fn exclude(&mut self, fabric: usize, slot: Index) {
        let rail = &mut self.fabrics[fabric].spec.rails[1];
        let place = slot.index(LARGEST_POOL as usize);
        rail.pools[0].exclude = vec![format!("{}.0.{place}/32", addresses(fabric, 1))];
    }

    pub(crate) fn set_vlans(&mut self, fabric: usize, min: u16, count: u16) {
        self.fabrics[fabric].spec.vlan.range = VlanRange {
            min,
            max: min + count - 1,
        };
    }

    /// Everybody detaches, every network is deleted, and nothing stays.
    pub(crate) fn everything_can_be_given_back(&mut self) -> Result<(), TestCaseError> {
        self.attachments.clear();
        self.grants = vec![Vec::new(); OPERATORS];
        let all: Vec<String> = self.networks.keys().cloned().collect();
        for uid in &all {
            self.end_of(uid, false)?;
        }
        for fabric in 0..FABRICS {
            self.sweep(fabric)?;
            prop_assert!(self.ledgers[fabric].spec.entries.iter().all(ledger::rests));
        }
        self.wait(REST_SECONDS);
        for fabric in 0..FABRICS {
            self.sweep(fabric)?;
            prop_assert_eq!(&self.ledgers[fabric].spec.entries, &[]);
            self.ledgers[fabric].was_damaged = false;
        }
        prop_assert!(self.slices.is_empty());
        self.readings = vec![None; OPERATORS];
        Ok(())
    }

    pub(crate) fn pods_reserved(&self, fabric: usize) -> u32 {
        let slices = self.slices.values().filter(|(of, _)| *of == fabric);
        slices.map(|(_, slice)| slice.spec.pods).sum()
    }
}

/// What a refusal may be for, to the reference.
pub(crate) fn is_for_room(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::PoolExhausted { .. })
}

/// What an operator does with what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    MakesSlices,
    Dawdles,
    Dies,
}

fn request(network: &TrainingNetwork, written: Arc<Written>) -> Request {
    let metadata = &network.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Request {
        owner: LedgerOwner::new(text(&metadata.namespace), text(&metadata.name), text(&metadata.uid)),
        wanted: Wanted::Block {
            pods: network.spec.pods,
            takes: LedgerTakes::new(network.spec.pods, RAILS, Bandwidth::from_mbps(1000)),
            written,
        },
    }
}

fn name(fabric: usize) -> String {
    format!("fabric-{fabric}")
}

/// How the addresses of a rail begin.
fn addresses(fabric: usize, rail: usize) -> String {
    format!("10.{}", 10 * (fabric + 1) + rail)
}

fn fabric(number: usize) -> Fabric {
    let rail = |rail: usize| {
        json!({
            "id": rail, "name": format!("rail{rail}"), "ports": [{"netdev": format!("eth{rail}")}],
            "pools": [{"cidr": format!("{}.0.0/26", addresses(number, rail))}],
        })
    };
    from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric",
        "metadata": {"name": name(number), "uid": format!("uid-of-fabric-{number}")},
        "spec": {"vlan": {"range": {"min": 1, "max": 10}}, "rails": [rail(0), rail(1)]},
    }))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it is written here")
}

fn pick<'a, T: Clone + 'a>(among: impl ExactSizeIterator<Item = &'a T>, index: Index) -> Option<T> {
    let all: Vec<&T> = among.collect();
    (!all.is_empty()).then(|| (*index.get(&all)).clone())
}
