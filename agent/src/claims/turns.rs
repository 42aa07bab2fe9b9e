//! One call at a time for each claim, within this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

/// kubelet calls again when it has hung up, and the earlier call goes on: it could undo what the later one has just found in
/// order, or take functions after an Unprepare that found nothing. A turn is kept across requests to the API server, the
/// claim's lock ([`super::lock`]) is not.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn, at most for `patience`. The error is for kubelet.
    pub(crate) async fn take(&self, claim: &str, patience: Duration) -> Result<OwnedMutexGuard<()>, String> {
        tokio::time::timeout(patience, self.of(claim).lock_owned())
            .await
            .map_err(|_| {
                format!(
                    "an earlier call for claim {claim} has not ended after {} s; kubelet tries again",
                    patience.as_secs()
                )
            })
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_take(&self, claim: &str) -> Option<OwnedMutexGuard<()>> {
        self.of(claim).try_lock_owned().ok()
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

    #[tokio::test]
    async fn a_claim_is_worked_on_by_one_call_at_a_time_and_others_go_on() {
        let turns = Turns::default();
        let soon = Duration::from_millis(20);
        let first = turns.take("c1", soon).await.unwrap();
        let refused = turns.take("c1", soon).await.unwrap_err();
        assert!(refused.contains("claim c1"), "{refused}");
        assert!(turns.try_take("c1").is_none());
        let other = turns.take("c2", soon).await.unwrap();
        drop(first);
        drop(turns.take("c1", soon).await.unwrap());
        drop(other);
        let _last = turns.take("c3", soon).await.unwrap();
        let known = turns.0.lock().unwrap().len();
        assert_eq!(known, 1, "claims that are done with are forgotten");
    }
}
