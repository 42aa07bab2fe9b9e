//! What the same server takes for the bare writes, from a client that does nothing else: no operator is faster than that. It is told
//! beside the operator's figures. Where the server alone needs longer than a limit allows, twice what it needs is the limit, and that is said.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    api::{Server, Verb, Who},
    fill,
    verdict::Verdict,
};

const NAMESPACE: &str = "floor";
/// Writes that follow each other until a network is Reserved: the network, the ledger, its slice, its status.
const IN_TURN: usize = 4;
/// How often they are made, and how often a lease is renewed.
const PERIOD: Duration = Duration::from_secs(1);

/// What was measured so far.
#[derive(Default)]
struct Seen {
    /// Seconds for [`IN_TURN`] creations of 1.2 kB, one after the other.
    in_turn: Vec<f64>,
    /// The longest time from one renewal of a lease to the next that was answered.
    renewal: f64,
}

/// A measurement that goes on until it is told.
pub(crate) struct Floor {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<Result<()>>; 2],
}

impl Floor {
    pub(crate) async fn begin(server: &Server) -> Result<Self> {
        fill::namespace(server, NAMESPACE).await?;
        let seen = Arc::<Mutex<Seen>>::default();
        let tasks = [
            tokio::spawn(writes(server.clone(), Arc::clone(&seen))),
            tokio::spawn(renewals(server.clone(), Arc::clone(&seen))),
        ];
        Ok(Self { seen, tasks })
    }

    /// Ends it, and gives the seconds within which 99 of 100 such writes were done.
    pub(crate) fn tell(self, verdict: &mut Verdict) -> f64 {
        for task in self.tasks {
            task.abort();
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.note(format!(
            "floor: a client that renews a lease and does nothing else had {:.2} s between two renewals at the most",
            seen.renewal
        ));
        seen.in_turn.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let last = seen.in_turn.len().saturating_sub(1);
            seen.in_turn
                .get((seen.in_turn.len() * percent / 100).min(last))
                .copied()
        };
        if let (Some(half), Some(most)) = (at(50), at(99)) {
            verdict.note(format!(
                "floor: {IN_TURN} bare writes one after the other, 99 of 100 times within {most:.2} s, half of them within {half:.2} s"
            ));
            return most;
        }
        0.0
    }
}

async fn writes(server: Server, seen: Arc<Mutex<Seen>>) -> Result<()> {
    let mut tick = tokio::time::interval(PERIOD);
    for number in 0.. {
        tick.tick().await;
        let start = Instant::now();
        for part in 0..IN_TURN {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("bare-{number}-{part}")},
                "data": {"text": "x".repeat(1000)}});
            let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
            server.write(Who::Admin, Verb::Create, &path, &body).await?;
        }
        let took = start.elapsed().as_secs_f64();
        seen.lock().unwrap_or_else(PoisonError::into_inner).in_turn.push(took);
    }
    Ok(())
}

async fn renewals(server: Server, seen: Arc<Mutex<Seen>>) -> Result<()> {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "bare"}});
    server.create(&leases, &lease).await?;
    let mut tick = tokio::time::interval(PERIOD);
    let mut last = Instant::now();
    for number in 0.. {
        tick.tick().await;
        let body = json!({"spec": {"holderIdentity": format!("bare-{number}")}});
        server
            .write(Who::Admin, Verb::Merge, &format!("{leases}/bare"), &body)
            .await?;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.renewal = seen.renewal.max(last.elapsed().as_secs_f64());
        last = Instant::now();
    }
    Ok(())
}
