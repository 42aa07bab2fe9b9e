//! One call at a time for each claim, on the whole node.
//!
//! kubelet calls again when it has hung up, and the earlier call goes on: it could undo what the later one has just found in
//! order, or take VFs after an Unprepare that found nothing. Two agents of a rolling update both serve for a moment, and
//! either's collector works beside the other's calls. So a turn is kept for a whole call, requests to the API server
//! included, against threads of this process and, by a locked file, against the other agent. The claim's lock
//! ([`super::lock`]) is not, since an answer that does not come must keep nobody from it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use railhead_host::LockError;
use railhead_plan::Layout;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::lock::ClaimLock;

/// The claims that somebody in this process is at.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

/// The turn with a claim, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _within: OwnedMutexGuard<()>,
    among: Option<ClaimLock>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(among) = self.among.take() {
            among.remove();
        }
    }
}

impl Turns {
    /// Waits for the turn, at most for `patience`. The error is for kubelet.
    pub(crate) async fn take(&self, layout: &Layout, claim: &str, patience: Duration) -> Result<Turn, String> {
        let deadline = Instant::now() + patience;
        let held = |who: &str| {
            format!(
                "{who} for claim {claim} has not ended after {} s; kubelet tries again",
                patience.as_secs()
            )
        };
        let within = tokio::time::timeout_at(deadline, self.of(claim).lock_owned())
            .await
            .map_err(|_| held("an earlier call"))?;
        let among = ClaimLock::take_turn(layout, claim, deadline)
            .await
            .map_err(|error| match error {
                LockError::Held { .. } => held("a call of the node's other agent"),
                error => format!("claim {claim}: {error}"),
            })?;
        Ok(Turn {
            _within: within,
            among: Some(among),
        })
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_take(&self, layout: &Layout, claim: &str) -> Option<Turn> {
        let within = self.of(claim).try_lock_owned().ok()?;
        let among = ClaimLock::try_turn(layout, claim)?;
        Some(Turn {
            _within: within,
            among: Some(among),
        })
    }

    fn of(&self, claim: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let known = turns.get(claim).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(claim.to_owned(), Arc::downgrade(&turn));
            turn
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_claim_is_worked_on_by_one_call_at_a_time_and_others_go_on() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let turns = Turns::default();
        let first = turns.take(&layout, "c1", SOON).await.unwrap();
        let refused = turns.take(&layout, "c1", SOON).await.unwrap_err();
        assert!(refused.contains("claim c1"), "{refused}");
        assert!(turns.try_take(&layout, "c1").is_none());
        let other = turns.take(&layout, "c2", SOON).await.unwrap();
        drop(first);
        drop(turns.take(&layout, "c1", SOON).await.unwrap());
        drop(other);
        let last = turns.take(&layout, "c3", SOON).await.unwrap();
        let known = turns.0.lock().unwrap().len();
        assert_eq!(known, 1, "claims that are done with are forgotten");
        drop(last);
        let files = std::fs::read_dir(layout.locks()).unwrap().count();
        assert_eq!(files, 0, "and so are their files");
    }

    #[tokio::test]
    async fn the_other_agent_of_a_node_waits_too() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let (one, other) = (Turns::default(), Turns::default());
        let first = one.take(&layout, "c1", SOON).await.unwrap();
        assert!(other.try_take(&layout, "c1").is_none());
        let refused = other.take(&layout, "c1", SOON).await.unwrap_err();
        assert!(refused.contains("other agent"), "{refused}");
        drop(first);
        assert!(other.try_take(&layout, "c1").is_some());
    }
}
