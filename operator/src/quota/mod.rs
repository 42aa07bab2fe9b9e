//! NetworkQuota: what is used of it is counted by the ledgers. What it leaves for a new network is decided where ledgers are written.

mod decide;
mod stored;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, runtime::controller::Action};
use railhead_crds::{NetworkQuota, names, reasons::Reason};
use railhead_planner::quota::{Use, counts, is_on};
use railhead_service::events::{Event, Recorder};
use thiserror::Error;

use self::decide::EXCEEDED;
pub(crate) use self::stored::Quotas;
use crate::{conditions, controller::Category, world::World, write};

const MANAGER: &str = "railhead/quota";

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) recorder: Arc<Recorder>,
}

/// Why a quota could not be looked after. Tried again.
#[derive(Debug, Error)]
pub(crate) enum QuotaError {
    #[error("cannot write the status of NetworkQuota {namespace}/{name}")]
    WriteStatus {
        namespace: String,
        name: String,
        source: Box<kube::Error>,
    },
}

impl Category for QuotaError {
    fn category(&self) -> &'static str {
        match self {
            Self::WriteStatus { .. } => "status",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::WriteStatus { source, .. } => write::is_conflict(source) || write::is_not_found(source),
        }
    }
}

pub(crate) async fn reconcile(quota: Arc<NetworkQuota>, context: Arc<Context>) -> Result<Action, QuotaError> {
    let status = decide::status(&quota, &used(&context.world, &quota), Timestamp::now());
    if quota.status.as_ref() == Some(&status) {
        return Ok(Action::await_change());
    }
    let (namespace, name) = (quota.namespace().unwrap_or_default(), quota.name_any());
    let api: Api<NetworkQuota> = Api::namespaced(context.client.clone(), &namespace);
    write::status(&api, &name, MANAGER, &status)
        .await
        .map_err(|source| QuotaError::WriteStatus {
            namespace,
            name,
            source: Box::new(source),
        })?;
    let before = quota.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let exceeded = conditions::find(&status.conditions, EXCEEDED).filter(|exceeded| exceeded.status == "True");
    if let Some(exceeded) = exceeded.filter(|_| !conditions::is_true(before, EXCEEDED)) {
        let news = Event::warning("Count", Reason::Exceeded, exceeded.message.clone());
        context.recorder.publish(&*quota, &news).await;
    }
    Ok(Action::await_change())
}

/// What the networks of a quota's namespace take of each fabric that it is on.
fn used(world: &World, quota: &NetworkQuota) -> BTreeMap<String, Use> {
    let namespace = quota.namespace().unwrap_or_default();
    let fabrics = world.fabrics.state();
    let mut used: BTreeMap<String, Use> = fabrics
        .iter()
        .map(|fabric| (fabric.name_any(), Use::default()))
        .chain(quota.spec.fabric_name.iter().map(|name| (name.clone(), Use::default())))
        .filter(|(fabric, _)| is_on(quota, fabric))
        .collect();
    for ledger in world.ledgers.state() {
        let fabric = ledger.name_any();
        if !is_on(quota, &fabric) {
            continue;
        }
        // By network: a ledger that was spoilt by hand may name one twice.
        let mut networks: BTreeMap<&str, Use> = BTreeMap::new();
        let its = |entry: &&railhead_crds::LedgerEntry| entry.owner.namespace == namespace && counts(entry);
        for entry in ledger.spec.entries.iter().filter(its) {
            let slice = world.slice(&namespace, &names::slice(&entry.owner.name, &entry.owner.uid));
            let slice = slice.filter(|slice| slice.spec.network.uid == entry.owner.uid);
            let network = networks.entry(entry.owner.uid.as_str()).or_default();
            *network = network.or_more(Use::of_entry(entry, slice.as_deref()));
        }
        let sum = networks.into_values().fold(Use::default(), Use::plus);
        if sum != Use::default() || used.contains_key(&fabric) {
            used.insert(fabric, sum);
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store, watcher::Event};
    use railhead_planner::ledger;
    use serde_json::json;

    use super::*;
    use crate::{grouped::Grouped, network::fixtures, world};

    #[test]
    fn what_a_namespace_uses_is_counted_by_the_ledgers_and_by_slices_that_have_grown() {
        let (ledgers, mut ledgers_in) = store();
        let (slices, mut slices_in) = store();
        let slices = Grouped::new(slices, world::network_of_slice);
        let mut ledger = ledger::from_held([ledger::entry_of(&fixtures::slice(2))]);
        let mut elsewhere = ledger.entries[0].clone();
        elsewhere.owner.namespace = "team-b".to_owned();
        elsewhere.owner.uid = "other".to_owned();
        let mut rests = ledger.entries[0].clone();
        rests.owner.uid = "gone".to_owned();
        rests.state = railhead_crds::LedgerState::Resting;
        ledger.entries.extend([elsewhere, rests]);
        let ledger = railhead_crds::FabricLedger::new("backend", ledger);
        ledgers_in.apply_watcher_event(&Event::Apply(ledger));
        let world = World {
            ledgers,
            slices: slices.clone(),
            ..world::tests::empty()
        };
        let quota: NetworkQuota = serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkQuota",
            "metadata": {"name": "rails", "namespace": "team-a"}, "spec": {"fabricName": "backend", "hard": {"networks": 1}},
        }))
        .unwrap();
        let uses = |world: &World| {
            let used = used(world, &quota);
            assert_eq!(used.len(), 1);
            let used = used["backend"];
            (used.networks, used.pods, used.mbps, used.vlans)
        };
        assert_eq!(uses(&world), (1, 2, 800, 1));
        let mut grown = fixtures::slice(2);
        grown.spec.pods = 3;
        let grown = Event::Apply(grown);
        slices.follow(&grown);
        slices_in.apply_watcher_event(&grown);
        assert_eq!(uses(&world), (1, 3, 1200, 1));
    }
}
