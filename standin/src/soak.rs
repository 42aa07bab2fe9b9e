//! `make soak`: thousands of attachments, many at once, fewer VFs than pods, and calls that are killed at any moment. Each pod is
//! looked at in the kernel when its ADD has succeeded and again before its DEL: nobody may have taken what it was given. From time
//! to time all stop, and the host must be as it was.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use fastrand::Rng;
use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{UsageWho, getrusage},
};

use crate::{
    call::{Call, Ended},
    namespace::Namespace,
    node::{Node, Vf},
    observe::{HostState, assert_as_before, assert_empty, assert_wired},
};

/// Rails of a pod.
const RAILS: u32 = 2;
/// Attachments between two looks at everything.
const BATCH: u32 = 500;
/// One call of so many is killed.
const KILLED: u32 = 4;
/// One call of so many runs inside this process, whose memory is watched.
const HERE: u32 = 8;
/// How often a pod looks for a VF that is free.
const TRIES: u32 = 10_000;
/// Growth of this process that is still called flat.
const GROWTH_KB: u64 = 16_384;
/// Growth of the largest process of a call that is still called flat.
const CALL_GROWTH_KB: u64 = 4096;
/// CNI's "try again later", which ADD answers when a VF is in use.
const TRY_AGAIN: i64 = 11;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many attachments.
    pub attachments: u32,
    /// How many at once.
    pub at_once: u32,
    /// Seed of the random choices.
    pub seed: Option<u64>,
}

/// Runs it, printing a line after every batch; the first thing that is wrong ends it with an error.
pub fn run(program: &Path, plan: &Plan) -> Result<()> {
    let seed = plan.seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!(
        "{} attachments with {RAILS} rails, {} at once, seed {seed} (--seed repeats the choices)",
        plan.attachments, plan.at_once
    );
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace (needs root)")?;
    // Fewer than pods: some have to wait for others.
    let node = Node::new(RAILS, (plan.at_once * 3 / 4).max(1), false)?;
    let soak = Soak {
        program,
        node,
        seed,
        counted: Counted::default(),
    };
    let before = HostState::read()?;
    let start = Instant::now();
    let mut first = None;
    let mut done = 0;
    while done < plan.attachments {
        let end = (done + BATCH).min(plan.attachments);
        soak.batch(done..end, plan.at_once)?;
        done = end;
        soak.collect()?;
        assert_as_before(&soak.node, &before).with_context(|| format!("after {done} attachments"))?;
        let memory = Memory::now(&soak.node)?;
        println!("{:>6} done  {}  {memory}", done, soak.counted);
        // The first batch still fills caches.
        let first = first.get_or_insert(memory);
        memory.ensure_flat(first)?;
    }
    println!(
        "{done} attachments in {:.0} s: {} VFs of the host as at the beginning, 0 leaked, 0 given out twice",
        start.elapsed().as_secs_f64(),
        before.vf_count()
    );
    Ok(())
}

struct Soak<'a> {
    program: &'a Path,
    node: Node,
    seed: u64,
    counted: Counted,
}

#[derive(Default)]
struct Counted {
    killed_adds: AtomicU32,
    killed_dels: AtomicU32,
    busy: AtomicU32,
    /// Microseconds that a call takes, averaged over the last ones.
    call_us: AtomicU64,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "killed: {} ADD, {} DEL; VF in use: {}",
            self.killed_adds.load(Relaxed),
            self.killed_dels.load(Relaxed),
            self.busy.load(Relaxed)
        )
    }
}

