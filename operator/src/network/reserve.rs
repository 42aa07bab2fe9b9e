//! The reservation of a network and the slice that says what it got.

use std::sync::Arc;

use kube::{Api, ResourceExt as _, api::PostParams, runtime::reflector::ObjectRef};
use railhead_crds::{LedgerEntry, LedgerOwner, NetworkSlice};
use railhead_planner::{ledger::Request, network::Resolved, slots::SlotSpace};

use super::{MANAGER, NetworkError, Outcome, Subject};
use crate::write;

impl Subject<'_> {
    /// The network's entry in the ledger, made if there is none; for a network with a slice it is what the slice says.
    pub(super) async fn reserve(
        &self,
        resolved: &Resolved,
        space: &Arc<SlotSpace>,
        slice: Option<&NetworkSlice>,
    ) -> Result<Result<LedgerEntry, Outcome>, NetworkError> {
        let fabric = resolved.fabric.name_any();
        if let Some(entry) = self.known_entry(&fabric) {
            return Ok(Ok(entry));
        }
        let request = slice.map_or_else(|| self.request(), Request::of_slice);
        let vlans = resolved.fabric.spec.vlan.range;
        let answer = self
            .context
            .reservations
            .reserve(&fabric, Arc::clone(space), vlans, request)
            .await
            .map_err(|source| NetworkError::Ledger {
                name: self.name.clone(),
                source,
            })?;
        Ok(answer.map_err(|refusal| Outcome::Refused {
            reason: refusal.reason(),
            message: format!("Fabric {fabric}: {refusal}"),
        }))
    }

    fn request(&self) -> Request {
        Request {
            owner: LedgerOwner {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                uid: self.uid.clone(),
            },
            pods: self.network.spec.pods,
            held: None,
        }
    }

    fn known_entry(&self, fabric: &str) -> Option<LedgerEntry> {
        let ledgers = &self.context.world.ledgers;
        let ledger = ledgers.get(&ObjectRef::new(fabric))?;
        ledger
            .spec
            .entries
            .iter()
            .find(|entry| entry.owner.uid == self.uid)
            .cloned()
    }

    pub(super) async fn create_slice(&self, slice: &NetworkSlice) -> Result<Outcome, NetworkError> {
        let name = slice.name_any();
        let api: Api<NetworkSlice> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = match api.create(&parameters, slice).await {
            // Made a moment ago; the watch has not told us yet.
            Err(error) if write::already_exists(&error) => api.get(&name).await,
            result => result,
        };
        match created {
            Ok(slice) => Ok(Outcome::Held(Arc::new(slice))),
            Err(source) => Err(NetworkError::WriteSlice {
                name,
                source: Box::new(source),
            }),
        }
    }
}
