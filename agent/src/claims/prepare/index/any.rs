//! Any index that is free, for a pod without a number.

use std::collections::BTreeSet;

use kube::api::ListParams;
use railhead_crds::{NetworkAttachment, names};
use railhead_planner::index::Span;
use railhead_service::within;
use tokio::time::Instant;

use super::{Created, PrepareError, Taken, Taker, is_ending};
use crate::limits::{INDEX_POLL, INDEX_TAKEN};

/// How many indices are tried before the list of those that are held is read again.
const TRIES: usize = 4;

impl Taker<'_> {
    /// Any index of these that nobody has; the pod's own one if it has one already. Each pod begins at another place, so that the nodes
    /// of a job that starts do not all try the same one.
    ///
    /// The list is as new as etcd, since the pod finds its own index in it, and comes out of the API server's memory all the same
    /// (`ConsistentListFromCache`, always on since Kubernetes 1.34).
    pub(super) async fn any(&self, span: Span) -> Result<Taken, PrepareError> {
        let spec = &self.entitled.slice.spec;
        let uid = self.entitled.pod.metadata.uid.as_deref().unwrap_or_default();
        loop {
            let list = self.held().await?;
            if let Some(own) = own_of(&list, uid) {
                return Ok(own);
            }
            let held: BTreeSet<u32> = list.iter().map(|attachment| attachment.spec.index).collect();
            let mut full = true;
            // Who was faster is in the next list.
            for index in free(&held, span, start(uid, span.pods)).take(TRIES) {
                full = false;
                if let Created::Made(taken) | Created::Ours(taken) = self.create(index).await? {
                    return Ok(taken);
                }
                self.pause(INDEX_TAKEN).await;
            }
            if full && !self.end_one_of(&list, span).await? {
                self.pause(INDEX_POLL).await;
            }
            if Instant::now() >= self.deadline {
                return Err(PrepareError::NetworkFull {
                    network: spec.network.name.clone(),
                    pods: spec.pods,
                    span,
                });
            }
        }
    }

    /// The index that the pod has already, whichever it is.
    pub(super) async fn own(&self) -> Result<Option<Taken>, PrepareError> {
        let uid = self.entitled.pod.metadata.uid.as_deref().unwrap_or_default();
        Ok(own_of(&self.held().await?, uid))
    }

    /// All attachments of the slice.
    async fn held(&self) -> Result<Vec<NetworkAttachment>, PrepareError> {
        let slice = self.entitled.slice_name();
        let ours = ListParams::default().labels(&format!("{}={}", names::SLICE_LABEL, names::slice_label(slice)));
        let list = within(self.deadline, self.api.list(&ours)).await;
        let list = list.map_err(|source| self.take_error("*", source))?;
        Ok(list.items)
    }

    /// Ends the first that can be.
    async fn end_one_of(&self, held: &[NetworkAttachment], span: Span) -> Result<bool, PrepareError> {
        for attachment in held.iter().filter(|attachment| span.contains(attachment.spec.index)) {
            let name = attachment.metadata.name.as_deref().unwrap_or_default();
            if self.end(name, attachment).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn own_of(held: &[NetworkAttachment], pod_uid: &str) -> Option<Taken> {
    let own = held
        .iter()
        .find(|attachment| attachment.spec.pod_uid == pod_uid && !is_ending(attachment));
    own.map(Taken::of)
}

/// Where a pod begins to look.
fn start(pod_uid: &str, pods: u32) -> u32 {
    // FNV-1a: the same in every process, and UIDs that differ in one digit begin far from each other.
    let hash = pod_uid.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash % pods.max(1)
}

/// The free indices of a span, from its `start`th on and round.
fn free(held: &BTreeSet<u32>, span: Span, start: u32) -> impl Iterator<Item = u32> {
    (start..span.pods)
        .chain(0..start)
        .map(move |number| span.first + number)
        .filter(|index| !held.contains(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_number_gets_a_free_index_and_many_of_them_begin_apart() {
        let from = |held: &[u32], (first, pods), start| -> Vec<u32> {
            free(&held.iter().copied().collect(), Span { first, pods }, start).collect()
        };
        assert_eq!(from(&[0, 1, 3], (0, 5), 3), [4, 2]);
        assert_eq!(from(&[0, 1], (0, 2), 1), [0; 0]);
        assert_eq!(from(&[0, 5], (4, 3), 1), [6, 4], "of a role's range");
        let starts: BTreeSet<u32> = (0..64)
            .map(|pod| start(&format!("6f1c0a52-0000-4000-8000-0000000000{pod:02x}"), 256))
            .collect();
        assert!(starts.len() > 48, "{starts:?}");
    }
}
