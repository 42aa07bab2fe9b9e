//! kubelet's claims: [`crate::prepare`] and [`crate::release`] behind the plugin's trait, measured and logged.

use std::{sync::Arc, time::Instant};

use crate::{
    agent::Agent,
    kubelet::{ClaimRef, Claims, PreparedDevice},
    prepare, release,
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
}

impl Claims for NodeClaims {
    #[tracing::instrument(name = "prepare", skip_all, fields(claim = %claim.uid, name = %format!("{}/{}", claim.namespace, claim.name)))]
    async fn prepare(&self, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
        let start = Instant::now();
        // On a task of its own: kubelet may hang up, and half a Prepare is worse than one that nobody waits for.
        let agent = self.agent.clone();
        let task = tokio::spawn(async move { prepare::prepare(&agent, &claim).await });
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
        let agent = self.agent.clone();
        let task = tokio::spawn(async move { release::claim(&agent, &claim.uid).await });
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
