//! What changed since the router looked last: each thing once, however often it changed.
//!
//! A replica that does not lead keeps nothing. What changed before it leads is in the stores, and it begins with all of them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::observe::Change;

/// The ends for the watches, which tell, and for the router, which asks.
#[derive(Clone, Default)]
pub(crate) struct Changes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// `None` while nobody wants to know.
    kept: Mutex<Option<HashSet<Change>>>,
    some: Notify,
}

impl Changes {
    /// Something changed.
    pub(crate) fn tell(&self, change: Change) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &mut *kept {
            kept.insert(change);
            self.0.some.notify_one();
        }
    }

    /// From here on changes are kept.
    pub(crate) fn begin(&self) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_default();
    }

    /// Waits for changes and takes all that there are.
    pub(crate) async fn next(&self) -> HashSet<Change> {
        loop {
            let kept = {
                let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.as_mut().map(std::mem::take).unwrap_or_default()
            };
            if !kept.is_empty() {
                return kept;
            }
            self.0.some.notified().await;
        }
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().map_or(0, HashSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replica_that_does_not_lead_keeps_nothing_and_a_leader_each_thing_once() {
        let changes = Changes::default();
        for _ in 0..1000 {
            changes.tell(Change::Node("node1".to_owned()));
        }
        assert_eq!(changes.len(), 0, "nobody reads them");
        changes.begin();
        for node in ["node1", "node2", "node1"].repeat(1000) {
            changes.tell(Change::Node(node.to_owned()));
        }
        assert_eq!(changes.len(), 2);
        assert_eq!(changes.next().await.len(), 2);
        assert_eq!(changes.len(), 0);
    }
}
