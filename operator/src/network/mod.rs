//! TrainingNetwork: first one reservation, then the claim template, then the slice, then what is to be said about it.

mod decide;
mod delete;
#[cfg(test)]
pub(crate) mod fixtures;
mod grow;
mod made;
mod news;
mod reserve;
mod surplus;
mod template;
mod wording;

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, Resource as _, ResourceExt as _, runtime::controller::Action};
use railhead_crds::{
    NetworkSlice, TrainingNetwork,
    names::{self, NETWORK_FINALIZER},
    reasons::Reason,
};
use railhead_planner::{
    ledger::{self, Refusal, Wanted},
    network::{self as plan, Resolved},
    pools,
    tenant::Tenant,
};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::decide::{Reservation, Seen};
pub(crate) use self::{
    decide::is_wired,
    made::Made,
    template::delete as delete_template,
    wording::{listed, still_attached, vlan_of},
};
use railhead_service::events::{Event, Recorder};

use crate::{
    controller::Category,
    reservations::{LedgerError, Reservations},
    world::World,
    write,
};

const MANAGER: &str = "railhead/network";

/// What the controller works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) world: World,
    pub(crate) reservations: Reservations,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) resync: Duration,
    pub(crate) turns: Semaphore,
    pub(crate) made: Made,
}

/// How many networks are written at a time. More make the API server no faster and everybody's answers later, those of the ledger
/// and of the lease among them.
pub(crate) const WRITTEN_AT_ONCE: usize = 16;

/// Why nothing is given while nobody knows what a namespace may have.
const QUOTAS_UNREAD: &str = "the NetworkQuotas cannot be read, or not yet: their definition is missing or has just come; it goes on by \
                             itself within a minute of kubectl apply --server-side --force-conflicts -f charts/railhead/crds";

impl Context {
    /// Waits until it is this one's turn to write; who came first is first. Without turns, which are never closed, nobody waits.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }
}

/// Why a network could not be brought to what its spec says. Tried again.
#[derive(Debug, Error)]
pub(crate) enum NetworkError {
    #[error("cannot set the finalizer of TrainingNetwork {name}")]
    Finalizer { name: String, source: Box<kube::Error> },
    #[error("cannot read ResourceClaimTemplate {name}")]
    ReadTemplate { name: String, source: Box<kube::Error> },
    #[error("cannot write ResourceClaimTemplate {name}")]
    WriteTemplate { name: String, source: Box<kube::Error> },
    #[error("cannot make Kubernetes look again at waiting pod {pod}")]
    RequeuePod { pod: String, source: Box<kube::Error> },
    #[error("cannot change the reservation of TrainingNetwork {name}")]
    Ledger { name: String, source: LedgerError },
    #[error("cannot read NetworkSlice {name}")]
    ReadSlice { name: String, source: Box<kube::Error> },
    #[error("cannot write NetworkSlice {name}")]
    WriteSlice { name: String, source: Box<kube::Error> },
    #[error("TrainingNetwork {name}: {why}")]
    Turn { name: String, why: Refusal },
    #[error("the API server was so slow that the reservation of TrainingNetwork {name} has to be read again")]
    Late { name: String },
    #[error("cannot write the status of TrainingNetwork {name}")]
    WriteStatus { name: String, source: Box<kube::Error> },
}

impl Category for NetworkError {
    fn category(&self) -> &'static str {
        match self {
            Self::Finalizer { .. } => "finalizer",
            Self::ReadTemplate { .. } | Self::WriteTemplate { .. } => "template",
            Self::RequeuePod { .. } => "requeue",
            Self::Ledger { .. } => "ledger",
            Self::ReadSlice { .. } | Self::WriteSlice { .. } => "slice",
            Self::WriteStatus { .. } => "status",
            Self::Late { .. } => "late",
            Self::Turn { .. } => "turn",
        }
    }

    fn is_conflict(&self) -> bool {
        match self {
            Self::Finalizer { source, .. }
            | Self::ReadTemplate { source, .. }
            | Self::WriteTemplate { source, .. }
            | Self::RequeuePod { source, .. }
            | Self::ReadSlice { source, .. }
            | Self::WriteSlice { source, .. }
            | Self::WriteStatus { source, .. } => write::is_conflict(source) || write::is_not_found(source),
            Self::Ledger { source, .. } => source.is_conflict(),
            Self::Late { .. } => false,
            // It is ordinary, and over in a moment.
            Self::Turn { .. } => true,
        }
    }
}

/// One network on its way through a reconciliation.
struct Subject<'a> {
    context: &'a Context,
    network: &'a TrainingNetwork,
    namespace: String,
    name: String,
    uid: String,
}

/// What came of the attempt to reserve.
enum Outcome {
    Held {
        slice: Arc<NetworkSlice>,
        /// Why it has fewer pods than the network asks for by now.
        short: Option<String>,
    },
    Refused {
        reason: Reason,
        message: String,
    },
}

