//! Deleting a fabric: it waits for its networks, then for its nodes to give back what was changed on them; then its ledger goes,
//! when nothing in it rests any more.

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::controller::Action,
};
use railhead_crds::{Fabric, FabricLedger, FabricStatus, names::FABRIC_FINALIZER, reasons::Reason};
use railhead_planner::ledger::{self, restored::is_quarantined};

use super::{Context, FabricError};
use railhead_service::events::Event;

use crate::{
    conditions::{self, Said},
    network::listed,
    write,
};

impl Context {
    pub(super) async fn delete(&self, fabric: &Fabric) -> Result<Action, FabricError> {
        if !write::has_finalizer(fabric, FABRIC_FINALIZER) {
            return Ok(Action::await_change());
        }
        let name = fabric.name_any();
        let ledgers: Api<FabricLedger> = Api::all(self.client.clone());
        // From the API server: what counts is who holds addresses now.
        let ledger = match ledgers.get_opt(&name).await {
            Ok(ledger) => ledger,
            Err(kube::Error::SerdeError(why)) => {
                let note = format!(
                    "deletion waits for FabricLedger {name}, which cannot be read ({why}): run the release of Railhead that wrote it, or a later one"
                );
                return self.waits(fabric, Reason::DeletingWaitingForLedger, note, None).await;
            }
            Err(source) => {
                let source = Box::new(source);
                return Err(FabricError::ReadLedger { name, source });
            }
        };
        if let Some(ledger) = &ledger {
            if let Err(newer) = ledger::check_version(&ledger.spec) {
                let note = format!("deletion waits for FabricLedger {name}: {newer}");
                return self.waits(fabric, Reason::DeletingWaitingForLedger, note, None).await;
            }
            let mut holders: Vec<String> = ledger
                .spec
                .entries
                .iter()
                .filter(|entry| !ledger::rests(entry) && !is_quarantined(entry))
                .map(|entry| format!("{}/{}", entry.owner.namespace, entry.owner.name))
                .collect();
            let quarantined = ledger.spec.entries.iter().filter(|entry| is_quarantined(entry)).count();
            if !holders.is_empty() {
                holders.sort_unstable();
                let note = format!(
                    "deletion waits for {} of its networks: {}; delete them first",
                    holders.len(),
                    listed(&holders)
                );
                return self.waits(fabric, Reason::DeletingWaitingForNetworks, note, None).await;
            }
            if quarantined > 0 {
                let note = format!(
                    "deletion waits for pods that have {quarantined} blocks of which the ledger did not know; `kubectl get nodenet -o yaml` shows under status.networks where they are"
                );
                return self.waits(fabric, Reason::DeletingWaitingForNetworks, note, None).await;
            }
        }
        let nodes = self
            .world
            .node_networks
            .state_filter(|node| node.spec.fabric_name == name);
        let (leaving, failed) = self.leave_all(nodes).await;
        if !leaving.is_empty() {
            let note = format!(
                "deletion waits until {} of its nodes have given back what was changed on them: {}; `kubectl delete node` ends the wait for a node that does not come back",
                leaving.len(),
                listed(&leaving)
            );
            let left = leaving.len();
            let action = self
                .waits(fabric, Reason::DeletingWaitingForNodes, note, Some(left))
                .await?;
            return failed.map_or(Ok(action), Err);
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        // What rests does so also for a Fabric that is applied anew under the name; in a teardown there is nobody who could have it.
        let is_done =
            |ledger: &&FabricLedger| fabric.spec.teardown || !ledger::any_rests(&ledger.spec, Timestamp::now());
        if let Some(ledger) = ledger.as_ref().filter(is_done) {
            self.delete_ledger(&ledgers, ledger).await?;
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

    /// Says what the deletion waits for; what it waits for wakes the fabric up again.
    async fn waits(
        &self,
        fabric: &Fabric,
        reason: Reason,
        note: String,
        nodes_left: Option<usize>,
    ) -> Result<Action, FabricError> {
        let status = deleting(fabric, reason, &note, nodes_left, Timestamp::now());
        self.write_status(fabric, &status).await?;
        self.recorder
            .publish(fabric, &Event::warning("Delete", reason, note))
            .await;
        Ok(Action::requeue(self.resync))
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

/// The status of a fabric that is deleted while something is left to wait for: all as before, but Ready says for what. The
/// nodes that are left give back what was changed on them: none of them is ready.
fn deleting(fabric: &Fabric, reason: Reason, message: &str, nodes_left: Option<usize>, now: Timestamp) -> FabricStatus {
    let mut status = fabric.status.clone().unwrap_or_default();
    let ready = vec![Said::no("Ready", reason, message)];
    let generation = fabric.metadata.generation;
    let mut merged = conditions::merge(&status.conditions, ready, generation, now);
    status.conditions.retain(|condition| condition.type_ != "Ready");
    merged.append(&mut status.conditions);
    status.conditions = merged;
    status.observed_generation = generation;
    if let Some(left) = nodes_left {
        status.nodes = Some(format!("0/{left}"));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fixtures;

    #[test]
    fn a_fabric_that_is_deleted_says_what_it_waits_for_and_has_no_ready_node() {
        let mut fabric = fixtures::fabric();
        let said = vec![
            Said::yes("Ready", Reason::AllReady, ""),
            Said::yes("NodesReady", Reason::AllReady, ""),
        ];
        fabric.status = Some(FabricStatus {
            nodes: Some("1/1".into()),
            conditions: conditions::merge(&[], said, None, Timestamp::UNIX_EPOCH),
            ..FabricStatus::default()
        });
        let deleting = |fabric: &Fabric| {
            deleting(
                fabric,
                Reason::DeletingWaitingForNodes,
                "node1",
                Some(1),
                Timestamp::UNIX_EPOCH,
            )
        };
        let status = deleting(&fabric);
        let ready = conditions::find(&status.conditions, "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.message.as_str()), ("False", "node1"));
        assert!(conditions::is_true(&status.conditions, "NodesReady"), "the rest stays");
        assert_eq!(status.nodes.as_deref(), Some("0/1"));
        fabric.status = Some(status.clone());
        assert_eq!(deleting(&fabric), status, "it is not written again and again");
    }
}
