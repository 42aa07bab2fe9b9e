//! The networks that have what somebody else has as well, by the ledgers and slices that are known. The router looks when those
//! change; whoever decides about a network or its slice asks here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use railhead_crds::{FabricLedgerSpec, LedgerEntry};
use railhead_planner::ledger;
use tracing::warn;

use crate::world::World;

/// What is to be said of whom, by UID of the network.
#[derive(Clone, Default)]
pub(crate) struct Contested(Arc<RwLock<Arc<BTreeMap<String, String>>>>);

impl Contested {
    /// Why the network of that UID gets no more pods, if it is so.
    pub(crate) fn of(&self, uid: &str) -> Option<String> {
        self.known().get(uid).cloned()
    }

    fn known(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks again. Returns the UIDs of those of which something else is to be said now.
    pub(crate) fn look(&self, world: &World) -> Vec<String> {
        let now = find(world);
        let before = self.known();
        if *before == now {
            return Vec::new();
        }
        let other = |uid: &&String| before.get(*uid) != now.get(*uid);
        let mut changed: Vec<String> = before.keys().chain(now.keys()).filter(other).cloned().collect();
        changed.sort_unstable();
        changed.dedup();
        for words in changed.iter().filter_map(|uid| now.get(uid)) {
            warn!(why = words, "quarantined");
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        changed
    }
}

fn find(world: &World) -> BTreeMap<String, String> {
    let mut slices: HashMap<String, Vec<LedgerEntry>> = HashMap::new();
    for slice in world.slices.state() {
        let of_fabric = slices.entry(slice.spec.fabric.name.clone()).or_default();
        of_fabric.push(ledger::entry_of(&slice));
    }
    for ledger in world.ledgers.state() {
        slices.entry(ledger.name_any()).or_default();
    }
    let mut found = BTreeMap::new();
    for (fabric, slices) in slices {
        let ledger = world.ledgers.get(&ObjectRef::new(&fabric));
        let empty: FabricLedgerSpec = ledger::empty();
        found.extend(ledger::contested(
            ledger.as_ref().map_or(&empty, |ledger| &ledger.spec),
            &slices,
        ));
    }
    found
}
