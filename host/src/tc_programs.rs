//! How many BPF programs look at the frames of a link at its tc hooks (kernel 6.6 and newer).
//!
//! They belong to the link and not to a queueing discipline: a move of the link leaves them, as XDP programs, and they go when
//! the link does (`dev_tcx_uninstall`, called by `unregister_netdevice_many_notify`, net/core/dev.c).
#![allow(unsafe_code)] // A system call that takes a pointer. No crate of the workspace wraps it.

use std::io;

use nix::{errno::Errno, libc};

/// `BPF_PROG_QUERY`, `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS` (linux/bpf.h).
const PROG_QUERY: libc::c_int = 16;
const HOOKS: [u32; 2] = [46, 47];

/// The part of `union bpf_attr` (linux/bpf.h) that this command uses, up to its last field.
#[repr(C, align(8))]
#[derive(Default)]
struct Query {
    link: u32,
    hook: u32,
    flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

const _: () = assert!(size_of::<Query>() == 64);

/// How many programs are at the hooks of a link in the namespace of the calling thread; `None` where the kernel has no such
/// hooks or does not tell.
pub(crate) fn tc_programs(link: u32) -> io::Result<Option<u32>> {
    let mut programs = 0;
    for hook in HOOKS {
        let mut query = Query {
            link,
            hook,
            ..Query::default()
        };
        // SAFETY: the kernel reads and writes a `bpf_attr` of the size that it is told, which is that of `query`, which lives
        // until after the call. No pointer is in it: it asks for the number only.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
        match Errno::result(answer) {
            Ok(_) => programs += query.count,
            Err(Errno::EINVAL | Errno::EPERM | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::E2BIG) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Some(programs))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers differ, so the kernel read the number that was meant.
    #[test]
    fn a_link_without_programs_is_told_from_one_that_is_not_there() {
        if tc_programs(1).unwrap().is_none() {
            println!("SKIP this kernel has no tc hooks for programs, or the test may not ask");
            return;
        }
        assert_eq!(tc_programs(1).unwrap(), Some(0));
        let error = tc_programs(4711).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ENODEV as i32), "{error}");
    }
}
