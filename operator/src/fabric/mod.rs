//! Fabric: what each of its nodes should have, how full it is, and what is missing.

mod decide;
mod delete;
mod leave;
mod news;
mod nodes;
pub(crate) mod others;
mod pools;
mod ports;
mod sweep;

pub(crate) use sweep::sweep_orphans;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, runtime::controller::Action, runtime::reflector::ObjectRef};
use railhead_crds::{Fabric, names::FABRIC_FINALIZER};
use railhead_planner::ledger;
use railhead_service::events::Recorder;
use thiserror::Error;

use crate::{
    class, conditions,
    controller::Category,
    recount,
    reservations::{LedgerError, Reservations},
    world::World,
    write,
};

const MANAGER: &str = "railhead/fabric";
/// How many nodes are written at a time.
const AT_ONCE: usize = 16;

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) reservations: Reservations,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) resync: Duration,
}

/// Why a fabric could not be looked after. Tried again.
#[derive(Debug, Error)]
pub(crate) enum FabricError {
    #[error("cannot set the finalizer of Fabric {name}")]
    Finalizer { name: String, source: Box<kube::Error> },
    #[error("cannot write NodeNetwork {name}")]
    WriteNode { name: String, source: Box<kube::Error> },
    #[error("cannot delete NodeNetwork {name}")]
    DeleteNode { name: String, source: Box<kube::Error> },
    #[error("cannot read the ledger of Fabric {name}")]
    ReadLedger { name: String, source: Box<kube::Error> },
    #[error("cannot delete the ledger of Fabric {name}")]
    DeleteLedger { name: String, source: Box<kube::Error> },
    #[error("cannot find out whether {owner}, which holds addresses of Fabric {name}, still exists")]
    ReadOwner {
        name: String,
        owner: String,
        source: Box<kube::Error>,
    },
    #[error("cannot give back what {owner} held on Fabric {name}")]
    Sweep {
        name: String,
        owner: String,
        source: LedgerError,
    },
    #[error("cannot compare the ledger of Fabric {name} with what its nodes say")]
    Compare { name: String, source: LedgerError },
    #[error("cannot write the status of Fabric {name}")]
    WriteStatus { name: String, source: Box<kube::Error> },
}

impl Category for FabricError {
    fn category(&self) -> &'static str {
        match self {
            Self::Finalizer { .. } => "finalizer",
            Self::WriteNode { .. } | Self::DeleteNode { .. } => "node",
            Self::ReadLedger { .. } | Self::DeleteLedger { .. } | Self::Compare { .. } => "ledger",
            Self::ReadOwner { .. } | Self::Sweep { .. } => "sweep",
            Self::WriteStatus { .. } => "status",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::Finalizer { source, .. }
            | Self::WriteNode { source, .. }
            | Self::DeleteNode { source, .. }
            | Self::ReadLedger { source, .. }
            | Self::DeleteLedger { source, .. }
            | Self::ReadOwner { source, .. }
            | Self::WriteStatus { source, .. } => write::is_conflict(source) || write::is_not_found(source),
            Self::Sweep { source, .. } | Self::Compare { source, .. } => source.is_conflict(),
        }
    }
}

pub(crate) async fn reconcile(fabric: Arc<Fabric>, context: Arc<Context>) -> Result<Action, FabricError> {
    let name = fabric.name_any();
    let api: Api<Fabric> = Api::all(context.client.clone());
    // Neither a ledger that cannot be compared nor an entry that cannot be given back holds up anything else.
    let compared = context.compare(&name).await;
    let swept = compared.and(context.sweep(&name).await);
    if fabric.metadata.deletion_timestamp.is_some() {
        context.ask_all(&name).await?;
        let action = context.delete(&fabric).await?;
        return swept.map(|()| action);
    }
    if !write::has_finalizer(&*fabric, FABRIC_FINALIZER) {
        return match write::add_finalizer(&api, &*fabric, FABRIC_FINALIZER).await {
            Ok(_) => Ok(Action::await_change()),
            Err(source) => Err(FabricError::Finalizer {
                name,
                source: Box::new(source),
            }),
        };
    }
    let (nodes, failed) = context.write_nodes(&fabric).await;
    let defaults = class::defaults(&context.world.fabrics, |fabric| fabric.spec.default);
    let default = class::default_said("Fabric", &name, &defaults, "spec.fabricName");
    if let Some(news) = class::conflict(&default) {
        context.recorder.publish(&*fabric, &news).await;
    }
    let status = context.status(&fabric, &nodes, default);
    if context.write_status(&fabric, &status).await? {
        for news in news::news(fabric.status.as_ref(), &status) {
            context.recorder.publish(&*fabric, &news).await;
        }
    }
    failed.map_or(swept, Err)?;
    let until_awake = context.until_awake(&name).unwrap_or(context.resync);
    Ok(Action::requeue(context.resync.min(until_awake)))
}

impl Context {
    /// Compares the ledger of a fabric with what nodes say of it, where there is news.
    async fn compare(&self, fabric: &str) -> Result<(), FabricError> {
        if !recount::is_due(&self.world, fabric) {
            return Ok(());
        }
        let compared = self.reservations.look(fabric).await;
        compared.map_err(|source| FabricError::Compare {
            name: fabric.to_owned(),
            source,
        })
    }

    /// Writes the status if it differs from the one that is there; returns whether it did.
    async fn write_status(&self, fabric: &Fabric, status: &railhead_crds::FabricStatus) -> Result<bool, FabricError> {
        if fabric.status.as_ref() == Some(status) {
            return Ok(false);
        }
        let api: Api<Fabric> = Api::all(self.client.clone());
        let name = fabric.name_any();
        let written = write::status(&api, &name, MANAGER, status).await;
        written.map(|_| true).map_err(|source| FabricError::WriteStatus {
            name,
            source: Box::new(source),
        })
    }

    fn status(&self, fabric: &Fabric, nodes: &nodes::Nodes, default: conditions::Said) -> railhead_crds::FabricStatus {
        let name = fabric.name_any();
        let laid = self.world.lay_out(&name, &self.world.written(fabric));
        let conflicts = [&*laid.conflicts, &nodes.conflicts].concat();
        let empty = ledger::empty();
        let ledger = self.world.ledgers.get(&ObjectRef::new(&name));
        let entries = ledger.as_ref().map_or(&empty, |ledger| &ledger.spec);
        let words = recount::nodes(&self.world, &name, recount::asked(entries));
        let usage = ledger::usage(entries, &laid.space, fabric.spec.vlan.range);
        let of_fabric = self
            .world
            .node_networks
            .state_filter(|node| node.spec.fabric_name == name && nodes.selected.contains(&node.name_any()));
        decide::status(
            &decide::Seen {
                fabric,
                conflicts: &conflicts,
                laid: &laid,
                vlans_shared: others::vlans(&self.world, fabric),
                usage,
                nodes: &of_fabric,
                elsewhere: &nodes.elsewhere,
                leaving: &nodes.leaving,
                restored: recount::said(entries, &words),
                schemas: self.world.schemas.said(),
                default,
            },
            Timestamp::now(),
        )
    }
}
