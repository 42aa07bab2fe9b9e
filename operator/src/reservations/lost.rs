//! What slices hold and the ledger does not know so: somebody deleted the ledger, restored an old one, took an entry out or
//! altered it.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
};

use kube::{Api, ResourceExt as _, api::ListParams, runtime::reflector::ObjectRef};
use railhead_crds::{FabricLedger, FabricLedgerSpec, NetworkSlice};
use railhead_planner::ledger::{self, Known, Request};
use tracing::warn;

use super::{LedgerError, Worker};

impl Worker {
    /// Requests by which the slices of a fabric get back the entries that `ledger` has lost, and by which what they hold is
    /// given to nobody where it says otherwise. The ledger must have been read before this, from the API server: an entry
    /// comes before its slice and goes after it, so a slice that still exists now and has no entry there has lost it.
    ///
    /// Where somebody else wrote the ledger since, the watch of the slices may not have told of what is missing in it: then they
    /// are listed.
    pub(super) async fn lost(&self, fabric: &str, ledger: &FabricLedger) -> Result<Vec<Request>, LedgerError> {
        if !self.is_written_here(fabric, ledger) {
            let listed = self.list_slices(fabric).await?.into_iter().map(Arc::new).collect();
            let lost = unknown_to(&ledger.spec, fabric, listed);
            let requests = lost.iter().map(|slice| Request::of_slice(slice)).collect();
            self.note(fabric, ledger, lost);
            return Ok(requests);
        }
        let mut slices = self.world.slices.state();
        slices.extend(self.missed(fabric));
        let mut requests: Vec<Request> = Vec::new();
        for known in unknown_to(&ledger.spec, fabric, slices) {
            if requests
                .iter()
                .any(|request| request.owner.uid == known.spec.network.uid)
            {
                continue;
            }
            let name = known.name_any();
            let slices: Api<NetworkSlice> =
                Api::namespaced(self.client.clone(), &known.namespace().unwrap_or_default());
            let found = slices.get_opt(&name).await.map_err(|source| LedgerError::ReadSlice {
                name: name.clone(),
                source: Arc::new(source),
            })?;
            if let Some(slice) = found.filter(|slice| slice.uid() == known.uid()) {
                warn!(
                    fabric,
                    slice = name,
                    "the ledger does not say of this slice what it holds; that is entered again, or at least given to nobody"
                );
                requests.push(Request::of_slice(&slice));
            }
        }
        Ok(requests)
    }

    pub(super) async fn list_slices(&self, fabric: &str) -> Result<Vec<NetworkSlice>, LedgerError> {
        let slices: Api<NetworkSlice> = Api::all(self.client.clone());
        let listed = slices.list(&ListParams::default()).await;
        listed.map(|list| list.items).map_err(|source| LedgerError::ListSlices {
            name: fabric.to_owned(),
            source: Arc::new(source),
        })
    }

    /// The ledger of a fabric as it was written here last, where nobody else has written it as far as the watch has told. It may be
    /// planned with, since a write with its version fails where that is not so; and what it gives to whom is as certain as what
    /// the watch tells.
    pub(super) fn written_last(&self, fabric: &str) -> Option<FabricLedger> {
        let known = self.world.ledgers.get(&ObjectRef::new(fabric))?;
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = checked.get(fabric)?;
        let told = known.metadata.resource_version.as_ref()?;
        checked
            .versions
            .contains(told)
            .then(|| checked.written.clone())
            .flatten()
    }

