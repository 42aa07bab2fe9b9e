//! Deleting a network, in the reverse order of making it: template, slice (which waits for its pods), ledger entry, finalizer.

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::controller::Action,
};
use railhead_crds::{
    NetworkSlice, TrainingNetwork,
    names::{self, NETWORK_FINALIZER},
};

use super::{NetworkError, Subject, decide};
use crate::{reservations::LedgerError, slice, write};

impl Subject<'_> {
    pub(super) async fn delete(&self) -> Result<Action, NetworkError> {
        if !write::has_finalizer(self.network, NETWORK_FINALIZER) {
            return Ok(Action::await_change());
        }
        if let Some(held) = self.remove_template().await? {
            // Claims made from it would be of a network that has nothing any more. Its end wakes this network up again.
            let status = decide::deleting_template(self.network, &held, Timestamp::now());
            self.write_status(&status).await?;
            return Ok(Action::requeue(self.context.resync));
        }
        if self.slice_remains().await? {
            // The slice's own end wakes this network up again.
            return Ok(Action::requeue(self.context.resync));
        }
        match self.context.reservations.release(&self.uid).await {
            Ok(()) => {}
            Err(LedgerError::Kept { name, source }) => {
                let status = decide::deleting_kept(self.network, &name, &source, Timestamp::now());
                self.write_status(&status).await?;
                return Ok(Action::requeue(self.context.resync));
            }
            Err(source) => {
                return Err(NetworkError::Ledger {
                    name: self.name.clone(),
                    source,
                });
            }
        }
        let api: Api<TrainingNetwork> = Api::namespaced(self.context.client.clone(), &self.namespace);
        write::remove_finalizer(&api, self.network, NETWORK_FINALIZER)
            .await
            .map_err(|source| NetworkError::Finalizer {
                name: self.name.clone(),
                source: Box::new(source),
            })?;
        Ok(Action::await_change())
    }

    /// Asks for the slice's deletion and says for whom it waits. Reads the API server, not the store: a block is given back
    /// only when the slice is certainly gone.
    async fn slice_remains(&self) -> Result<bool, NetworkError> {
        let name = names::slice(&self.name, &self.uid);
        let api: Api<NetworkSlice> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let failed = |source| NetworkError::WriteSlice {
            name: name.clone(),
            source: Box::new(source),
        };
        let Some(slice) = api.get_opt(&name).await.map_err(failed)? else {
            return Ok(false);
        };
        if slice.metadata.deletion_timestamp.is_none() {
            let only_this_one = DeleteParams::default().preconditions(Preconditions {
                uid: slice.uid(),
                resource_version: None,
            });
            match api.delete(&name, &only_this_one).await {
                Err(error) if write::is_not_found(&error) => return Ok(false),
                result => result.map_err(failed)?,
            };
        }
        let world = &self.context.world;
        let holders = slice::holders(
            &world.attachments_of(&self.namespace, &name),
            &world.pods_of(&self.namespace, &self.name),
        );
        if !holders.is_empty() {
            let status = decide::deleting(self.network, &holders, Timestamp::now());
            self.write_status(&status).await?;
        }
        Ok(true)
    }
}
