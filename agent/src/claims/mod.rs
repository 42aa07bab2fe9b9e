//! kubelet's claims: [`prepare`] and [`release`] behind the plugin's trait, one call at a time for each claim,
//! measured and logged.

pub(crate) mod cdi;
pub(crate) mod gc;
pub mod plans;
mod prepare;
pub(crate) mod release;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::OwnedMutexGuard;

use crate::{
    agent::Agent,
    kubelet::{ClaimRef, Claims, PreparedDevice},
    limits::TURN,
};

/// The claims of the agent's node.
pub struct NodeClaims {
    agent: Arc<Agent>,
    turns: Turns,
}

impl NodeClaims {
    /// The claims of `agent`'s node.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            turns: Turns::default(),
        }
    }
}

/// One call at a time for each claim. kubelet calls again when it has hung up, and the earlier call goes on: it could undo what
/// the later one has just found in order, or take functions after an Unprepare that found nothing.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    async fn take(&self, claim: &str, patience: Duration) -> Result<OwnedMutexGuard<()>, String> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(claim).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(claim.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        tokio::time::timeout(patience, turn.lock_owned()).await.map_err(|_| {
            format!(
                "an earlier call for claim {claim} has not ended after {} s; kubelet tries again",
                patience.as_secs()
            )
        })
    }
}

impl Claims for NodeClaims {
    #[tracing::instrument(name = "prepare", skip_all, fields(claim = %claim.uid, name = %format!("{}/{}", claim.namespace, claim.name)))]
    async fn prepare(&self, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
        let start = Instant::now();
        // On a task of its own: kubelet may hang up, and half a Prepare is worse than one that nobody waits for.
        let turn = self.turns.take(&claim.uid, TURN).await?;
        let agent = self.agent.clone();
        let task = tokio::spawn(async move {
            let _turn = turn;
            prepare::prepare(&agent, &claim).await
        });
        let prepared = match task.await {
            Ok(prepared) => prepared.map_err(|error| error.to_string()),
            Err(_) => Err("the agent's Prepare panicked; see its log".to_owned()),
        };
        let seconds = start.elapsed().as_secs_f64();
        self.agent.metrics.prepared(prepared.is_ok(), seconds);
        match &prepared {
            Ok(devices) => tracing::info!(devices = devices.len(), seconds, "prepared"),
            Err(error) => tracing::warn!(error, seconds, "not prepared"),
        }
        prepared
    }

    #[tracing::instrument(name = "unprepare", skip_all, fields(claim = %claim.uid, name = %format!("{}/{}", claim.namespace, claim.name)))]
    async fn unprepare(&self, claim: ClaimRef) -> Result<(), String> {
        let turn = self.turns.take(&claim.uid, TURN).await?;
        let agent = self.agent.clone();
        let task = tokio::spawn(async move {
            let _turn = turn;
            release::claim(&agent, &claim.uid).await
        });
        let released = match task.await {
            Ok(released) => released.map_err(|error| error.to_string()),
            Err(_) => Err("the agent's Unprepare panicked; see its log".to_owned()),
        };
        self.agent.metrics.unprepared(released.is_ok());
        if let Err(error) = &released {
            tracing::warn!(error, "not given back yet");
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claim_is_worked_on_by_one_call_at_a_time_and_others_go_on() {
        let turns = Turns::default();
        let soon = Duration::from_millis(20);
        let first = turns.take("c1", soon).await.unwrap();
        let refused = turns.take("c1", soon).await.unwrap_err();
        assert!(refused.contains("claim c1"), "{refused}");
        let other = turns.take("c2", soon).await.unwrap();
        drop(first);
        drop(turns.take("c1", soon).await.unwrap());
        drop(other);
        let _last = turns.take("c3", soon).await.unwrap();
        let known = turns.0.lock().unwrap().len();
        assert_eq!(known, 1, "claims that are done with are forgotten");
    }
}
