//! What `/metrics` tells.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use railhead_crds::TrainingNetwork;

use crate::{conditions, world::World};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconcile {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// The operator's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<Reconcile, Counter>,
    reservations: Family<Outcome, Counter>,
    ledger_conflicts: Counter,
    ledger_writes: Counter,
    networks: Family<State, Gauge>,
    attachments: Gauge,
    leader: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("railhead_operator");
        let metrics = Self {
            reconciles: Family::default(),
            reservations: Family::default(),
            ledger_conflicts: Counter::default(),
            ledger_writes: Counter::default(),
            networks: Family::default(),
            attachments: Gauge::default(),
            leader: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "reconciles",
            "Reconciliations by kind and outcome",
            metrics.reconciles.clone(),
        );
        registry.register(
            "reservations",
            "Requests for a block of addresses and a VLAN, by outcome",
            metrics.reservations.clone(),
        );
        registry.register(
            "ledger_conflicts",
            "Ledger writes that somebody else came before; each was read and planned again",
            metrics.ledger_conflicts.clone(),
        );
        registry.register(
            "ledger_writes",
            "Ledger writes that the API server took",
            metrics.ledger_writes.clone(),
        );
        registry.register("networks", "TrainingNetworks by state", metrics.networks.clone());
        registry.register(
            "attachments",
            "NetworkAttachments: indices that pods hold",
            metrics.attachments.clone(),
        );
        registry.register("leader", "1 if this replica writes", metrics.leader.clone());
        Self { registry, ..metrics }
    }

    pub(crate) fn reconciled(&self, kind: &'static str, outcome: &'static str) {
        self.reconciles.get_or_create(&Reconcile { kind, outcome }).inc();
    }

    pub(crate) fn reservation(&self, outcome: &'static str) {
        self.reservations.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn ledger_conflict(&self) {
        self.ledger_conflicts.inc();
    }

    pub(crate) fn ledger_written(&self) {
        self.ledger_writes.inc();
    }

    pub(crate) fn leads(&self) {
        self.leader.set(1);
    }

    /// The text of the Prometheus exposition format, with gauges as the stores are now.
    pub(crate) fn text(&self, world: &World) -> Result<String, std::fmt::Error> {
        let networks = world.networks.state();
        for state in ["pending", "reserved", "attached", "deleting"] {
            let count = networks.iter().filter(|n| state_of(n) == state).count();
            self.networks
                .get_or_create(&State { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.attachments
            .set(i64::try_from(world.attachments.len()).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn state_of(network: &TrainingNetwork) -> &'static str {
    let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
    if network.metadata.deletion_timestamp.is_some() {
        "deleting"
    } else if conditions::is_true(conditions, "Attached") {
        "attached"
    } else if conditions::is_true(conditions, "Reserved") {
        "reserved"
    } else {
        "pending"
    }
}