impl Soak<'_> {
    /// These attachments, `at_once` of them at a time.
    fn batch(&self, numbers: std::ops::Range<u32>, at_once: u32) -> Result<()> {
        let next = AtomicU32::new(numbers.start);
        let stop = AtomicBool::new(false);
        let failures = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= numbers.end {
                            return;
                        }
                        if let Err(error) = self.attachment(number) {
                            stop.store(true, Relaxed);
                            let error = error.context(format!("attachment {number} of seed {}", self.seed));
                            failures.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        match failures.into_iter().next() {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// The life of one pod.
    fn attachment(&self, number: u32) -> Result<()> {
        let mut random = Rng::with_seed(self.seed.wrapping_mul(0x1_0000_0001) ^ u64::from(number));
        let mut pod = Pod {
            name: format!("pod-{number}"),
            sandboxes: 0,
            namespace: Namespace::new()?,
        };
        let vfs = self.wire(&mut pod, &mut random)?;
        assert_wired(&pod.namespace, &vfs).context("after ADD")?;
        thread::sleep(Duration::from_millis(20).mul_f64(random.f64()));
        assert_wired(&pod.namespace, &vfs)
            .context("before DEL, as the kernel shows it: was it given to another pod?")?;
        self.delete(&pod, &mut random)?;
        assert_empty(&pod.namespace).context("after DEL")?;
        self.node.remove_plan(&pod.name)
    }

    /// As kubelet does it: a sandbox whose ADD failed or was cut off is deleted, or forgotten for a while, and a new one made.
    fn wire(&self, pod: &mut Pod, random: &mut Rng) -> Result<Vec<Vf>> {
        for _ in 0..TRIES {
            let vfs = self.node.vfs(random.u32(..self.node.vfs_per_port()));
            self.node.write_plan(&pod.name, &vfs)?;
            pod.sandboxes += 1;
            let add = pod.call("ADD");
            match self.call(&add, random)? {
                Outcome::Succeeded => return Ok(vfs),
                Outcome::Killed => {
                    self.counted.killed_adds.fetch_add(1, Relaxed);
                }
                Outcome::Refused(TRY_AGAIN, _) => {
                    self.counted.busy.fetch_add(1, Relaxed);
                    thread::sleep(Duration::from_millis(10).mul_f64(random.f64()));
                }
                Outcome::Refused(code, said) => bail!("ADD of {}: code {code}: {said}", add.container),
            }
            // Sometimes the next ADD finds what this one left.
            if random.u32(..2) == 0 {
                self.delete(pod, random)?;
            }
        }
        bail!("{} found no VF free in {TRIES} tries", pod.name)
    }

    /// Every sandbox that the pod ever had, until each DEL has succeeded.
    fn delete(&self, pod: &Pod, random: &mut Rng) -> Result<()> {
        for sandbox in 1..=pod.sandboxes {
            let del = Call {
                container: format!("{}-{sandbox}", pod.name),
                ..pod.call("DEL")
            };
            loop {
                match self.call(&del, random)? {
                    Outcome::Succeeded => break,
                    Outcome::Killed => {
                        self.counted.killed_dels.fetch_add(1, Relaxed);
                    }
                    Outcome::Refused(TRY_AGAIN, _) => {}
                    Outcome::Refused(code, said) => bail!("DEL of {}: code {code}: {said}", del.container),
                }
            }
        }
        Ok(())
    }

    fn call(&self, call: &Call, random: &mut Rng) -> Result<Outcome> {
        if random.u32(..HERE) == 0 {
            let (success, said) = call.run_here(&self.node);
            return Ok(if success {
                Outcome::Succeeded
            } else {
                Outcome::refused(&said)
            });
        }
        if random.u32(..KILLED) == 0 {
            let usual = Duration::from_micros(self.counted.call_us.load(Relaxed));
            let ended = call.run_killed_after((usual * 5 / 4).mul_f64(random.f64()), self.program, &self.node)?;
            return Ok(if ended.was_killed() {
                Outcome::Killed
            } else {
                Outcome::of(&ended)
            });
        }
        let start = Instant::now();
        let ended = call.run(self.program, &self.node)?;
        let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let usual = self.counted.call_us.load(Relaxed);
        self.counted.call_us.store((usual * 7 + took) / 8, Relaxed);
        Ok(Outcome::of(&ended))
    }

    /// What the collectors of agent and binary do: nothing of a sandbox that ended may need anybody else.
    fn collect(&self) -> Result<()> {
        let gc = Call {
            verb: "GC",
            container: String::new(),
            pod: "collector".to_owned(),
            netns: None,
        };
        gc.run(self.program, &self.node)?.ok("GC")?;
        self.node.sweep()
    }
}

enum Outcome {
    Succeeded,
    Killed,
    Refused(i64, String),
}

impl Outcome {
    fn of(ended: &Ended) -> Self {
        if ended.success() {
            Self::Succeeded
        } else {
            Self::Refused(ended.code().unwrap_or(-1), format!("{}{}", ended.stdout, ended.stderr))
        }
    }

    fn refused(said: &str) -> Self {
        let answer = said.lines().next().unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
        Self::Refused(answer["code"].as_i64().unwrap_or(-1), said.to_owned())
    }
}

struct Pod {
    name: String,
    /// Sandboxes that were made so far.
    sandboxes: u32,
    namespace: Namespace,
}

impl Pod {
    fn call(&self, verb: &'static str) -> Call {
        Call {
            verb,
            container: format!("{}-{}", self.name, self.sandboxes),
            pod: self.name.clone(),
            netns: Some(self.namespace.path()),
        }
    }
}

/// What could grow.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// Resident in this process.
    own_kb: u64,
    /// The largest process of a call so far.
    call_kb: u64,
    /// Open files of this process.
    files: usize,
    /// Files and folders below the one that stands for `/`.
    kept: usize,
    /// What the kernel holds and cannot give back; for people to see, since all of the machine is in it.
    kernel_kb: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this process {} kB, a call at most {} kB, {} open files, {} files on disk, kernel {} kB",
            self.own_kb, self.call_kb, self.files, self.kept, self.kernel_kb
        )
    }
}

impl Memory {
    fn now(node: &Node) -> Result<Self> {
        Ok(Self {
            own_kb: kilobytes("/proc/self/status", "VmRSS:")?,
            call_kb: u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())?,
            files: fs::read_dir("/proc/self/fd")?.count(),
            kept: count(&node.root().join("run"))? + count(&node.root().join("var"))?,
            kernel_kb: kilobytes("/proc/meminfo", "SUnreclaim:")?,
        })
    }

    fn ensure_flat(&self, first: &Self) -> Result<()> {
        ensure!(
            self.own_kb <= first.own_kb + GROWTH_KB,
            "memory grew: {first}, and now {self}"
        );
        ensure!(
            self.call_kb <= first.call_kb + CALL_GROWTH_KB,
            "a call's memory grew: {first}, and now {self}"
        );
        ensure!(self.files <= first.files, "files stay open: {first}, and now {self}");
        ensure!(self.kept <= first.kept, "files pile up: {first}, and now {self}");
        Ok(())
    }
}

fn kilobytes(file: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .ok_or_else(|| anyhow!("{file} has no {key}"))?
        .parse()
        .with_context(|| format!("{key} of {file}"))
}

fn count(folder: &Path) -> Result<usize> {
    let mut found = 0;
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(0);
    };
    for entry in entries {
        let entry = entry?;
        found += 1;
        if entry.file_type()?.is_dir() {
            found += count(&entry.path())?;
        }
    }
    Ok(found)
}