pub(crate) async fn reconcile(network: Arc<TrainingNetwork>, context: Arc<Context>) -> Result<Action, NetworkError> {
    if network.metadata.deletion_timestamp.is_some() {
        return Subject::of(&context, &network).delete().await;
    }
    if write::has_finalizer(&*network, NETWORK_FINALIZER) {
        return Subject::of(&context, &network).apply().await;
    }
    let namespace = network.namespace().unwrap_or_default();
    let api: Api<TrainingNetwork> = Api::namespaced(context.client.clone(), &namespace);
    let turn = context.turn().await;
    let held = write::add_finalizer(&api, &*network, NETWORK_FINALIZER)
        .await
        .map_err(|source| NetworkError::Finalizer {
            name: network.name_any(),
            source: Box::new(source),
        })?;
    drop(turn);
    Subject::of(&context, &held).apply().await
}

impl<'a> Subject<'a> {
    fn of(context: &'a Context, network: &'a TrainingNetwork) -> Self {
        Self {
            context,
            network,
            namespace: network.namespace().unwrap_or_default(),
            name: network.name_any(),
            uid: network.uid().unwrap_or_default(),
        }
    }
}

impl Subject<'_> {
    async fn apply(&self) -> Result<Action, NetworkError> {
        let world = &self.context.world;
        let slice_name = names::slice(&self.name, &self.uid);
        let slice = world
            .slice(&self.namespace, &slice_name)
            .filter(|slice| slice.spec.network.uid == self.uid);
        if self.context.made.is_untold(&self.uid, slice.is_some()) {
            // The watch will tell of its slice, and wakes this network up again.
            return Ok(Action::requeue(made::UNTOLD));
        }
        if slice.is_none() && world.has_allow_lists() && world.namespace(&self.namespace).is_none() {
            // Of a namespace that has just been made the watch will tell, and wakes its networks up again.
            return Ok(Action::requeue(made::UNTOLD));
        }
        let contested = world.contested.of(&self.uid);
        let (resolved, outcome) = match (self.resolve(slice.as_deref()), contested, slice) {
            (resolved, Some(message), _) => {
                let reason = Reason::LedgerMismatch;
                (resolved.ok(), Outcome::Refused { reason, message })
            }
            (Ok(resolved), None, Some(slice)) => {
                let outcome = self.keep(&resolved, slice).await?;
                (Some(resolved), outcome)
            }
            (Ok(resolved), None, None) => {
                let outcome = self.make(&resolved).await?;
                (Some(resolved), outcome)
            }
            (Err(refused), None, _) => (None, refused),
        };
        if let Outcome::Refused { reason, .. } = &outcome {
            self.withdraw_template(*reason == Reason::LedgerMismatch).await?;
        }
        self.report(resolved.as_ref(), &outcome).await?;
        Ok(Action::requeue(self.context.resync))
    }

    /// What the spec refers to; for a network that has its slice, what the slice says: an edited class or fabric never
    /// alters it.
    fn resolve(&self, slice: Option<&NetworkSlice>) -> Result<Resolved, Outcome> {
        let world = &self.context.world;
        if let Some(slice) = slice {
            let fabric = world.fabric(&slice.spec.fabric.name);
            return Ok(plan::from_slice(slice, fabric.as_deref()));
        }
        let namespace = world.namespace(&self.namespace);
        let has = |key: &str, value: &str| {
            let labels = namespace.as_ref().map(|namespace| &namespace.labels);
            labels.and_then(|labels| labels.get(key)) == Some(value)
        };
        let tenant = Tenant {
            namespace: &self.namespace,
            has: &has,
        };
        let resolved = plan::resolve(
            self.network,
            &tenant,
            &world.fabrics.state(),
            &world.classes.state(),
            &world.node_networks.state(),
        )
        .map_err(|unresolved| Outcome::Refused {
            reason: unresolved.reason(),
            message: unresolved.to_string(),
        })?;
        if resolved.fabric.metadata.deletion_timestamp.is_some() {
            return Err(Outcome::Refused {
                reason: Reason::FabricNotFound,
                message: format!(
                    "Fabric {:?} is being deleted: wait for it to be applied anew, or name another in spec.fabricName",
                    resolved.fabric.name_any()
                ),
            });
        }
        Ok(resolved)
    }

    /// For a network with a slice: everything that belongs to it is there, and the ledger agrees.
    async fn keep(&self, resolved: &Resolved, slice: Arc<NetworkSlice>) -> Result<Outcome, NetworkError> {
        let wanted = Wanted::Held(Box::new(ledger::entry_of(&slice)));
        let outcome = match self.reserve(&slice.spec.fabric.name, wanted).await? {
            Ok(given) => reserve::standing(slice, &self.uid, &given.entry),
            Err(refused) => refused,
        };
        if matches!(
            outcome,
            Outcome::Refused {
                reason: Reason::LedgerMismatch,
                ..
            }
        ) {
            return Ok(outcome);
        }
        if let Err(refused) = self.offer_template(resolved).await? {
            return Ok(refused);
        }
        match outcome {
            Outcome::Held { slice, .. } => self.grow(resolved, slice).await,
            refused @ Outcome::Refused { .. } => Ok(refused),
        }
    }

    /// For a network without a slice. Its template comes when the reservation is certain, so that the pods of a network that
    /// gets nothing hold no ports; and together with the slice. Of which only one was made, the other one is made next.
    async fn make(&self, resolved: &Resolved) -> Result<Outcome, NetworkError> {
        // Under older definitions the ledger would be written and the slice refused.
        if let Some(message) = self.context.world.schemas.older() {
            let reason = Reason::SchemaOlder;
            return Ok(Outcome::Refused { reason, message });
        }
        if !self.context.world.quotas.are_read() {
            return Ok(Outcome::Refused {
                reason: Reason::SchemaOlder,
                message: QUOTAS_UNREAD.to_owned(),
            });
        }
        if let Some(conflict) = self.foreign_template() {
            return Ok(conflict);
        }
        let invalid = |why: &dyn Display| Outcome::Refused {
            reason: Reason::FabricInvalid,
            message: format!("Fabric {}: {why}", resolved.fabric.name_any()),
        };
        let written = Arc::new(self.context.world.written(&resolved.fabric));
        let wanted = Wanted::Block {
            pods: self.network.spec.room(),
            takes: plan::takes(self.network, resolved),
            written: Arc::clone(&written),
        };
        let asked = Instant::now();
        let given = match self.reserve(&resolved.fabric.name_any(), wanted).await? {
            Ok(given) => given,
            Err(refused) => return Ok(refused),
        };
        let space = if given.pools.is_empty() {
            self.context.world.lay_out(&resolved.fabric.name_any(), &written).space
        } else {
            pools::recorded(&written.rails, &given.pools)
        };
        let slice = match plan::slice(self.network, resolved, &space, &given.entry) {
            Ok(slice) => slice,
            Err(error) => return Ok(invalid(&error)),
        };
        let _turn = self.context.turn().await;
        // What was given back meanwhile rests, and is another's after that.
        if asked.elapsed() > self.context.reservations.trusted_for() {
            return Err(NetworkError::Late {
                name: self.name.clone(),
            });
        }
        let (offered, made) = tokio::join!(self.offer_template(resolved), self.create_slice(&slice));
        match offered? {
            Ok(()) => made,
            Err(refused) => made.map(|_| refused),
        }
    }

    /// Makes the template, and Kubernetes look again at the pods that came before it.
    async fn offer_template(&self, resolved: &Resolved) -> Result<Result<(), Outcome>, NetworkError> {
        match self.ensure_template(resolved).await? {
            template::Ensured::Ours(template) => self.requeue_pods(&template).await.map(Ok),
            template::Ensured::Foreign(conflict) => Ok(Err(conflict)),
        }
    }

    async fn report(&self, resolved: Option<&Resolved>, outcome: &Outcome) -> Result<(), NetworkError> {
        let world = &self.context.world;
        let slice_name = names::slice(&self.name, &self.uid);
        let attachments = world.attachments_of(&self.namespace, &slice_name);
        let pods = world.pods_of(&self.namespace, &self.name);
        let size = match outcome {
            Outcome::Held { slice, .. } => slice.spec.pods.min(self.network.spec.pods),
            Outcome::Refused { .. } => self.network.spec.pods,
        };
        let surplus = surplus::surplus(&pods, &attachments, size);
        let status = decide::status(
            &Seen {
                network: self.network,
                resolved,
                reservation: match outcome {
                    Outcome::Held { slice, short } => Reservation::Held {
                        slice,
                        short: short.as_deref(),
                    },
                    Outcome::Refused { reason, message } => Reservation::Refused {
                        reason: *reason,
                        message,
                    },
                },
                attachments: &attachments,
                pods: &pods,
                surplus: &surplus,
            },
            Timestamp::now(),
        );
        self.write_status(&status).await?;
        for pod in &surplus {
            let note = format!(
                "TrainingNetwork {} has {size} indices and no pod on its way out: this pod waits until another one ends; {}",
                self.name,
                surplus::next_step(size, surplus.len()),
            );
            let news = Event::warning("Attach", Reason::Oversubscribed, note);
            self.context.recorder.publish(&**pod, &news).await;
        }
        Ok(())
    }

    async fn write_status(&self, status: &railhead_crds::TrainingNetworkStatus) -> Result<(), NetworkError> {
        if self.network.status.as_ref() == Some(status) {
            return Ok(());
        }
        let api: Api<TrainingNetwork> = Api::namespaced(self.context.client.clone(), &self.namespace);
        let turn = self.context.turn().await;
        write::status(&api, &self.name, MANAGER, status)
            .await
            .map_err(|source| NetworkError::WriteStatus {
                name: self.name.clone(),
                source: Box::new(source),
            })?;
        drop(turn);
        let news = news::news(self.network.status.as_ref(), status);
        let (recorder, network) = (Arc::clone(&self.context.recorder), self.network.object_ref(&()));
        // Nobody waits for events; those of a thousand networks come one after the other behind their reservations.
        tokio::spawn(async move {
            for news in news {
                recorder.publish_about(network.clone(), &news).await;
            }
        });
        Ok(())
    }
}