    /// What is known here of a fabric's ledger is not so any more.
    pub(super) fn forget_written(&self, fabric: &str) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checked) = checked.get_mut(fabric) {
            checked.written = None;
        }
    }

    pub(super) fn is_written_here(&self, fabric: &str, ledger: &FabricLedger) -> bool {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked
            .get(fabric)
            .is_some_and(|checked| checked.versions.back() == ledger.metadata.resource_version.as_ref())
    }

    fn missed(&self, fabric: &str) -> Vec<Arc<NetworkSlice>> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked
            .get(fabric)
            .map_or_else(Vec::new, |checked| checked.lost.clone())
    }

    pub(super) fn note(&self, fabric: &str, ledger: &FabricLedger, lost: Vec<Arc<NetworkSlice>>) {
        let versions = ledger.resource_version().into_iter().collect();
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let written = None;
        checked.insert(
            fabric.to_owned(),
            Checked {
                versions,
                written,
                lost,
            },
        );
    }

    /// A ledger that was compared with the slices was written here, and nobody else wrote it in between.
    pub(super) fn note_write(&self, fabric: &str, before: &FabricLedger, after: &FabricLedger) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let its = checked
            .get_mut(fabric)
            .filter(|checked| checked.versions.back() == before.metadata.resource_version.as_ref());
        if let Some(checked) = its {
            if checked.versions.len() == VERSIONS {
                checked.versions.pop_front();
            }
            checked.versions.extend(after.resource_version());
            checked.written = Some(after.clone());
        }
    }
}

/// How many writes the watch may be late and still count as telling of nobody else's.
const VERSIONS: usize = 64;

/// A ledger as it was when all slices were compared with it.
pub(super) struct Checked {
    /// Its version then, and after each write here since; nobody else wrote in between.
    versions: VecDeque<String>,
    /// As it was written last.
    written: Option<FabricLedger>,
    /// What it did not know so.
    lost: Vec<Arc<NetworkSlice>>,
}

fn unknown_to(ledger: &FabricLedgerSpec, fabric: &str, mut slices: Vec<Arc<NetworkSlice>>) -> Vec<Arc<NetworkSlice>> {
    let known = Known::of(ledger);
    slices.retain(|slice| slice.spec.fabric.name == fabric && !known.has(&ledger::entry_of(slice)));
    slices
}

/// A new ledger. Slices of the fabric that are there already keep what they have.
pub(super) fn from_slices(fabric: &str, slices: &[NetworkSlice]) -> FabricLedgerSpec {
    let of_fabric = slices.iter().filter(|slice| slice.spec.fabric.name == fabric);
    ledger::from_held(of_fabric.map(ledger::entry_of))
}

#[cfg(test)]
mod tests {
    use railhead_crds::{LedgerEntry, LedgerInterval};

    use super::*;
    use crate::network::fixtures;

    #[test]
    fn a_lost_ledger_is_made_again_from_the_slices_of_its_fabric() {
        let slice = fixtures::slice(2);
        let mut other = slice.clone();
        other.spec.fabric.name = "storage".into();
        let ledger = from_slices("backend", &[other, slice.clone()]);
        assert_eq!(ledger.entries.len(), 1);
        assert_eq!(
            ledger.entries[0].intervals,
            [LedgerInterval::new(slice.spec.base, slice.spec.capacity)]
        );
        assert_eq!(ledger.entries[0].vlan, slice.spec.rails[0].vlan);
        assert_eq!(ledger.entries[0].owner.uid, slice.spec.network.uid);
        assert_eq!(ledger.sequence, slice.spec.ledger_sequence);
    }

    #[test]
    fn only_slices_of_the_fabric_that_have_no_entry_or_another_one_are_asked_for() {
        let slice = Arc::new(fixtures::slice(2));
        let whole = from_slices("backend", &[(*slice).clone()]);
        let slices = || vec![Arc::clone(&slice)];
        assert!(unknown_to(&whole, "backend", slices()).is_empty());
        assert_eq!(unknown_to(&ledger::empty(), "backend", slices()).len(), 1);
        assert!(unknown_to(&ledger::empty(), "storage", slices()).is_empty());
        let alterations: [fn(&mut LedgerEntry); 3] = [
            |e| e.intervals[0].base += 8,
            |e| e.intervals[0].size *= 2,
            |e| e.vlan = Some(7),
        ];
        for alter in alterations {
            let mut altered = whole.clone();
            alter(&mut altered.entries[0]);
            assert_eq!(unknown_to(&altered, "backend", slices()).len(), 1, "{altered:?}");
        }
    }
}
