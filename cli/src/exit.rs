//! What the exit codes mean, for scripts. They are stable, and `docs/cli.md` has them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All that was asked about is fine.
    Fine = 0,
    /// The report names something that is wrong, or that waits.
    Wrong = 1,
    /// What was asked for does not fit. As a usage error ends with [`Exit::Usage`] and not with 2, this means nothing else.
    DoesNotFit = 2,
    /// The command line or a file is wrong, or names something that is not there.
    Usage = 3,
    /// Nothing can be said: the cluster was not reached, the right to read is missing, or Railhead is not installed.
    CannotTell = 4,
}

impl Exit {
    /// Each with what it means, for `--help`.
    pub(crate) const HELP: &str = "Exit codes:
  0  all that was asked about is fine
  1  the report names something that is wrong, or that waits
  2  what was asked for does not fit
  3  the command line or a file is wrong, or names something that is not there
  4  the cluster was not reached, a right is missing, or Railhead is not installed";
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
