//! What is known of the pod that holds an index, and what would make it let go.

use k8s_openapi::jiff::Timestamp;
use railhead_crds::NetworkAttachment;

use crate::{
    cluster::Kind,
    lookup::{How, Lookup, has_ended},
    output::age,
};

/// How the holder of an index is.
pub(super) struct Holder {
    pub(super) text: String,
    pub(super) help: String,
}

pub(super) fn of(lookup: &Lookup<'_>, held: &NetworkAttachment) -> Holder {
    let (node, now) = (&held.spec.node_name, lookup.cluster.read_at);
    let lost = lookup.lost(node);
    let pod = lookup.pod_by_uid(&held.spec.pod_uid);
    let what = match pod {
        Some(pod) => match &pod.metadata.deletion_timestamp {
            Some(deleted) => format!(
                "Terminating for {}",
                age(asked(deleted.0, pod.metadata.deletion_grace_period_seconds), now)
            ),
            None if has_ended(pod) => "it has ended".to_owned(),
            None => "it lives".to_owned(),
        },
        None if lookup.cluster.has_read(Kind::Pods) => "that pod is gone".to_owned(),
        None => "that pod could not be read".to_owned(),
    };
    if let Some(lost) = lost {
        let since = lost
            .since
            .map_or_else(String::new, |since| format!(" for {}", age(since, now)));
        let advice = match (lost.how, pod) {
            (How::NotReady, _) => format!(
                "it is free when {node} comes back; if the machine is off for good: kubectl taint node {node} \
                 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            ),
            (How::Gone | How::OutOfService, Some(_)) => format!(
                "it is free within a minute once the object of that pod is deleted: kubectl get pod {}",
                held.spec.pod_name
            ),
            (How::Gone | How::OutOfService, None) => "the operator takes it away within a minute".to_owned(),
        };
        return Holder {
            text: format!("{what}, {lost}{since}"),
            help: advice,
        };
    }
    let advice = match pod {
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => format!(
            "it is free when that pod has stopped: kubectl describe pod {} says what it waits for; \
             podReplacementPolicy: Failed in a Job lets no replacement begin before",
            held.spec.pod_name
        ),
        Some(pod) if has_ended(pod) => {
            format!("{node} gives its rails back by itself; if it stays so, look at the agent on {node}")
        }
        Some(_) => "two pods want one index: end one of them, or give each Job a network of its own".to_owned(),
        None => format!("the agent on {node} gives it back within two minutes; if it stays so, look at that agent"),
    };
    Holder {
        text: what,
        help: advice,
    }
}

/// When somebody asked for the deletion: the timestamp is when the grace is over.
fn asked(deletion: Timestamp, grace: Option<i64>) -> Timestamp {
    let asked = deletion.as_second() - grace.unwrap_or(0);
    Timestamp::from_second(asked).unwrap_or(deletion)
}
