//! One replica writes. The lease keeps the others from interfering; that no block is given away twice does not depend on it,
//! but on the ledger's resourceVersion.
//!
//! Own code because of how the lease is taken: a PUT with the resourceVersion that was read, so that of two replicas that see
//! it run out only one gets it; and a leader that cannot renew in time ends before the lease does.
//!
//! The lease has a thread and a connection of its own: whatever the controllers compute or wait for, it is renewed.

use std::{
    io,
    thread::Builder as Thread,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease as Record, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use railhead_service::{chain, client};
use thiserror::Error;
use tokio::{
    runtime,
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::warn;

use crate::write;

/// How long others wait for a leader that is silent.
const DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it gives up, well before others may take over.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time from one renewal to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// How often a replica that does not lead looks whether it may: what was handed back waits for it no longer.
const LOOK: Duration = Duration::from_millis(500);
/// How long one attempt may take, to take or to renew. An API server that is that slow is no faster when it is asked anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of this process may take to hand it back.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why this replica must not write.
#[derive(Debug, Error)]
pub(crate) enum LeaseError {
    #[error("lease {namespace}/{name} was lost to {holder}: this replica must not write any more and ends")]
    Taken {
        namespace: String,
        name: String,
        holder: String,
    },
    #[error(
        "lease {namespace}/{name} could not be renewed for {DEADLINE:?}: this replica must not write any more and ends"
    )]
    Expired { namespace: String, name: String },
    #[error("no thread for the lease")]
    Thread { source: io::Error },
    #[error("no way to the API server for the lease")]
    Connect { source: Box<kube::Error> },
    #[error("the thread of the lease has ended: this replica must not write any more and ends")]
    Ended,
}

/// The lease in its thread.
pub(crate) struct Keeper {
    gained: oneshot::Receiver<()>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), LeaseError>>,
}

impl Keeper {
    /// Applies for the lease.
    pub(crate) fn start(namespace: &str, name: &str, identity: &str) -> Result<Self, LeaseError> {
        let thread = |source| LeaseError::Thread { source };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(thread)?;
        let (namespace, name, identity) = (namespace.to_owned(), name.to_owned(), identity.to_owned());
        let (gains, gained) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let work = async move {
            let client = client::connect(PATIENCE).await;
            let client = client.map_err(|source| LeaseError::Connect {
                source: Box::new(source),
            })?;
            keep(Lease::new(client, &namespace, &name, &identity), gains, stopped).await
        };
        Thread::new()
            .name("lease".to_owned())
            // Nobody hears it where this replica is ending already.
            .spawn(move || drop(ends.send(runtime.block_on(work))))
            .map_err(thread)?;
        Ok(Self { gained, stop, ended })
    }

    /// Waits until this replica leads.
    pub(crate) async fn gained(&mut self) -> Result<(), LeaseError> {
        if (&mut self.gained).await.is_ok() {
            return Ok(());
        }
        self.lost().await
    }

    /// Waits until it leads no more, and says why.
    pub(crate) async fn lost(&mut self) -> Result<(), LeaseError> {
        (&mut self.ended).await.unwrap_or(Err(LeaseError::Ended))
    }

    /// Hands the lease back, if it is held.
    pub(crate) async fn stop(self) -> Result<(), LeaseError> {
        // Its thread may have ended, and says so itself.
        let _ = self.stop.send(());
        self.ended.await.unwrap_or(Err(LeaseError::Ended))
    }
}

/// Takes the lease and renews it until that fails, or until `stopped` resolves: then it is handed back, also where an answer is not
/// there yet that would have said that it was taken.
async fn keep(
    mut lease: Lease,
    gained: oneshot::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), LeaseError> {
    let leads = async {
        lease.gained().await;
        let _ = gained.send(());
        lease.lost().await
    };
    tokio::select! {
        lost = leads => return Err(lost),
        _ = &mut stopped => {}
    }
    lease.release().await;
    Ok(())
}

/// The lease, as this replica knows it.
struct Lease {
    api: Api<Record>,
    namespace: String,
    name: String,
    identity: String,
    silence: Silence,
    /// As this replica has written it last.
    written: Option<Record>,
}

enum Attempt {
    Held,
    HeldBy(String),
    /// Somebody wrote first: another replica, or this one with a request whose answer did not come in time.
    Conflict,
}

