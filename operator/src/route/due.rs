//! Work that costs as much as the cluster is large: done for all changes of a while together.

use std::time::Duration;

use tokio::time::Instant;

/// How long at least from one time to the next.
const LARGE: Duration = Duration::from_secs(1);

/// One such work, and whether anybody has asked for it.
#[derive(Default)]
pub(super) struct Due {
    asked: bool,
    done: Option<Instant>,
}

impl Due {
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    pub(super) fn at(&self) -> Option<Instant> {
        let now = Instant::now();
        self.asked
            .then(|| self.done.map_or(now, |done| (done + LARGE).max(now)))
    }

    pub(super) fn is_due(&self) -> bool {
        self.at().is_some_and(|at| at <= Instant::now())
    }

    pub(super) fn settle(&mut self) {
        self.asked = false;
        self.done = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_costs_as_much_as_the_cluster_is_large_is_done_once_a_second() {
        let mut due = Due::default();
        assert!(!due.is_due(), "nobody asked");
        let start = Instant::now();
        let mut done = 0;
        while start.elapsed() < Duration::from_secs(10) {
            due.ask();
            if due.is_due() {
                due.settle();
                done += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!((9..=11).contains(&done), "{done} times for 500 changes in 10 s");
    }
}
