//! What the counts of a tier mean.

use crate::{output::Count, tier::Tier};

/// What is said about a tier at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    /// What ran has passed, and not everything ran.
    Incomplete,
    Failed,
}

impl Verdict {
    pub(crate) fn is_good(self) -> bool {
        self != Self::Failed
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Incomplete => "ok as far as it ran",
            Self::Failed => "FAILED",
        }
    }
}

/// A tier that ran nothing proves nothing. Where it must be complete (`CI=true`), one that left something out does not either.
pub(crate) fn verdict(tier: Tier, count: &Count, ended_well: bool, must_be_complete: bool) -> Verdict {
    let is_complete = count.ignored + count.skipped == 0;
    // Some of the dependency checks count nothing, and a tier that this machine cannot run says so.
    let is_empty = tier != Tier::Dependencies && count.passed + count.failed + count.skipped == 0;
    if !ended_well || count.failed > 0 || is_empty || (must_be_complete && !is_complete) {
        Verdict::Failed
    } else if is_complete {
        Verdict::Ok
    } else {
        Verdict::Incomplete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u32, failed: u32, ignored: u32, skipped: u32) -> Count {
        Count {
            passed,
            failed,
            ignored,
            skipped,
            ..Count::default()
        }
    }

    #[test]
    fn a_test_that_did_not_run_is_a_failure_where_everything_must_run() {
        for left_out in [count(9, 0, 1, 0), count(9, 0, 0, 1), count(0, 0, 0, 1)] {
            assert_eq!(verdict(Tier::Lab, &left_out, true, true), Verdict::Failed);
            assert_eq!(verdict(Tier::Lab, &left_out, true, false), Verdict::Incomplete);
        }
        assert_eq!(verdict(Tier::Lab, &count(9, 0, 0, 0), true, true), Verdict::Ok);
    }

    #[test]
    fn a_tier_without_tests_and_a_runner_that_fails_are_failures_everywhere() {
        for must_be_complete in [false, true] {
            assert_eq!(
                verdict(Tier::Unit, &count(0, 0, 0, 0), true, must_be_complete),
                Verdict::Failed
            );
            assert_eq!(
                verdict(Tier::Unit, &count(9, 0, 0, 0), false, must_be_complete),
                Verdict::Failed
            );
            assert_eq!(
                verdict(Tier::Unit, &count(9, 1, 0, 0), true, must_be_complete),
                Verdict::Failed
            );
        }
        assert_eq!(verdict(Tier::Dependencies, &count(0, 0, 0, 0), true, true), Verdict::Ok);
    }
}
