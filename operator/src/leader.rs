//! One replica writes. The lease keeps the others from interfering; that no block is given away twice does not depend on it,
//! but on the ledger's resourceVersion.
//!
//! Own code because of how the lease is taken: a PUT with the resourceVersion that was read, so that of two replicas that see
//! it run out only one gets it; and a leader that cannot renew in time ends before the lease does.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease as Record, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use railhead_service::chain;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::write;

/// How long others wait for a leader that is silent.
const DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it gives up, well before others may take over.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time between attempts, to take or to renew.
const PERIOD: Duration = Duration::from_secs(2);

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
}

/// The lease, as this replica knows it.
pub(crate) struct Lease {
    api: Api<Record>,
    namespace: String,
    name: String,
    identity: String,
    silence: Silence,
    held: bool,
}

enum Attempt {
    Held,
    HeldBy(String),
}

impl Lease {
    /// `identity` is made unique by the time: two processes of one name are still two.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: format!("{identity}_{:x}", Timestamp::now().as_nanosecond()),
            silence: Silence::default(),
            held: false,
        }
    }

    /// Waits until this replica leads.
    pub(crate) async fn gained(&mut self) {
        loop {
            match timeout(PERIOD, self.attempt()).await {
                Ok(Ok(Attempt::Held)) => {
                    self.held = true;
                    return;
                }
                Ok(Ok(Attempt::HeldBy(_))) | Err(_) => {}
                Ok(Err(error)) => {
                    warn!(
                        lease = self.name,
                        namespace = self.namespace,
                        error = chain(&error),
                        "cannot read or write the lease; may this account get, create and update leases there?"
                    );
                }
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews until that fails for too long.
    pub(crate) async fn lost(&mut self) -> LeaseError {
        let mut renewed = Instant::now();
        loop {
            sleep(PERIOD).await;
            match timeout(PERIOD, self.attempt()).await {
                Ok(Ok(Attempt::Held)) => renewed = Instant::now(),
                Ok(Ok(Attempt::HeldBy(holder))) => {
                    self.held = false;
                    return LeaseError::Taken {
                        namespace: self.namespace.clone(),
                        name: self.name.clone(),
                        holder,
                    };
                }
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
    pub(crate) async fn release(&mut self) {
        if !self.held {
            return;
        }
        let release = async {
            let mut record = self.api.get(&self.name).await?;
            if holder(&record) == Some(&self.identity) {
                record.spec.get_or_insert_default().holder_identity = None;
                let parameters = PostParams::default();
                self.api.replace(&self.name, &parameters, &record).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = timeout(PERIOD, release).await {
            warn!(error = chain(&error), "lease not handed back; it runs out");
        }
        self.held = false;
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
            return Self::won(created);
        };
        let now = Instant::now();
        let other = holder(&found).filter(|holder| *holder != self.identity);
        if let Some(other) = other
            && !self.silence.has_run_out(&found, now)
        {
            return Ok(Attempt::HeldBy(other.to_owned()));
        }
        let mut record = found;
        record.spec = Some(self.spec(record.spec.as_ref()));
        let parameters = PostParams::default();
        Self::won(self.api.replace(&self.name, &parameters, &record).await)
    }

    fn won(written: Result<Record, kube::Error>) -> Result<Attempt, kube::Error> {
        match written {
            Ok(_) => Ok(Attempt::Held),
            Err(error) if write::is_conflict(&error) => Ok(Attempt::HeldBy("another replica".to_owned())),
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
