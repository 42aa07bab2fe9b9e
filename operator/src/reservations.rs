//! The one place that writes ledgers.
//!
//! Requests wait in a bounded queue. The worker takes all that wait, reads the ledger, plans, and writes once with the
//! resourceVersion that it read. If somebody else wrote meanwhile it starts over, so two operators that both think they lead
//! cannot give one block or VLAN away twice. What a slice holds is in the ledger, or is entered again before anything new; where
//! the ledger gives it to another already, it is at least given to no third.

mod lost;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
    runtime::reflector::Store,
};
use railhead_crds::{FabricLedger, FabricLedgerSpec, LedgerEntry, NetworkSlice, VlanRange};
use railhead_planner::{
    ledger::{self, Refusal, Request},
    slots::SlotSpace,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::{metrics::Metrics, write};

/// Each controller has at most 8 requests waiting, and a batch larger than this would make the first of it wait for long.
const BATCH: usize = 256;
/// With n writers at once somebody always wins, so the losers need about n turns.
const ATTEMPTS: u32 = 32;

/// Why a ledger could not be read or written. Shared by all requests of a batch.
#[derive(Clone, Debug, Error)]
pub(crate) enum LedgerError {
    #[error("cannot read FabricLedger {name}")]
    Read { name: String, source: Arc<kube::Error> },
    #[error("cannot write FabricLedger {name}")]
    Write { name: String, source: Arc<kube::Error> },
    #[error("FabricLedger {name} was changed by others {ATTEMPTS} times in a row; it is tried again")]
    Contended { name: String },
    #[error("cannot list the slices of Fabric {name}, whose ledger has to be made from them")]
    ListSlices { name: String, source: Arc<kube::Error> },
    #[error("cannot read NetworkSlice {name}, which the ledger of its fabric does not know")]
    ReadSlice { name: String, source: Arc<kube::Error> },
    #[error("the reservation worker has ended")]
    Ended,
}

impl LedgerError {
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Contended { .. })
    }
}

type Reserved = Result<Result<LedgerEntry, Refusal>, LedgerError>;

struct Reserve {
    fabric: String,
    space: Arc<SlotSpace>,
    vlans: VlanRange,
    request: Request,
    reply: oneshot::Sender<Reserved>,
}

struct Release {
    owner_uid: String,
    reply: oneshot::Sender<Result<(), LedgerError>>,
}

enum Command {
    Reserve(Reserve),
    Release(Release),
}

/// The requesting end of the queue.
#[derive(Clone)]
pub(crate) struct Reservations {
    queue: mpsc::Sender<Command>,
}

impl Reservations {
    /// Reserves a block and a VLAN; an owner that holds one gets that one.
    pub(crate) async fn reserve(
        &self,
        fabric: &str,
        space: Arc<SlotSpace>,
        vlans: VlanRange,
        request: Request,
    ) -> Reserved {
        let (reply, answer) = oneshot::channel();
        let fabric = fabric.to_owned();
        let reserve = Reserve {
            fabric,
            space,
            vlans,
            request,
            reply,
        };
        self.queue
            .send(Command::Reserve(reserve))
            .await
            .map_err(|_| LedgerError::Ended)?;
        answer.await.map_err(|_| LedgerError::Ended)?
    }

    /// Gives back what the network of that UID holds, on whichever fabric.
    pub(crate) async fn release(&self, owner_uid: &str) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let owner_uid = owner_uid.to_owned();
        self.queue
            .send(Command::Release(Release { owner_uid, reply }))
            .await
            .map_err(|_| LedgerError::Ended)?;
        answer.await.map_err(|_| LedgerError::Ended)?
    }
}

/// The queue and the worker behind it, to be spawned. `known_slices` are those that the watch has told of.
pub(crate) fn start(
    client: Client,
    known_slices: Store<NetworkSlice>,
    metrics: Arc<Metrics>,
) -> (Reservations, impl Future<Output = ()>) {
    let (queue, mut commands) = mpsc::channel(BATCH);
    let worker = Worker {
        ledgers: Api::all(client.clone()),
        client,
        known_slices,
        metrics,
    };
    let work = async move {
        let mut batch = Vec::new();
        while commands.recv_many(&mut batch, BATCH).await > 0 {
            worker.serve(batch.drain(..)).await;
        }
    };
    (Reservations { queue }, work)
}

struct Worker {
    client: Client,
    ledgers: Api<FabricLedger>,
    known_slices: Store<NetworkSlice>,
    metrics: Arc<Metrics>,
}

