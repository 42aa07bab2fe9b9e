//! Ledger entries whose network went without giving them back (its finalizer was taken by force, or an operator that had
//! lost its lease reserved for it once more).

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _, runtime::reflector::ObjectRef};
use railhead_crds::{LedgerEntry, LedgerOwner, LedgerState, NetworkSlice, TrainingNetwork, names};
use railhead_planner::ledger;
use railhead_service::chain;
use tracing::warn;

use super::{Context, FabricError};

/// How often the ledgers of Fabrics that are gone are looked at: nobody else does.
const PERIOD: Duration = Duration::from_secs(10);

/// Lets go what has rested in ledgers of Fabrics that are gone, and with the last of it the ledger. Runs for ever.
pub(crate) async fn sweep_orphans(context: Arc<Context>) {
    loop {
        for ledger in context.world.ledgers.state() {
            let fabric = ledger.name_any();
            if context.world.fabric(&fabric).is_some() {
                continue;
            }
            let compared = context.compare(&fabric).await;
            if let Err(error) = compared.and(context.sweep(&fabric).await) {
                warn!(fabric, error = chain(&error), "its ledger is looked at again");
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

impl Context {
    /// Gives back the entries of a fabric that nobody owns any more. Asks the API server before it does: an entry is given
    /// back only if neither its network nor its slice exists. One that fails keeps no other from it; the first error comes back.
    pub(super) async fn sweep(&self, fabric: &str) -> Result<(), FabricError> {
        let Some(ledger) = self.world.ledgers.get(&ObjectRef::new(fabric)) else {
            return Ok(());
        };
        // A later release frees what is in its ledgers, and what is in a state of its own.
        if ledger::check_version(&ledger.spec).is_err() {
            return Ok(());
        }
        let mut swept = Ok(());
        let now = Timestamp::now();
        for entry in &ledger.spec.entries {
            let done = match entry.state {
                LedgerState::Held => self.sweep_entry(fabric, entry).await,
                LedgerState::Resting if ledger::has_rested(entry, now) => self.wake(fabric, entry).await,
                _ => Ok(()),
            };
            swept = swept.and(done);
        }
        swept
    }

    /// Lets go what has rested, so that those who wait for it hear of it. A slice that an operator made of it late keeps it, and
    /// gets it back when the ledger is written next.
    async fn wake(&self, fabric: &str, entry: &LedgerEntry) -> Result<(), FabricError> {
        if self.slice_exists(fabric, &entry.owner).await? {
            return Ok(());
        }
        self.let_go(fabric, &entry.owner).await
    }

    /// How long until something has rested.
    pub(super) fn until_awake(&self, fabric: &str) -> Option<Duration> {
        let ledger = self.world.ledgers.get(&ObjectRef::new(fabric))?;
        let next = ledger::next_to_wake(&ledger.spec)?;
        let left = Timestamp::now().duration_until(next);
        // What has rested and is kept by a late slice is looked at again, and not all the time.
        Some(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(500))
    }

    async fn sweep_entry(&self, fabric: &str, entry: &LedgerEntry) -> Result<(), FabricError> {
        let owner = &entry.owner;
        let known = self.world.network(&owner.namespace, &owner.name);
        if known.is_some_and(|network| network.uid().as_deref() == Some(&owner.uid))
            || self.exists(fabric, owner).await?
        {
            return Ok(());
        }
        let name = format!("{}/{}", owner.namespace, owner.name);
        warn!(
            fabric,
            owner = name,
            held = %ledger::Holding(entry),
            "giving back what a vanished network held"
        );
        self.let_go(fabric, owner).await
    }

    async fn let_go(&self, fabric: &str, owner: &LedgerOwner) -> Result<(), FabricError> {
        let released = self.reservations.release(&owner.uid).await;
        released.map_err(|source| FabricError::Sweep {
            name: fabric.to_owned(),
            owner: format!("{}/{}", owner.namespace, owner.name),
            source,
        })
    }

    async fn exists(&self, fabric: &str, owner: &LedgerOwner) -> Result<bool, FabricError> {
        let failed = |source| FabricError::ReadOwner {
            name: fabric.to_owned(),
            owner: format!("{}/{}", owner.namespace, owner.name),
            source: Box::new(source),
        };
        let networks: Api<TrainingNetwork> = Api::namespaced(self.client.clone(), &owner.namespace);
        let network = networks.get_opt(&owner.name).await.map_err(failed)?;
        if network.is_some_and(|network| network.uid().as_deref() == Some(&owner.uid)) {
            return Ok(true);
        }
        self.slice_exists(fabric, owner).await
    }

    async fn slice_exists(&self, fabric: &str, owner: &LedgerOwner) -> Result<bool, FabricError> {
        let slices: Api<NetworkSlice> = Api::namespaced(self.client.clone(), &owner.namespace);
        let slice = slices
            .get_opt(&names::slice(&owner.name, &owner.uid))
            .await
            .map_err(|source| FabricError::ReadOwner {
                name: fabric.to_owned(),
                owner: format!("{}/{}", owner.namespace, owner.name),
                source: Box::new(source),
            })?;
        Ok(slice.is_some_and(|slice| slice.spec.network.uid == owner.uid))
    }
}
