//! More pods for a network that has its slice.

use std::sync::Arc;

use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use railhead_crds::{LedgerTakes, NetworkSlice};
use railhead_planner::{growth, ledger::Wanted, network::Resolved, quota};
use serde_json::json;
use tracing::info;

use super::{NetworkError, Outcome, QUOTAS_UNREAD, Subject};

impl Subject<'_> {
    /// Gives the slice as many pods as the network asks for by now, if its block and the quotas of its namespace have room for them. If
    /// not, everything stays as it is and is said.
    pub(super) async fn grow(&self, resolved: &Resolved, slice: Arc<NetworkSlice>) -> Result<Outcome, NetworkError> {
        let (now, wanted) = (slice.spec.pods, self.network.spec.pods);
        if wanted <= now {
            return Ok(Outcome::Held { slice, short: None });
        }
        let world = &self.context.world;
        let laid = world.lay_out(&slice.spec.fabric.name, &world.written(&resolved.fabric));
        if let Err(why) = growth::check(&slice, &laid.space, wanted) {
            let short = Some(format!(
                "the network stays at {now} pods and cannot have {wanted}: {why}"
            ));
            return Ok(Outcome::Held { slice, short });
        }
        if !world.quotas.are_read() {
            let short = Some(format!(
                "the network stays at {now} pods and cannot have {wanted}: {QUOTAS_UNREAD}"
            ));
            return Ok(Outcome::Held { slice, short });
        }
        let fabric = &slice.spec.fabric.name;
        if world.quotas.bind(&self.namespace, fabric) {
            let takes = LedgerTakes {
                pods: wanted,
                ..quota::taken_by(&slice)
            };
            if let Err(Outcome::Refused { message, .. }) = self.reserve(fabric, Wanted::More { takes }).await? {
                let short = Some(format!(
                    "the network stays at {now} pods and cannot have {wanted}: {message}"
                ));
                return Ok(Outcome::Held { slice, short });
            }
        }
        let name = slice.name_any();
        let api: Api<NetworkSlice> = Api::namespaced(self.context.client.clone(), &self.namespace);
        // As it was read: whoever changes a slice meanwhile makes this look again.
        let patch = json!({
            "metadata": {"resourceVersion": slice.resource_version()},
            "spec": {"pods": wanted},
        });
        let grown = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let grown = grown.map_err(|source| NetworkError::WriteSlice {
            name: name.clone(),
            source: Box::new(source),
        })?;
        info!(
            slice = name,
            namespace = self.namespace,
            from = now,
            to = wanted,
            "the network has grown in its block"
        );
        Ok(Outcome::Held {
            slice: Arc::new(grown),
            short: None,
        })
    }
}
