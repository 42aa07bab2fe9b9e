//! kubelet's claims: [`prepare`] and [`release`] behind the plugin's trait, one call at a time for each claim, measured,
//! logged, and answered before kubelet hangs up.

pub(crate) mod cdi;
pub mod gc;
pub(crate) mod journals;
mod leftovers;
mod lock;
mod node_pods;
pub mod plans;
mod prepare;
pub(crate) mod release;
mod turns;

use std::{fmt::Display, sync::Arc};

use futures::future::BoxFuture;

use tokio::time::Instant;
use tracing::Instrument;
pub use turns::Turns;

use crate::{
    agent::Agent,
    kubelet::{ClaimRef, Claims, PreparedDevice},
    limits::{KUBELET, PREPARE, TURN},
};

/// The claims of the agent's node.
pub struct NodeClaims {
    agent: Arc<Agent>,
}

impl NodeClaims {
    /// The claims of `agent`'s node.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent }
    }

    /// Does `work` in the claim's turn. It goes on when kubelet has hung up, since half of it is worse than what nobody
    /// waits for; but kubelet gets an answer while it still listens.
    async fn in_turn<T, E>(
        &self,
        claim: &str,
        what: &'static str,
        start: Instant,
        work: BoxFuture<'static, Result<T, E>>,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        E: Display + Send + 'static,
    {
        let turn = self.agent.turns.take(&self.agent.layout, claim, TURN).await?;
        let task = tokio::spawn(
            async move {
                let _turn = turn;
                work.await
            }
            .in_current_span(),
        );
        match tokio::time::timeout_at(start + KUBELET, task).await {
            Ok(Ok(done)) => done.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err(format!("the agent's {what} panicked; see its log")),
            Err(_) => Err(format!(
                "{what} has not ended after {} s and goes on; kubelet's next call finds what it did",
                KUBELET.as_secs()
            )),
        }
    }
}

impl Claims for NodeClaims {
    #[tracing::instrument(name = "prepare", skip_all, fields(claim = %claim.uid, name = %format!("{}/{}", claim.namespace, claim.name)))]
    async fn prepare(&self, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
        let start = Instant::now();
        let (agent, uid) = (self.agent.clone(), claim.uid.clone());
        let work = async move { prepare::prepare(&agent, &claim, start + PREPARE).await };
        let prepared = self.in_turn(&uid, "Prepare", start, Box::pin(work)).await;
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
        let start = Instant::now();
        let (agent, uid) = (self.agent.clone(), claim.uid.clone());
        let work = async move { release::claim(&agent, &claim.uid, release::Programs::Ended).await };
        let released = self.in_turn(&uid, "Unprepare", start, Box::pin(work)).await;
        self.agent.metrics.unprepared(released.is_ok());
        if let Err(error) = &released {
            tracing::warn!(error, "not given back yet");
        }
        released
    }
}
