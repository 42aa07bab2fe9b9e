//! The reservation of a network and the slice that says what it got.

use std::sync::Arc;

use kube::{Api, ResourceExt as _, api::PostParams, runtime::reflector::ObjectRef};
use railhead_crds::{LedgerEntry, LedgerOwner, NetworkSlice, reasons::Reason};
use railhead_planner::ledger::{self, Holding, Refusal, Request, Wanted, entry_of};

use super::{MANAGER, NetworkError, Outcome, Subject};
use crate::{reservations::Given, write};

impl Subject<'_> {
    /// The network's entry in the ledger, made if there is none; for a network with a slice it is what the slice says.
    pub(super) async fn reserve(&self, fabric: &str, wanted: Wanted) -> Result<Result<Given, Outcome>, NetworkError> {
        let held = match &wanted {
            Wanted::Held(entry) => Some((**entry).clone()),
            Wanted::Block { .. } | Wanted::More { .. } => None,
        };
        // Without a slice nothing holds what the watch told of: it may have been given back since, and be another's.
        if let Some(entry) = self.known_entry(fabric).filter(|_| held.is_some()) {
            return Ok(Ok(entry));
        }
        let request = Request {
            owner: LedgerOwner::new(&self.namespace, &self.name, &self.uid),
            wanted,
        };
        let answer = self
            .context
            .reservations
            .reserve(fabric, request)
            .await
            .map_err(|source| NetworkError::Ledger {
                name: self.name.clone(),
                source,
            })?;
        Ok(match (answer, held) {
            // What is said of it stays as it was.
            (Err(why @ Refusal::Behind { .. }), None) => {
                return Err(NetworkError::Turn {
                    name: self.name.clone(),
                    why,
                });
            }
            // Nothing new is given while nobody knows what the ledger says, and nothing is taken from who has it.
            (Err(Refusal::LedgerNewer(_) | Refusal::LedgerUnreadable { .. }), Some(entry)) => Ok(Given {
                entry,
                pools: Vec::new(),
            }),
            (answer, _) => answer.map_err(|refusal| Outcome::Refused {
                reason: refusal.reason(),
                message: format!("Fabric {fabric}: {refusal}"),
            }),
        })
    }

    fn known_entry(&self, fabric: &str) -> Option<Given> {
        let ledgers = &self.context.world.ledgers;
        let ledger = ledgers.get(&ObjectRef::new(fabric))?;
        ledger::check_version(&ledger.spec).ok()?;
        ledger
            .spec
            .entries
            .iter()
            .find(|entry| entry.owner.uid == self.uid && !ledger::rests(entry))
            .map(|entry| Given::of(&ledger.spec, entry.clone()))
    }

    pub(super) async fn create_slice(&self, slice: &NetworkSlice) -> Result<Outcome, NetworkError> {
        let name = slice.name_any();
        let api: Api<NetworkSlice> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let made = match api.create(&parameters, slice).await {
            // Made a moment ago, and the watch has not told of it yet; or somebody else's.
            Err(error) if write::already_exists(&error) => api.get(&name).await,
            result => {
                if result.is_ok() {
                    self.context.made.note(&self.uid);
                }
                result
            }
        };
        match made {
            Ok(made) => Ok(standing(Arc::new(made), &self.uid, &entry_of(slice))),
            Err(source) => Err(NetworkError::WriteSlice {
                name,
                source: Box::new(source),
            }),
        }
    }
}

/// What a network has in a slice of its name, which may be another one's, on its way out, or of other addresses than the
/// ledger gives it.
pub(super) fn standing(slice: Arc<NetworkSlice>, uid: &str, entry: &LedgerEntry) -> Outcome {
    let name = slice.name_any();
    let refused = |reason, message| Outcome::Refused { reason, message };
    if slice.spec.network.uid != uid {
        return refused(
            Reason::SliceConflict,
            format!(
                "NetworkSlice {name} is of another TrainingNetwork {}, with UID {}: it is made for this one when that slice is gone",
                slice.spec.network.name, slice.spec.network.uid
            ),
        );
    }
    if slice.metadata.deletion_timestamp.is_some() {
        return refused(
            Reason::SliceDeleted,
            format!(
                "NetworkSlice {name} was deleted: attached pods keep it, new ones wait; it is made again when the last pod is gone"
            ),
        );
    }
    let held = entry_of(&slice);
    let rails_agree = slice.spec.rails.iter().all(|rail| rail.vlan == entry.vlan);
    if !rails_agree || held.intervals != entry.intervals {
        return refused(
            Reason::LedgerMismatch,
            format!(
                "NetworkSlice {name} has {}, but the ledger of {} says {}: delete this network when its pods are gone and apply it anew",
                Holding(&held),
                slice.spec.fabric.name,
                Holding(entry),
            ),
        );
    }
    Outcome::Held { slice, short: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fixtures;

    #[test]
    fn a_slice_that_was_there_is_taken_only_if_it_is_the_networks_own_stays_and_has_what_the_ledger_gives() {
        let reason =
            |slice: &NetworkSlice, entry: &LedgerEntry| match standing(Arc::new(slice.clone()), fixtures::UID, entry) {
                Outcome::Held { .. } => None,
                Outcome::Refused { reason, .. } => Some(reason),
            };
        let slice = fixtures::slice(2);
        let entry = entry_of(&slice);
        assert_eq!(reason(&slice, &entry), None);
        let mut others = slice.clone();
        others.spec.network.uid = "7f3a9c21-1111".into();
        assert_eq!(reason(&others, &entry).unwrap(), "SliceConflict");
        let mut going = slice.clone();
        going.metadata.deletion_timestamp = serde_json::from_value("2026-01-01T00:00:00Z".into()).unwrap();
        assert_eq!(reason(&going, &entry).unwrap(), "SliceDeleted");
        let mut other = entry.clone();
        other.intervals[0].base += 2;
        assert_eq!(reason(&slice, &other).unwrap(), "LedgerMismatch");
        let mut untagged = slice.clone();
        untagged.spec.rails[1].vlan = None;
        assert_eq!(reason(&untagged, &entry).unwrap(), "LedgerMismatch");
    }
}
