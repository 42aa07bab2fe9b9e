//! `kill -9` behind every single change: a call runs under ptrace, each of its system calls that changes something outside of it is counted,
//! and it is killed when the one asked for has returned. So no step is left out, whatever steps the code has.

use std::{
    collections::HashSet,
    io::{Read, Write},
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::{
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Set for a child that is traced.
const TRACED: &str = "STANDIN_TRACED";

/// What came of a traced call.
#[derive(Clone, Debug)]
pub(crate) struct Traced {
    /// The changes that it made, in order: the last one is behind which it was killed.
    pub(crate) changes: Vec<String>,
    /// Whether it was killed; otherwise it ended by itself.
    pub(crate) killed: bool,
    /// Exit code, where it ended by itself.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) said: String,
}

/// In the child: waits for the tracer, if there is to be one.
pub(crate) fn stop_for_tracer() -> Result<()> {
    if std::env::var_os(TRACED).is_some() {
        ptrace::traceme().context("be traced")?;
        raise(Signal::SIGSTOP)?;
    }
    Ok(())
}

/// Runs a call and kills it behind its change number `last`, counted from 1; to its end where it makes fewer.
pub(crate) fn run_until((mut command, input): (Command, Vec<u8>), last: usize) -> Result<Traced> {
    let mut child = command.env(TRACED, "1").spawn().context("start the traced call")?;
    child.stdin.take().context("no standard input")?.write_all(&input)?;
    let main = Pid::from_raw(i32::try_from(child.id())?);
    let mut traced = follow(main, last)?;
    let mut said = String::new();
    for pipe in [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read>),
    ]
    .into_iter()
    .flatten()
    {
        let mut pipe = pipe;
        pipe.read_to_string(&mut said)?;
    }
    traced.said = said;
    Ok(traced)
}

fn follow(main: Pid, last: usize) -> Result<Traced> {
    let mut traced = Traced {
        changes: Vec::new(),
        killed: false,
        code: -1,
        said: String::new(),
    };
    let mut prepared = false;
    // Threads that are inside a system call.
    let mut inside: HashSet<Pid> = HashSet::new();
    loop {
        // Children of this thread only: others have theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(None, Some(flags)).context("wait for the traced call")? {
            WaitStatus::Exited(pid, code) if pid == main => {
                traced.code = code;
                return Ok(traced);
            }
            WaitStatus::Signaled(pid, ..) if pid == main => return Ok(traced),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {}
            WaitStatus::PtraceSyscall(pid) => {
                if inside.insert(pid) {
                    go_on(pid, None)?;
                    continue;
                }
                inside.remove(&pid);
                if !traced.killed {
                    traced.changes.extend(change(pid));
                    if traced.changes.len() >= last {
                        traced.killed = true;
                        kill(main, Signal::SIGKILL)?;
                    }
                }
                go_on(pid, None)?;
            }
            WaitStatus::Stopped(pid, Signal::SIGSTOP) => {
                if pid == main && !prepared {
                    prepared = true;
                    let options =
                        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
                    ptrace::setoptions(pid, options)?;
                }
                go_on(pid, None)?;
            }
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal))?,
            WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None)?,
            other => bail!("the traced call is {other:?}"),
        }
    }
}

fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        // It was killed meanwhile.
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("let the traced call go on"),
    }
}

/// What the system call that has just returned changed, if it did and if that is of anybody else's interest.
fn change(pid: Pid) -> Option<String> {
    let registers = ptrace::getregs(pid).ok()?;
    if registers.rax > u64::MAX - 4096 {
        return None;
    }
    let text = |address| read_text(pid, address);
    match i64::try_from(registers.orig_rax).ok()? {
        libc::SYS_sendto => sent(pid, registers.rsi),
        libc::SYS_write | libc::SYS_pwrite64 if registers.rdi > 2 => written(pid, registers.rdi),
        libc::SYS_rename => Some(format!("rename to {}", base(&text(registers.rsi)))),
        libc::SYS_renameat | libc::SYS_renameat2 => Some(format!("rename to {}", base(&text(registers.r10)))),
        libc::SYS_unlink => Some(format!("unlink {}", base(&text(registers.rdi)))),
        libc::SYS_unlinkat => Some(format!("unlink {}", base(&text(registers.rsi)))),
        libc::SYS_mkdir => Some(format!("mkdir {}", base(&text(registers.rdi)))),
        libc::SYS_mkdirat => Some(format!("mkdir {}", base(&text(registers.rsi)))),
        libc::SYS_rmdir => Some(format!("rmdir {}", base(&text(registers.rdi)))),
        libc::SYS_openat if registers.rdx & u64::try_from(libc::O_CREAT).ok()? != 0 => {
            Some(format!("create {}", base(&text(registers.rsi))))
        }
        _ => None,
    }
}

/// A request to the kernel by its type (linux/rtnetlink.h), unless it only asks; or a frame.
fn sent(pid: Pid, address: u64) -> Option<String> {
    let words = ptrace::read(pid, usize::try_from(address).ok()? as ptrace::AddressType).ok()?;
    // Length, then type, as the kernel's own byte order has them.
    let kind = u16::try_from((words >> 32) & 0xffff).ok()?;
    if words & 0xffff_ffff == 0xffff_ffff {
        return Some("a frame to the neighbours".to_owned());
    }
    Some(
        match kind {
            16 => "NEWLINK",
            19 => "SETLINK",
            20 => "NEWADDR",
            21 => "DELADDR",
            24 => "NEWROUTE",
            25 => "DELROUTE",
            32 => "NEWRULE",
            33 => "DELRULE",
            28 => "NEWNEIGH",
            108 => "NEWLINKPROP",
            109 => "DELLINKPROP",
            // RTM_GET* are the third of each four.
            16..=127 if kind % 4 == 2 => return None,
            other => return Some(format!("netlink request {other}")),
        }
        .to_owned(),
    )
}

/// A write to a file; pipes, sockets and event descriptors are nobody's state.
fn written(pid: Pid, descriptor: u64) -> Option<String> {
    let target = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    let target = target.to_string_lossy().into_owned();
    target.starts_with('/').then(|| format!("write {}", base(&target)))
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn read_text(pid: Pid, address: u64) -> String {
    let mut bytes = Vec::new();
    let mut at = address;
    while bytes.len() < 4096 {
        let Ok(place) = usize::try_from(at) else { break };
        let Ok(word) = ptrace::read(pid, place as ptrace::AddressType) else {
            break;
        };
        let word = word.to_ne_bytes();
        if let Some(end) = word.iter().position(|byte| *byte == 0) {
            bytes.extend(&word[..end]);
            break;
        }
        bytes.extend(word);
        at += 8;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
