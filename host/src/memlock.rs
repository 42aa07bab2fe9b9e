//! RLIMIT_MEMLOCK of another process.

use std::{fs, io};

use rustix::{
    io::Errno,
    process::{Pid, Resource, Rlimit, prlimit},
};
use thiserror::Error;

/// How much memory a process may lock, bytes; `None` is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemlockLimit {
    /// What holds.
    pub soft: Option<u64>,
    /// As far as the process itself may raise it.
    pub hard: Option<u64>,
}

/// Why the limit of a process was not read, or is not without limit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MemlockError {
    /// The number is none of a process.
    #[error("{0} is not the id of a process")]
    NotAPid(i32),
    /// The limit could not be read.
    #[error("read /proc/{pid}/limits: {source}")]
    Read {
        /// Which process.
        pid: i32,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("raise RLIMIT_MEMLOCK of process {pid}: {source}")]
    Refused {
        /// Which process.
        pid: i32,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// Reads the limit from `/proc/<pid>/limits` (man 5 proc_pid_limits).
pub fn memlock_limit(pid: i32) -> Result<MemlockLimit, MemlockError> {
    let read = |source| MemlockError::Read { pid, source };
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(read)?;
    parse(&text).ok_or_else(|| {
        read(io::Error::new(
            io::ErrorKind::InvalidData,
            "it has no line of locked memory",
        ))
    })
}

fn parse(limits: &str) -> Option<MemlockLimit> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(None),
        bytes => bytes.parse().ok().map(Some),
    });
    Some(MemlockLimit {
        soft: values.next()??,
        hard: values.next()??,
    })
}

/// Lets a process and its future children lock as much memory as they like.
///
/// Without CAP_SYS_RESOURCE the kernel raises the soft limit up to the hard one and no further; that is done then, and the
/// error returned.
pub fn raise_memlock(pid: i32) -> Result<(), MemlockError> {
    // Zero is the caller, and rustix panics below that.
    let process = if pid > 0 { Pid::from_raw(pid) } else { None };
    let process = process.ok_or(MemlockError::NotAPid(pid))?;
    let set = |limit| {
        let limits = Rlimit {
            current: limit,
            maximum: limit,
        };
        prlimit(Some(process), Resource::Memlock, limits)
    };
    let Err(source) = set(None) else { return Ok(()) };
    let limit = memlock_limit(pid)?;
    if limit.soft != limit.hard {
        set(limit.hard).map_err(|source| MemlockError::Refused { pid, source })?;
    }
    Err(MemlockError::Refused { pid, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             95868                95868                processes \n\
                    Max locked memory         65536                unlimited            bytes     \n";
        let limit = parse(text).unwrap();
        assert_eq!((limit.soft, limit.hard), (Some(65536), None));
        assert_eq!(parse("Max locked memory  x  y  bytes"), None);
        assert_eq!(parse(""), None);
        memlock_limit(1).unwrap();
    }

    #[test]
    fn numbers_that_mean_a_group_or_the_caller_are_no_process() {
        for pid in [0, -1, i32::MIN] {
            assert!(matches!(raise_memlock(pid), Err(MemlockError::NotAPid(_))), "{pid}");
        }
    }
}
