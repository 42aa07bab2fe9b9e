//! What quotas leave for a network that asks.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
};

use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerOwner, LedgerTakes, NetworkSlice};

use super::{Refusal, Request, rests};
use crate::quota::{Bounds, Quota, Use, counts, excess};

/// What all networks of the fabric take, as long as a batch is planned. Without quotas nothing is counted.
pub(super) struct Counter<'a> {
    bounds: &'a Bounds,
    /// Namespace and use, by UID of the network.
    uses: HashMap<String, (String, Use)>,
    /// Who asks in this batch, by UID.
    asks: HashSet<&'a str>,
}

impl<'a> Counter<'a> {
    pub(super) fn of<S: Borrow<NetworkSlice>>(
        bounds: &'a Bounds,
        entries: &[LedgerEntry],
        slices: &[S],
        requests: &'a [Request],
    ) -> Self {
        let mut counter = Self {
            bounds,
            uses: HashMap::new(),
            asks: HashSet::new(),
        };
        if bounds.quotas.is_empty() {
            return counter;
        }
        let slices = slices.iter().map(<S as Borrow<NetworkSlice>>::borrow);
        let slices: HashMap<&str, &NetworkSlice> =
            slices.map(|slice| (slice.spec.network.uid.as_str(), slice)).collect();
        for entry in entries.iter().filter(|entry| counts(entry)) {
            let slice = slices.get(entry.owner.uid.as_str()).copied();
            counter.note(&entry.owner, Use::of_entry(entry, slice));
        }
        counter.asks = requests.iter().map(|request| request.owner.uid.as_str()).collect();
        counter
    }

    /// Whether any quota is for the network.
    pub(super) fn is_bound(&self, owner: &LedgerOwner) -> bool {
        self.quotas_of(owner).next().is_some()
    }

    fn quotas_of(&self, owner: &LedgerOwner) -> impl Iterator<Item = &'a Quota> {
        let quotas = self.bounds.quotas.iter();
        quotas.filter(move |quota| quota.namespace == owner.namespace)
    }

    /// What the other networks of its namespace take.
    fn used_by_others(&self, owner: &LedgerOwner) -> Use {
        let others = self.uses.iter().filter(|(uid, _)| **uid != owner.uid);
        others
            .filter(|(_, (namespace, _))| *namespace == owner.namespace)
            .fold(Use::default(), |sum, (_, (_, used))| sum.plus(*used))
    }

    fn note(&mut self, owner: &LedgerOwner, used: Use) {
        let known = self.uses.entry(owner.uid.clone());
        let (_, known) = known.or_insert_with(|| (owner.namespace.clone(), Use::default()));
        *known = known.or_more(used);
    }

    /// A network got this.
    pub(super) fn take(&mut self, entry: &LedgerEntry) {
        if !self.bounds.quotas.is_empty() {
            self.note(&entry.owner, Use::of_entry(entry, None));
        }
    }

    /// Whether there is room for a network beside what the others of its namespace have. A limit of which it takes no more than it has
    /// already is not in its way, however far below use that limit is.
    fn check_room(&self, owner: &LedgerOwner, takes: &LedgerTakes) -> Result<(), Refusal> {
        let own = self.uses.get(&owner.uid).map(|(_, used)| *used).unwrap_or_default();
        let mut excess = excess(self.quotas_of(owner), self.used_by_others(owner), Use::of(takes));
        excess.retain(|limit| limit.asked > limit.measure.of(&own));
        if excess.is_empty() {
            return Ok(());
        }
        Err(Refusal::QuotaExceeded {
            namespace: owner.namespace.clone(),
            excess,
        })
    }

    /// Whether there is room for a network that has nothing yet, also beside older ones for which there is room too and which have not
    /// asked again yet.
    pub(super) fn check(&self, owner: &LedgerOwner, takes: &LedgerTakes) -> Result<(), Refusal> {
        if !self.is_bound(owner) {
            return Ok(());
        }
        self.check_room(owner, takes)?;
        let older = self
            .bounds
            .waiting
            .iter()
            .take_while(|older| older.owner.uid != owner.uid);
        let asks_later = |uid: &str| !self.uses.contains_key(uid) && !self.asks.contains(uid);
        let mut used = self.used_by_others(owner);
        let mut first = None;
        for older in older.filter(|older| older.owner.namespace == owner.namespace && asks_later(&older.owner.uid)) {
            let theirs = Use::of(&older.takes);
            if excess(self.quotas_of(owner), used, theirs).is_empty() {
                used = used.plus(theirs);
                first.get_or_insert(&older.owner);
            }
        }
        match first {
            Some(older) if !excess(self.quotas_of(owner), used, Use::of(takes)).is_empty() => Err(Refusal::Behind {
                older: Box::new(older.clone()),
            }),
            _ => Ok(()),
        }
    }

    /// Writes down that a network takes more than its entry says, if there is room for it. It never takes less: what it was given is
    /// its own.
    pub(super) fn raise(
        &mut self,
        ledger: &mut FabricLedgerSpec,
        owner: &LedgerOwner,
        takes: &LedgerTakes,
    ) -> Result<LedgerEntry, Refusal> {
        let is_its = |entry: &&mut LedgerEntry| entry.owner.uid == owner.uid && !rests(entry);
        let entry = ledger.entries.iter_mut().find(is_its).ok_or(Refusal::NotEntered)?;
        if entry.takes.as_ref().is_some_and(|before| covers(before, takes)) {
            return Ok(entry.clone());
        }
        self.check_room(owner, takes)?;
        entry.takes = Some(takes.clone());
        ledger.sequence += 1;
        let entry = entry.clone();
        self.take(&entry);
        Ok(entry)
    }
}

fn covers(before: &LedgerTakes, takes: &LedgerTakes) -> bool {
    before.pods >= takes.pods && before.rails >= takes.rails && before.bandwidth_per_rail >= takes.bandwidth_per_rail
}