impl Worker {
    async fn serve(&self, batch: impl Iterator<Item = Command>) {
        let mut reserves: BTreeMap<String, Vec<Reserve>> = BTreeMap::new();
        let mut releases = Vec::new();
        for command in batch {
            match command {
                Command::Reserve(reserve) => reserves.entry(reserve.fabric.clone()).or_default().push(reserve),
                Command::Release(release) => releases.push(release),
            }
        }
        if !releases.is_empty() {
            let uids: Vec<&str> = releases.iter().map(|r| r.owner_uid.as_str()).collect();
            let result = self.release(&uids).await;
            for release in releases {
                // Who asked may have gone; what was written stays written.
                let _ = release.reply.send(result.clone());
            }
        }
        for (fabric, reserves) in reserves {
            let results = self.reserve(&fabric, &reserves).await;
            match results {
                Ok(results) => {
                    for (reserve, result) in reserves.into_iter().zip(results) {
                        self.metrics
                            .reservation(result.as_ref().map_or_else(Refusal::reason, |_| "Reserved"));
                        let _ = reserve.reply.send(Ok(result));
                    }
                }
                Err(error) => {
                    for reserve in reserves {
                        self.metrics.reservation("Failed");
                        let _ = reserve.reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn reserve(
        &self,
        fabric: &str,
        reserves: &[Reserve],
    ) -> Result<Vec<Result<LedgerEntry, Refusal>>, LedgerError> {
        let asked: Vec<Request> = reserves.iter().map(|r| r.request.clone()).collect();
        // The last one to ask knows the fabric best.
        let Some(newest) = reserves.last() else {
            return Ok(Vec::new());
        };
        for attempt in 0..ATTEMPTS {
            let mut ledger = self.read_or_create(fabric).await?;
            let mut requests = asked.clone();
            requests.extend(self.lost(fabric, &ledger.spec).await?);
            let outcome = ledger::reserve(&ledger.spec, &newest.space, newest.vlans, &requests);
            let mut results = outcome.results;
            results.truncate(asked.len());
            if !outcome.changed {
                return Ok(results);
            }
            ledger.spec = outcome.ledger;
            if self.replace(&ledger, attempt).await? {
                info!(
                    fabric,
                    requests = requests.len(),
                    sequence = ledger.spec.sequence,
                    "reserved"
                );
                return Ok(results);
            }
        }
        Err(LedgerError::Contended {
            name: fabric.to_owned(),
        })
    }

    async fn release(&self, owner_uids: &[&str]) -> Result<(), LedgerError> {
        let known = self
            .ledgers
            .list(&ListParams::default())
            .await
            .map_err(|source| LedgerError::Read {
                name: "(all)".to_owned(),
                source: Arc::new(source),
            })?;
        for ledger in known {
            self.release_in(ledger, owner_uids).await?;
        }
        Ok(())
    }

    async fn release_in(&self, mut ledger: FabricLedger, owner_uids: &[&str]) -> Result<(), LedgerError> {
        let name = ledger.name_any();
        for attempt in 0..ATTEMPTS {
            let mut next: Option<FabricLedgerSpec> = None;
            for uid in owner_uids {
                next = ledger::release(next.as_ref().unwrap_or(&ledger.spec), uid).or(next);
            }
            let Some(next) = next else { return Ok(()) };
            ledger.spec = next;
            if self.replace(&ledger, attempt).await? {
                info!(fabric = name, sequence = ledger.spec.sequence, "released");
                return Ok(());
            }
            match self.read(&name).await? {
                Some(found) => ledger = found,
                None => return Ok(()),
            }
        }
        Err(LedgerError::Contended { name })
    }

    /// Writes with the resourceVersion that was read; false if somebody else came first.
    async fn replace(&self, ledger: &FabricLedger, attempt: u32) -> Result<bool, LedgerError> {
        let name = ledger.name_any();
        let parameters = PostParams {
            field_manager: Some("railhead/ledger".to_owned()),
            ..PostParams::default()
        };
        match self.ledgers.replace(&name, &parameters, ledger).await {
            Ok(_) => {
                self.metrics.ledger_written();
                Ok(true)
            }
            Err(error) if write::is_conflict(&error) || write::is_not_found(&error) => {
                self.metrics.ledger_conflict();
                tokio::time::sleep(Duration::from_millis(u64::from(5 * attempt.min(20)))).await;
                Ok(false)
            }
            Err(source) => Err(LedgerError::Write {
                name,
                source: Arc::new(source),
            }),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<FabricLedger>, LedgerError> {
        self.ledgers.get_opt(name).await.map_err(|source| LedgerError::Read {
            name: name.to_owned(),
            source: Arc::new(source),
        })
    }

    async fn read_or_create(&self, fabric: &str) -> Result<FabricLedger, LedgerError> {
        for _ in 0..ATTEMPTS {
            if let Some(ledger) = self.read(fabric).await? {
                return Ok(ledger);
            }
            let slices: Api<NetworkSlice> = Api::all(self.client.clone());
            let slices = slices
                .list(&ListParams::default())
                .await
                .map_err(|source| LedgerError::ListSlices {
                    name: fabric.to_owned(),
                    source: Arc::new(source),
                })?;
            let spec = lost::from_slices(fabric, &slices.items);
            if !spec.entries.is_empty() {
                warn!(
                    fabric,
                    entries = spec.entries.len(),
                    "the ledger was gone and is made again from the slices"
                );
            }
            match self
                .ledgers
                .create(&PostParams::default(), &FabricLedger::new(fabric, spec))
                .await
            {
                Ok(ledger) => return Ok(ledger),
                Err(error) if write::already_exists(&error) => self.metrics.ledger_conflict(),
                Err(source) => {
                    return Err(LedgerError::Write {
                        name: fabric.to_owned(),
                        source: Arc::new(source),
                    });
                }
            }
        }
        Err(LedgerError::Contended {
            name: fabric.to_owned(),
        })
    }
}
