//! How long the teardown tries.

use std::time::Duration;

use railhead_service::chain;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::TeardownError;

/// How long what was begun is tried to be taken back, after the deadline. Helm's own limit has room for it.
const AFTER_THE_END: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);

/// One deadline for all that is waited for: Helm has one too, and what it says when it gives up first explains nothing.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) timeout: Duration,
    deadline: Instant,
    pause: Duration,
}

impl Limit {
    pub(super) fn of(timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout,
            pause: PAUSE,
        }
    }

    pub(super) fn after_the_end() -> Self {
        Self::of(AFTER_THE_END)
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Does it again after an error that may pass (an API server that starts anew, that has too much to do), until the
    /// deadline.
    pub(super) async fn patiently<T, F>(self, attempt: impl Fn() -> F) -> Result<T, TeardownError>
    where
        F: Future<Output = Result<T, TeardownError>>,
    {
        loop {
            match attempt().await {
                Err(error) if error.may_pass() && !self.is_over() => {
                    warn!(error = chain(&error), "trying again");
                    sleep(self.pause).await;
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn list() -> TeardownError {
        TeardownError::List {
            kind: "nodes".into(),
            source: Box::new(kube::Error::LinesCodecMaxLineLengthExceeded),
        }
    }

    async fn attempts(limit: Duration, outcome: impl Fn(u32) -> Result<(), TeardownError>) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let attempt = || {
            let result = outcome(count.fetch_add(1, Ordering::Relaxed));
            async { result }
        };
        let limit = Limit {
            pause: Duration::from_millis(1),
            ..Limit::of(limit)
        };
        let ended = limit.patiently(attempt).await;
        (count.into_inner(), ended.is_ok())
    }

    #[tokio::test]
    async fn a_failed_request_is_tried_until_the_deadline_and_a_refusal_is_not() {
        let third = |n| if n < 2 { Err(list()) } else { Ok(()) };
        assert_eq!(attempts(Duration::from_mins(1), third).await, (3, true));
        let (count, done) = attempts(Duration::from_millis(50), |_| Err(list())).await;
        assert!(count > 1 && !done, "{count} attempts");
        let refused = |_| Err(TeardownError::Attached { pods: "one".into() });
        assert_eq!(attempts(Duration::from_mins(1), refused).await, (1, false));
    }
}
