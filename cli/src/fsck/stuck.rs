//! What is being deleted and does not go, though nothing is left that its finalizer waits for.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::{SignedDuration, Timestamp},
};
use railhead_crds::names;
use railhead_planner::ledger;

use super::{
    finding::{Check, Finding, Remedy},
    seen::Seen,
};
use crate::{cluster::key, lookup::named, output::age};

/// Operator and agents take seconds; a restart of either, and a look that comes in its turn, some minutes.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

pub(super) fn check(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let cluster = seen.cluster;
    for network in &cluster.networks {
        let uid = network.metadata.uid.as_deref().unwrap_or_default();
        let is_held = || {
            let held = cluster.ledgers.iter().flat_map(|ledger| &ledger.spec.entries);
            held.filter(|entry| !ledger::rests(entry))
                .any(|entry| entry.owner.uid == uid)
        };
        if let Some(since) = stuck(seen, &network.metadata, names::NETWORK_FINALIZER)
            && seen.slice_of(uid).is_none()
            && !is_held()
        {
            let waits = "its slice and its reservation are gone";
            tell(
                seen,
                "TrainingNetwork",
                &network.metadata,
                since,
                waits,
                OPERATOR,
                found,
            );
        }
    }
    for slice in &cluster.slices {
        if let Some(since) = stuck(seen, &slice.metadata, names::SLICE_FINALIZER)
            && seen.holders(slice).is_empty()
        {
            tell(
                seen,
                "NetworkSlice",
                &slice.metadata,
                since,
                "no pod is attached",
                OPERATOR,
                found,
            );
        }
    }
    for attachment in &cluster.attachments {
        if let Some(since) = stuck(seen, &attachment.metadata, names::ATTACHMENT_FINALIZER)
            && seen.pod(&attachment.spec.pod_uid).is_some()
        {
            let waits = "its pod is still there, and its node has not unwired it";
            tell(
                seen,
                "NetworkAttachment",
                &attachment.metadata,
                since,
                waits,
                AGENT,
                found,
            );
        }
    }
    for fabric in &cluster.fabrics {
        let name = key(&fabric.metadata).1;
        let is_used =
            !seen.slices_on(name).is_empty() || cluster.node_networks.iter().any(|node| node.spec.fabric_name == name);
        if let Some(since) = stuck(seen, &fabric.metadata, names::FABRIC_FINALIZER)
            && !is_used
        {
            let waits = "no network and no node has any of it";
            tell(seen, "Fabric", &fabric.metadata, since, waits, OPERATOR, found);
        }
    }
}

const OPERATOR: &str = "the operator lets it go as soon as it runs";
const AGENT: &str = "the node's agent lets it go as soon as its pod is unwired";

/// Since when an object with that finalizer is being deleted, if that is long.
fn stuck(seen: &Seen<'_>, metadata: &ObjectMeta, finalizer: &str) -> Option<Timestamp> {
    let since = metadata.deletion_timestamp.as_ref()?.0;
    let is_held = metadata.finalizers.iter().flatten().any(|held| held == finalizer);
    (is_held && seen.cluster.read_at.duration_since(since) >= PATIENCE).then_some(since)
}

fn tell(
    seen: &Seen<'_>,
    kind: &str,
    metadata: &ObjectMeta,
    since: Timestamp,
    waits: &str,
    who: &str,
    found: &mut Vec<Finding>,
) {
    found.push(Finding::new(
        Check::Stuck,
        named(kind, metadata),
        format!(
            "it was deleted {} ago and is still there: {waits}",
            age(since, seen.cluster.read_at)
        ),
        "see whether the operator and the node's agent run, and what they log: kubectl get pods -n railhead-system",
        Remedy::by_itself(who),
    ));
}
