//! Deleting a fabric: it waits for its networks, then its nodes and its ledger go.

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::controller::Action,
};
use railhead_crds::{Fabric, FabricLedger, names::FABRIC_FINALIZER};

use super::{Context, FabricError};
use crate::{announce::News, controller::RESYNC, network::listed, write};

impl Context {
    pub(super) async fn delete(&self, fabric: &Fabric) -> Result<Action, FabricError> {
        if !write::has_finalizer(fabric, FABRIC_FINALIZER) {
            return Ok(Action::await_change());
        }
        let name = fabric.name_any();
        let ledgers: Api<FabricLedger> = Api::all(self.client.clone());
        // From the API server: what counts is who holds addresses now.
        let ledger = ledgers.get_opt(&name).await.map_err(|source| FabricError::ReadLedger {
            name: name.clone(),
            source: Box::new(source),
        })?;
        if let Some(ledger) = ledger {
            let mut holders: Vec<String> = ledger
                .spec
                .entries
                .iter()
                .map(|entry| format!("{}/{}", entry.owner.namespace, entry.owner.name))
                .collect();
            if !holders.is_empty() {
                holders.sort_unstable();
                let note = format!(
                    "deletion waits for {} of its networks: {}; delete them first",
                    holders.len(),
                    listed(&holders)
                );
                let news = News::warning("Delete", "DeletingWaitingForNetworks", note);
                self.announcer.say(fabric, &news).await;
                return Ok(Action::requeue(RESYNC));
            }
            self.delete_ledger(&ledgers, &ledger).await?;
        }
        for node in self
            .world
            .node_networks
            .state_filter(|node| node.spec.fabric_name == name)
        {
            self.delete_node(&node).await?;
        }
        let api: Api<Fabric> = Api::all(self.client.clone());
        write::remove_finalizer(&api, fabric, FABRIC_FINALIZER)
            .await
            .map_err(|source| FabricError::Finalizer {
                name,
                source: Box::new(source),
            })?;
        Ok(Action::await_change())
    }

    /// Deletes the ledger as it was read: a reservation that came in between makes this a conflict.
    async fn delete_ledger(&self, api: &Api<FabricLedger>, ledger: &FabricLedger) -> Result<(), FabricError> {
        let as_read = DeleteParams::default().preconditions(Preconditions {
            uid: ledger.uid(),
            resource_version: ledger.resource_version(),
        });
        match api.delete(&ledger.name_any(), &as_read).await {
            Err(source) if !write::is_not_found(&source) => Err(FabricError::DeleteLedger {
                name: ledger.name_any(),
                source: Box::new(source),
            }),
            _ => Ok(()),
        }
    }
}
