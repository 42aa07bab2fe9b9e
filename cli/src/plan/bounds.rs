//! What quotas leave for a network, as the operator counts it.

use railhead_crds::{LedgerOwner, TrainingNetwork, reasons::Reason};
use railhead_planner::{
    network::{self, Resolved},
    quota::{self, Bounds, Waits},
};

use super::resolve;
use crate::{
    cluster::{Cluster, key},
    lookup::{Conditions as _, condition},
};

/// What bounds a network of this namespace on its fabric.
pub(super) fn bounds(cluster: &Cluster, network: &TrainingNetwork, resolved: &Resolved) -> Bounds {
    let namespace = key(&network.metadata).0;
    let fabric = key(&resolved.fabric.metadata).1;
    let mut quotas = quota::on(&cluster.quotas, fabric);
    quotas.retain(|quota| quota.namespace == namespace);
    if quotas.is_empty() {
        return Bounds::default();
    }
    // Who was turned away before gets it first, the oldest of them before the others.
    let turned_away = |other: &&TrainingNetwork| {
        let reserved = condition(other.conditions(), "Reserved");
        key(&other.metadata).0 == namespace && reserved.is_some_and(|reserved| reserved.reason == Reason::QuotaExceeded)
    };
    let mut older: Vec<&TrainingNetwork> = cluster.networks.iter().filter(turned_away).collect();
    older.sort_by_key(|other| (other.metadata.creation_timestamp.clone(), key(&other.metadata).1));
    let waiting = older.into_iter().filter_map(|other| {
        let resolved = resolve(cluster, other, None).ok()?;
        (key(&resolved.fabric.metadata).1 == fabric).then(|| Waits {
            owner: owner(other),
            takes: network::takes(other, &resolved),
        })
    });
    let mut waiting: Vec<Waits> = waiting.collect();
    let own = owner(network);
    if waiting.iter().all(|waits| waits.owner != own) {
        waiting.push(Waits {
            owner: own,
            takes: network::takes(network, resolved),
        });
    }
    Bounds { quotas, waiting }
}

/// The network as ledgers name it.
pub(super) fn owner(network: &TrainingNetwork) -> LedgerOwner {
    let (namespace, name) = key(&network.metadata);
    LedgerOwner::new(namespace, name, network.metadata.uid.clone().unwrap_or_default())
}