impl Lease {
    /// `identity` is made unique by the time: two processes of one name are still two.
    fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: format!("{identity}_{:x}", Timestamp::now().as_nanosecond()),
            silence: Silence::default(),
            written: None,
        }
    }

    /// Waits until this replica leads.
    async fn gained(&mut self) {
        loop {
            match timeout(PATIENCE, self.attempt()).await {
                Ok(Ok(Attempt::Held)) => return,
                Ok(Ok(Attempt::HeldBy(_) | Attempt::Conflict)) | Err(_) => {}
                Ok(Err(error)) => {
                    warn!(
                        lease = self.name,
                        namespace = self.namespace,
                        error = chain(&error),
                        "cannot read or write the lease; may this account get, create and update leases there?"
                    );
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Renews until that fails for too long.
    async fn lost(&mut self) -> LeaseError {
        // The beginning of the last write that is known to have come through: others count from then or later.
        let mut renewed = Instant::now();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let begun = Instant::now();
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(PATIENCE.min(left), self.renew()).await {
                Ok(Ok(Attempt::Held)) => renewed = begun,
                Ok(Ok(Attempt::HeldBy(holder))) => {
                    return LeaseError::Taken {
                        namespace: self.namespace.clone(),
                        name: self.name.clone(),
                        holder,
                    };
                }
                Ok(Ok(Attempt::Conflict)) => warn!("lease not renewed: somebody else wrote it meanwhile"),
                Ok(Err(error)) => warn!(error = chain(&error), "lease not renewed"),
                Err(_) => warn!("lease not renewed: the API server does not answer"),
            }
            if renewed.elapsed() >= DEADLINE {
                return LeaseError::Expired {
                    namespace: self.namespace.clone(),
                    name: self.name.clone(),
                };
            }
        }
    }

    /// Hands the lease back, for a successor that need not wait then.
    async fn release(&mut self) {
        let release = async {
            let Some(mut record) = self.api.get_opt(&self.name).await? else {
                return Ok(());
            };
            if holder(&record) == Some(&self.identity) {
                record.spec.get_or_insert_default().holder_identity = None;
                let parameters = PostParams::default();
                self.api.replace(&self.name, &parameters, &record).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = timeout(FAREWELL, release).await {
            warn!(error = chain(&error), "lease not handed back; it runs out");
        }
    }

    /// One write where nobody else has written since, which is all of them but few.
    async fn renew(&mut self) -> Result<Attempt, kube::Error> {
        if let Some(written) = self.written.take()
            && matches!(self.replace(written).await?, Attempt::Held)
        {
            return Ok(Attempt::Held);
        }
        self.attempt().await
    }

    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        let Some(found) = self.api.get_opt(&self.name).await? else {
            let record = Record {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &record).await;
            return self.won(created);
        };
        let now = Instant::now();
        let other = holder(&found).filter(|holder| *holder != self.identity);
        if let Some(other) = other
            && !self.silence.has_run_out(&found, now)
        {
            return Ok(Attempt::HeldBy(other.to_owned()));
        }
        self.replace(found).await
    }

    /// Writes with the version that was read.
    async fn replace(&mut self, mut record: Record) -> Result<Attempt, kube::Error> {
        record.spec = Some(self.spec(record.spec.as_ref()));
        let written = self.api.replace(&self.name, &PostParams::default(), &record).await;
        self.won(written)
    }

    fn won(&mut self, written: Result<Record, kube::Error>) -> Result<Attempt, kube::Error> {
        match written {
            Ok(written) => {
                self.written = Some(written);
                Ok(Attempt::Held)
            }
            Err(error) if write::is_conflict(&error) || write::is_not_found(&error) => Ok(Attempt::Conflict),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: mine
                .and_then(|spec| spec.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions + i32::from(mine.is_none())),
            ..LeaseSpec::default()
        }
    }
}

/// The version of the record that was last seen, and when it was seen first. The holder's clock is of no interest.
#[derive(Default)]
struct Silence(Option<(String, Instant)>);

impl Silence {
    /// Whether the holder has been silent for the lease's whole duration, by this replica's own clock.
    fn has_run_out(&mut self, record: &Record, now: Instant) -> bool {
        let version = record.metadata.resource_version.clone().unwrap_or_default();
        let duration = record
            .spec
            .as_ref()
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(DURATION, Duration::from_secs);
        match &self.0 {
            Some((seen, since)) if *seen == version => now.duration_since(*since) >= duration,
            _ => {
                self.0 = Some((version, now));
                false
            }
        }
    }
}

fn holder(record: &Record) -> Option<&str> {
    let holder = record.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_runs_out_only_when_nothing_was_renewed_for_its_duration_on_our_own_clock() {
        let record = |version: &str| Record {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert!(!silence.has_run_out(&record("1"), start), "its age is unknown at first");
        assert!(!silence.has_run_out(&record("1"), after(14)));
        assert!(!silence.has_run_out(&record("2"), after(16)), "it was renewed");
        assert!(!silence.has_run_out(&record("2"), after(30)));
        assert!(silence.has_run_out(&record("2"), after(31)));
    }
}
