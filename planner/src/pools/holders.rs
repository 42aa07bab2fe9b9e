//! Who holds slots of a fabric.

use std::{borrow::Borrow, collections::HashMap};

use railhead_crds::{FabricLedgerSpec, LedgerEntry, NetworkSlice};

use crate::slots::Interval;

/// A network that holds slots, by the ledger, by its slice or by both.
pub(super) struct Holder<'a> {
    /// As `namespace/name`.
    pub(super) name: String,
    pub(super) slots: Vec<Interval>,
    pub(super) slice: Option<&'a NetworkSlice>,
}

impl Holder<'_> {
    pub(super) fn meets(&self, place: Interval) -> bool {
        self.slots.iter().any(|slots| slots.meets(place))
    }

    /// Whether it has addresses on that rail. What the slice of an entry will have is not known before it is there.
    pub(super) fn uses(&self, rail: u32) -> bool {
        self.slice
            .is_none_or(|slice| slice.spec.rails.iter().any(|used| used.id == rail))
    }

    /// The slots of its slice that pods have addresses of.
    pub(super) fn of_pods(&self) -> Option<Interval> {
        let spec = &self.slice?.spec;
        Some(Interval::of(spec.base, spec.pods))
    }
}

pub(super) fn holders<'a, S: Borrow<NetworkSlice>>(ledger: &FabricLedgerSpec, slices: &'a [S]) -> Vec<Holder<'a>> {
    let mut entries: HashMap<&str, Vec<&LedgerEntry>> = HashMap::new();
    for entry in &ledger.entries {
        entries.entry(&entry.owner.uid).or_default().push(entry);
    }
    let slots = |entries: &[&LedgerEntry]| -> Vec<Interval> {
        let intervals = entries.iter().flat_map(|entry| &entry.intervals);
        intervals.map(|one| Interval::of(one.base, one.size)).collect()
    };
    let mut found = Vec::with_capacity(ledger.entries.len());
    for slice in slices {
        let slice: &NetworkSlice = slice.borrow();
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let own = entries.remove(slice.spec.network.uid.as_str()).unwrap_or_default();
        let mut slots = slots(&own);
        slots.push(Interval::of(slice.spec.base, slice.spec.capacity));
        found.push(Holder {
            name: format!("{namespace}/{}", slice.spec.network.name),
            slots,
            slice: Some(slice),
        });
    }
    for own in entries.values() {
        let owner = &own[0].owner;
        found.push(Holder {
            name: format!("{}/{}", owner.namespace, owner.name),
            slots: slots(own),
            slice: None,
        });
    }
    found.sort_by(|a, b| (&a.slots, &a.name).cmp(&(&b.slots, &b.name)));
    found
}
