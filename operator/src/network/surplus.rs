//! Pods that a network has no place for. Kubernetes counts no pods per network: the scheduler gives each that carries the label a port
//! on every rail, and those for which no index is left wait on their nodes with it. Pure.

use std::{collections::HashSet, sync::Arc};

use kube::ResourceExt as _;
use railhead_crds::NetworkAttachment;

use crate::{known::Pod, pod::has_ended};

/// The pods that are to stay, as many as there are more than `size`: the newest of those without an index. A pod that is on its way out makes
/// room and does not count, nor does one with an index beyond a network that has shrunk, which it keeps.
pub(super) fn surplus(pods: &[Arc<Pod>], attachments: &[Arc<NetworkAttachment>], size: u32) -> Vec<Arc<Pod>> {
    let beyond = beyond(attachments, size);
    let is_of = |uids: &HashSet<&str>, pod: &Pod| pod.metadata.uid.as_deref().is_some_and(|uid| uids.contains(uid));
    let stays = |pod: &&Arc<Pod>| !has_ended(pod) && pod.metadata.deletion_timestamp.is_none() && !is_of(&beyond, pod);
    let count = pods.iter().filter(stays).count();
    let Some(more) = count
        .checked_sub(usize::try_from(size).unwrap_or(usize::MAX))
        .filter(|more| *more > 0)
    else {
        return Vec::new();
    };
    let attached = pods_of(attachments);
    let mut waiting: Vec<Arc<Pod>> = pods
        .iter()
        .filter(stays)
        .filter(|pod| !is_of(&attached, pod))
        .cloned()
        .collect();
    waiting.sort_by_cached_key(|pod| (pod.creation_timestamp(), pod.name_any()));
    waiting.split_off(waiting.len().saturating_sub(more))
}

/// UIDs of the pods that have an index beyond a network of `size`, which has shrunk: they keep it.
pub(super) fn beyond(attachments: &[Arc<NetworkAttachment>], size: u32) -> HashSet<&str> {
    pods_of(attachments.iter().filter(|attachment| attachment.spec.index >= size))
}

fn pods_of<'a>(attachments: impl IntoIterator<Item = &'a Arc<NetworkAttachment>>) -> HashSet<&'a str> {
    let attachments = attachments.into_iter();
    attachments.map(|attachment| attachment.spec.pod_uid.as_str()).collect()
}

/// What to do about `count` pods of a network of `size`.
pub(super) fn next_step(size: u32, count: usize) -> String {
    let needed = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(count);
    format!("delete them, lower the count of whoever makes them, or apply a network with pods: {needed}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;
    use crate::network::fixtures;

    fn pod(number: u32, created: i64) -> Arc<Pod> {
        let mut pod = fixtures::pod(number);
        pod.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
        Arc::new(pod)
    }

    #[test]
    fn the_newest_pods_without_an_index_are_too_many_and_those_on_their_way_out_are_not_counted() {
        let names = |pods: &[Arc<Pod>], attached: &[u32]| -> Vec<String> {
            let attachments: Vec<_> = attached
                .iter()
                .map(|index| fixtures::attachment(*index, true))
                .collect();
            let surplus = surplus(pods, &attachments, 2);
            surplus.iter().map(|pod| pod.name_any()).collect()
        };
        let pods = [pod(0, 30), pod(1, 10), pod(2, 20), pod(3, 40)];
        assert_eq!(names(&pods[..2], &[]), [""; 0]);
        assert_eq!(names(&pods, &[]), ["llama-0", "llama-3"]);
        assert_eq!(
            names(&pods, &[0, 1]),
            ["llama-2", "llama-3"],
            "who has an index has a place"
        );
        assert_eq!(
            names(&pods, &[0, 3]),
            ["llama-2"],
            "who has an index beyond a network that has shrunk takes no place of it"
        );
        let mut ending = (*pods[1]).clone();
        ending.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let replaced = [pods[0].clone(), Arc::new(ending), pods[2].clone()];
        assert_eq!(names(&replaced, &[0, 1]), [""; 0], "its replacement waits for it");
    }
}
