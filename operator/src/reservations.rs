//! The one place that writes ledgers.
//!
//! Requests wait in a bounded queue. The worker takes all that wait, reads the ledger (or has it from its own last write), plans, and
//! writes once with the resourceVersion that it read. If somebody else wrote meanwhile it starts over, so two operators that both think they lead
//! cannot give one block or VLAN away twice. What a slice holds is in the ledger, or is entered again before anything new; where
//! the ledger gives it to another already, it is at least given to no third. A ledger of a later release is left as it is.

mod ledgers;
mod line;
mod lost;
mod restored;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, ResourceExt as _};
use railhead_crds::{FabricLedger, FabricLedgerSpec, LedgerEntry, LedgerPool};
use railhead_planner::{
    ledger::{self, Kept, Refusal, Request, Wanted},
    pools,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use self::{ledgers::Listed, line::Line, lost::Checked};
use crate::{metrics::Metrics, world::World};

/// A batch larger than this would make the first of it wait for long. As many networks as are worked on at a time wait at most.
const BATCH: usize = 256;
/// Behind a batch there is a pause of its own length, but no longer than this: whoever comes meanwhile shares one write of the ledger,
/// which costs the more the more it holds.
const PAUSE: Duration = Duration::from_millis(300);
/// With n writers at once somebody always wins, so the losers need about n turns.
const ATTEMPTS: u32 = 32;

/// Why a ledger could not be read or written. Shared by all requests of a batch.
#[derive(Clone, Debug, Error)]
pub(crate) enum LedgerError {
    #[error("cannot read FabricLedger {name}")]
    Read { name: String, source: Arc<kube::Error> },
    #[error("cannot write FabricLedger {name}")]
    Write { name: String, source: Arc<kube::Error> },
    #[error("cannot read FabricLedger {name} ({why}): run the release of Railhead that wrote it, or a later one")]
    Unreadable { name: String, why: String },
    #[error("cannot find out whether Fabric {name} still exists")]
    ReadFabric { name: String, source: Arc<kube::Error> },
    #[error("FabricLedger {name} keeps the reservation")]
    Kept { name: String, source: Kept },
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

/// What a network got.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) entry: LedgerEntry,
    /// The pools in which it lies. Empty where the ledger was written by a release that does not say so.
    pub(crate) pools: Vec<LedgerPool>,
}

impl Given {
    pub(crate) fn of(ledger: &FabricLedgerSpec, entry: LedgerEntry) -> Self {
        Self {
            pools: pools::of_entry(ledger, &entry),
            entry,
        }
    }
}

type Reserved = Result<Result<Given, Refusal>, LedgerError>;

struct Reserve {
    fabric: String,
    request: Request,
    reply: oneshot::Sender<Reserved>,
}

struct Release {
    owner_uid: String,
    reply: oneshot::Sender<Result<(), LedgerError>>,
}

/// The ledger of a fabric is compared with what nodes say.
struct Look {
    fabric: String,
    reply: oneshot::Sender<Result<(), LedgerError>>,
}

enum Command {
    Reserve(Box<Reserve>),
    Release(Release),
    Look(Look),
}

/// The requesting end of the queue.
#[derive(Clone)]
pub(crate) struct Reservations {
    queue: mpsc::Sender<Command>,
    rest: Duration,
}

impl Reservations {
    /// How long what was read of a ledger may be relied on: half as long as anything rests. Without a rest nobody can tell.
    pub(crate) fn trusted_for(&self) -> Duration {
        if self.rest.is_zero() {
            Duration::MAX
        } else {
            self.rest / 2
        }
    }

    /// Reserves a block and a VLAN; an owner that holds one gets that one.
    pub(crate) async fn reserve(&self, fabric: &str, request: Request) -> Reserved {
        let (reply, answer) = oneshot::channel();
        let fabric = fabric.to_owned();
        let reserve = Reserve { fabric, request, reply };
        self.queue
            .send(Command::Reserve(Box::new(reserve)))
            .await
            .map_err(|_| LedgerError::Ended)?;
        answer.await.map_err(|_| LedgerError::Ended)?
    }

    /// Compares the ledger of a fabric with what its nodes say that their pods hold, and writes what follows from that.
    pub(crate) async fn look(&self, fabric: &str) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let fabric = fabric.to_owned();
        self.queue
            .send(Command::Look(Look { fabric, reply }))
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

/// The queue and the worker behind it, to be spawned. What is given back rests for so long before anybody gets it.
pub(crate) fn start(
    client: Client,
    world: World,
    metrics: Arc<Metrics>,
    rest: Duration,
) -> (Reservations, impl Future<Output = ()>) {
    let (queue, mut commands) = mpsc::channel(BATCH);
    let worker = Worker {
        ledgers: Api::all(client.clone()),
        client,
        world,
        metrics,
        rest: SignedDuration::try_from(rest).unwrap_or(SignedDuration::MAX),
        checked: Mutex::default(),
        counted: Mutex::default(),
        compared: Mutex::default(),
        line: Mutex::default(),
    };
    let work = async move {
        let mut batch = Vec::new();
        while commands.recv_many(&mut batch, BATCH).await > 0 {
            let begun = Instant::now();
            worker.serve(batch.drain(..)).await;
            tokio::time::sleep(begun.elapsed().min(PAUSE)).await;
        }
    };
    (Reservations { queue, rest }, work)
}

struct Worker {
    client: Client,
    ledgers: Api<FabricLedger>,
    /// What the watches have told of.
    world: World,
    metrics: Arc<Metrics>,
    rest: SignedDuration,
    /// By fabric.
    checked: Mutex<HashMap<String, Checked>>,
    /// How far ledgers were seen to have counted, by their UIDs.
    counted: Mutex<HashMap<String, u64>>,
    /// What nodes had said when a ledger was found to be as new as that, by fabric.
    compared: Mutex<HashMap<String, u64>>,
    /// Networks that quotas turned away.
    line: Mutex<Line>,
}

impl Worker {
    async fn serve(&self, batch: impl Iterator<Item = Command>) {
        let mut reserves: BTreeMap<String, Vec<Reserve>> = BTreeMap::new();
        let mut releases = Vec::new();
        let mut looks: BTreeMap<String, Vec<Look>> = BTreeMap::new();
        for command in batch {
            match command {
                Command::Reserve(reserve) => reserves.entry(reserve.fabric.clone()).or_default().push(*reserve),
                Command::Release(release) => releases.push(release),
                Command::Look(look) => looks.entry(look.fabric.clone()).or_default().push(look),
            }
        }
        if !releases.is_empty() {
            let uids: Vec<&str> = releases.iter().map(|r| r.owner_uid.as_str()).collect();
            let result = self.release(&uids).await;
            for release in releases {
                let answer = match &result {
                    Ok(kept) => kept.get(&release.owner_uid).cloned().map_or(Ok(()), Err),
                    Err(error) => Err(error.clone()),
                };
                // Who asked may have gone; what was written stays written.
                let _ = release.reply.send(answer);
            }
        }
        for (fabric, looks) in looks {
            let result = self.reserve(&fabric, &[]).await.map(drop);
            for look in looks {
                let _ = look.reply.send(result.clone());
            }
        }
        for (fabric, mut reserves) in reserves {
            reserves.sort_by_cached_key(|reserve| line::age(&self.world, &reserve.request.owner));
            let results = self.reserve(&fabric, &reserves).await;
            match results {
                Ok(results) => {
                    for (reserve, result) in reserves.into_iter().zip(results) {
                        self.metrics.reservation(
                            result
                                .as_ref()
                                .map_or_else(|refusal| refusal.reason().name(), |_| "Reserved"),
                        );
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

    async fn reserve(&self, fabric: &str, reserves: &[Reserve]) -> Result<Vec<Result<Given, Refusal>>, LedgerError> {
        let asked: Vec<Request> = reserves.iter().map(|r| r.request.clone()).collect();
        let bounds = self.bounds(fabric, &asked);
        // What was written here a moment ago is not read again.
        let mut written = self.written_last(fabric);
        for attempt in 0..ATTEMPTS {
            let is_told = written.is_some();
            let ledger = match written.take() {
                Some(written) => Ok(Some(written)),
                None => self.read_or_create(fabric).await,
            };
            let mut ledger = match ledger {
                Ok(Some(ledger)) => ledger,
                Ok(None) => return Ok(asked.into_iter().map(without_fabric).collect()),
                Err(LedgerError::Unreadable { why, .. }) => {
                    let refused = Refusal::LedgerUnreadable { why };
                    return Ok(vec![Err(refused); asked.len()]);
                }
                Err(error) => return Err(error),
            };
            let (compared, waiting) = self.compare(fabric, &mut ledger);
            let is_new = |request: &&Request| matches!(request.wanted, Wanted::Block { .. });
            let gets = |request: &&Request| waiting.is_none() || !is_new(request);
            let mut requests: Vec<Request> = asked.iter().filter(gets).cloned().collect();
            let count = requests.len();
            requests.extend(self.lost(fabric, &ledger).await?);
            let mut slices = self.world.slices.state();
            slices.retain(|slice| slice.spec.fabric.name == fabric);
            let outcome = ledger::reserve(&ledger.spec, &slices, &requests, &bounds);
            let mut planned = outcome.results.into_iter().take(count);
            let given = |entry| Given::of(&outcome.ledger, entry);
            let result = |request: &Request| match &waiting {
                Some(waiting) if is_new(&request) => Err(Refusal::Restored {
                    waiting: waiting.clone(),
                }),
                // There is one for each that was not held back.
                _ => planned.next().unwrap_or(Err(Refusal::FabricGone)).map(given),
            };
            let results: Vec<_> = asked.iter().map(result).collect();
            if !outcome.changed && !compared {
                let is_held = |request: &Request| matches!(request.wanted, Wanted::Held(_));
                if is_told && !(asked.iter().all(is_held) && results.iter().all(Result::is_ok)) {
                    // Nobody is refused because of what may have been so a moment ago.
                    self.forget_written(fabric);
                    continue;
                }
                self.stand_in_line(fabric, &bounds, &asked, &results);
                return Ok(results);
            }
            ledger.spec = outcome.ledger;
            if self.replace(&ledger, attempt).await?.is_some() {
                info!(
                    fabric,
                    requests = requests.len(),
                    sequence = ledger.spec.sequence,
                    "reserved"
                );
                self.stand_in_line(fabric, &bounds, &asked, &results);
                return Ok(results);
            }
            self.forget_written(fabric);
        }
        Err(LedgerError::Contended {
            name: fabric.to_owned(),
        })
    }

    /// Frees what these networks hold, and returns what is kept all the same, and why.
    async fn release(&self, owner_uids: &[&str]) -> Result<HashMap<String, LedgerError>, LedgerError> {
        let mut kept = HashMap::new();
        for listed in self.list().await? {
            match listed {
                Listed::Ledger(ledger) => self.release_in(*ledger, owner_uids, &mut kept).await?,
                Listed::Unreadable { name, why } => self.keep_unread(&name, &why, owner_uids, &mut kept).await?,
            }
        }
        Ok(kept)
    }

    async fn release_in(
        &self,
        mut ledger: FabricLedger,
        owner_uids: &[&str],
        kept: &mut HashMap<String, LedgerError>,
    ) -> Result<(), LedgerError> {
        let name = ledger.name_any();
        for attempt in 0..ATTEMPTS {
            // Before it counts on, behind which nobody could see any more that it is old.
            let (compared, _) = self.compare(&name, &mut ledger);
            let now = Timestamp::now();
            let mut next: Option<FabricLedgerSpec> = None;
            for uid in owner_uids {
                match ledger::release(next.as_ref().unwrap_or(&ledger.spec), uid, now, self.rest) {
                    Ok(freed) => next = freed.or(next),
                    Err(source) => {
                        let name = name.clone();
                        kept.insert((*uid).to_owned(), LedgerError::Kept { name, source });
                    }
                }
            }
            if next.is_none() && !compared {
                return self.drop_if_nobodys(&ledger).await;
            }
            if let Some(next) = next {
                ledger.spec = next;
            }
            if let Some(written) = self.replace(&ledger, attempt).await? {
                info!(fabric = name, sequence = written.spec.sequence, "released");
                return self.drop_if_nobodys(&written).await;
            }
            match self.read(&name).await {
                Ok(Some(found)) => ledger = found,
                Ok(None) => return Ok(()),
                Err(LedgerError::Unreadable { name, why }) => {
                    return self.keep_unread(&name, &why, owner_uids, kept).await;
                }
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Contended { name })
    }

    /// A ledger that cannot be read may hold something for whom it speaks of.
    async fn keep_unread(
        &self,
        name: &str,
        why: &str,
        owner_uids: &[&str],
        kept: &mut HashMap<String, LedgerError>,
    ) -> Result<(), LedgerError> {
        for uid in self.spoken_of(name, owner_uids).await? {
            let source = Kept::Unreadable { why: why.to_owned() };
            let name = name.to_owned();
            kept.insert(uid.to_owned(), LedgerError::Kept { name, source });
        }
        Ok(())
    }
}

/// What is said of a fabric that is gone or going: what a slice has stays its, and nothing new is given.
fn without_fabric(request: Request) -> Result<Given, Refusal> {
    match request.wanted {
        Wanted::Held(entry) => Ok(Given {
            entry: *entry,
            pools: Vec::new(),
        }),
        Wanted::Block { .. } | Wanted::More { .. } => Err(Refusal::FabricGone),
    }
}
