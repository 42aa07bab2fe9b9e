//! Who comes first where a quota has no room for all: the oldest network. Those that were turned away are remembered, so that a younger
//! one that asks first, when room comes, does not get what an older one is about to ask for.

use std::{
    collections::{HashMap, HashSet},
    sync::{MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use railhead_crds::{LedgerOwner, reasons::Reason};
use railhead_planner::{
    ledger::{Refusal, Request, Wanted},
    quota::{Bounds, Waits},
};

use super::{Given, Worker};
use crate::{conditions, world::World};

/// By UID: the fabric, and what was asked for.
#[derive(Default)]
pub(super) struct Line(HashMap<String, (String, Waits)>);

/// Sorts networks, the oldest first. One that is gone comes last.
pub(super) fn age(world: &World, owner: &LedgerOwner) -> (bool, Option<Timestamp>, String, String) {
    let network = world.network(&owner.namespace, &owner.name);
    let network = network.filter(|network| network.metadata.uid.as_deref() == Some(&*owner.uid));
    let created = network
        .as_ref()
        .and_then(|network| network.metadata.creation_timestamp.as_ref());
    (
        network.is_none(),
        created.map(|created| created.0),
        owner.namespace.clone(),
        owner.name.clone(),
    )
}

/// Whether a network that was turned away still waits for its quota, as far as is known.
fn still_waits(world: &World, owner: &LedgerOwner) -> bool {
    let network = world.network(&owner.namespace, &owner.name);
    let network = network.filter(|network| network.metadata.uid.as_deref() == Some(&*owner.uid));
    network.is_some_and(|network| {
        let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let reserved = conditions::find(conditions, "Reserved");
        network.metadata.deletion_timestamp.is_none()
            && reserved.is_none_or(|reserved| reserved.reason == Reason::QuotaExceeded)
    })
}

impl Worker {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What bounds those that ask for something of a fabric now.
    pub(super) fn bounds(&self, fabric: &str, asked: &[Request]) -> Bounds {
        let is_bound = |request: &&Request| !matches!(request.wanted, Wanted::Held(_));
        let bound = asked.iter().filter(is_bound);
        let namespaces: HashSet<&str> = bound.map(|request| request.owner.namespace.as_str()).collect();
        if namespaces.is_empty() {
            return Bounds::default();
        }
        let mut quotas = self.world.quotas.on(fabric);
        quotas.retain(|quota| namespaces.contains(quota.namespace.as_str()));
        let mut line = self.line();
        line.0.retain(|_, (_, waits)| still_waits(&self.world, &waits.owner));
        if quotas.is_empty() {
            return Bounds::default();
        }
        let turned_away = line.0.values().filter(|(of, _)| of == fabric);
        let mut waiting: HashMap<String, Waits> = turned_away
            .map(|(_, waits)| (waits.owner.uid.clone(), waits.clone()))
            .collect();
        waiting.extend(
            asked
                .iter()
                .filter_map(waits)
                .map(|waits| (waits.owner.uid.clone(), waits)),
        );
        let mut waiting: Vec<Waits> = waiting.into_values().collect();
        waiting.sort_by_cached_key(|waits| age(&self.world, &waits.owner));
        Bounds { quotas, waiting }
    }

    /// Remembers who was turned away, and forgets who was not.
    pub(super) fn stand_in_line(
        &self,
        fabric: &str,
        bounds: &Bounds,
        asked: &[Request],
        results: &[Result<Given, Refusal>],
    ) {
        if bounds.quotas.is_empty() {
            return;
        }
        let mut line = self.line();
        for (waits, result) in asked.iter().map(waits).zip(results) {
            let Some(waits) = waits else { continue };
            let uid = waits.owner.uid.clone();
            match result {
                Err(Refusal::QuotaExceeded { .. } | Refusal::Behind { .. }) => {
                    line.0.insert(uid, (fabric.to_owned(), waits));
                }
                _ => {
                    line.0.remove(&uid);
                }
            }
        }
    }
}

/// A request of a network that has nothing yet.
fn waits(request: &Request) -> Option<Waits> {
    match &request.wanted {
        Wanted::Block { takes, .. } => Some(Waits {
            owner: request.owner.clone(),
            takes: takes.clone(),
        }),
        Wanted::More { .. } | Wanted::Held(_) => None,
    }
}
