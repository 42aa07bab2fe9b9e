//! `make bench`, the part without a lab: ADD and DEL as the runtime calls them, a process each, in turn with a process that does the same kernel
//! work and nothing else; and 32 pods at once beside the same work done by 32 threads.

use std::{
    fmt::Write,
    net::IpAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use railhead_host::RdmaSocket;

use crate::{
    call::Call,
    floor::{self, FloorRail},
    namespace::{Namespace, ip},
    node::{HOST_MTU, Node, POD_MTU, Vf, pod_mac, soft_device},
    observe::{HostState, assert_as_before, assert_wired},
    times::{Times, ms},
};

/// First argument of the child that does the floor's work.
pub const FLOOR: &str = "floor";
/// How many times the floor's time ADD and DEL may take.
const RATIO: f64 = 1.3;
/// How many times the time of the same work, done alone by as many threads, the slowest of many pods at once may take.
const AT_ONCE_RATIO: f64 = 2.0;
/// Pods that start at once, and their rails.
const PODS: u32 = 32;
const RAILS: u32 = 8;

/// Prints all times; fails above a limit.
pub fn run(program: &Path, runs: u32, rounds: u32) -> Result<()> {
    let soft_roce = on_a_host(|| Ok(has_soft_roce()))?;
    println!(
        "ADD and DEL on stand-in ports (veth pairs), {runs} runs in turn, one process each, medians; {}",
        if soft_roce {
            "each rail with a soft-RoCE device"
        } else {
            "without RDMA: this kernel makes no soft-RoCE devices in network namespaces"
        }
    );
    println!(
        "{:<24}{:>12}{:>12}{:>9}{:>9}",
        "", "railhead ms", "floor ms", "ratio", "limit"
    );
    let mut exceeded = Vec::new();
    for rails in [1, 2, RAILS] {
        let [add, del] = on_a_host(|| alone(program, rails, runs, soft_roce))?;
        for (verb, Pair { ours, floor }) in [("ADD", add), ("DEL", del)] {
            let what = format!("{verb}, {rails} rail{}", if rails == 1 { "" } else { "s" });
            judge(&what, ours.median(), floor.median(), RATIO, &mut exceeded);
        }
    }
    println!(
        "{PODS} pods at once, {RAILS} rails each, {rounds} rounds in turn: 99th percentile, and what {PODS} threads need for the same work"
    );
    let [add, del] = on_a_host(|| at_once(program, rounds, soft_roce))?;
    for (verb, Pair { ours, floor }) in [("ADD", add), ("DEL", del)] {
        let what = format!("{verb}, {PODS} x {RAILS} rails");
        judge(&what, ours.percentile(99), floor.median(), AT_ONCE_RATIO, &mut exceeded);
    }
    ensure!(
        exceeded.is_empty(),
        "more than is allowed:\n  {}",
        exceeded.join("\n  ")
    );
    Ok(())
}

/// Times of Railhead and of the floor.
#[derive(Default)]
struct Pair {
    ours: Times,
    floor: Times,
}

fn judge(what: &str, ours: Duration, floor: Duration, limit: f64, exceeded: &mut Vec<String>) {
    let ratio = ours.as_secs_f64() / floor.as_secs_f64().max(f64::MIN_POSITIVE);
    println!(
        "{what:<24}{:>12.2}{:>12.2}{ratio:>9.2}{limit:>9.1}",
        ms(ours),
        ms(floor)
    );
    if ratio > limit {
        let mut line = String::new();
        // Writing to a String does not fail.
        let _ = write!(
            line,
            "{what}: {:.2} ms is {ratio:.2} times the floor of {:.2} ms; {limit} times is the limit",
            ms(ours),
            ms(floor)
        );
        exceeded.push(line);
    }
}

/// Runs `work` where the thread's namespace stands for a host.
fn on_a_host<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).context("a network namespace (needs root)")?;
                work()
            })
            .join()
    })
    .map_err(|_| anyhow!("the measuring thread panicked"))?
}

/// Whether a soft-RoCE device can be made in a network namespace.
fn has_soft_roce() -> bool {
    let attempt = || -> Result<()> {
        ip("link add rxetest type veth peer name rxepeer")?;
        ip("link set rxetest up")?;
        let mut socket = RdmaSocket::open()?;
        socket.add_soft_roce("rxetest0", &"rxetest".parse()?)?;
        let device = socket.device_named("rxetest0")?.context("it is not there")?;
        Ok(socket.remove_soft(&device)?)
    };
    attempt().is_ok()
}

/// One pod at a time.
fn alone(program: &Path, rails: u32, runs: u32, soft_roce: bool) -> Result<[Pair; 2]> {
    let node = Node::new(rails, 1, soft_roce)?;
    let before = HostState::read()?;
    let pod = Namespace::new()?;
    let vfs = node.vfs(0);
    node.write_plan("pod0", &vfs)?;
    let floor_rails = serde_json::to_string(&floor_rails(&node, "pod0", &vfs)?)?;
    let netns = pod.path();
    let call = |verb| Call {
        verb,
        container: "c0".to_owned(),
        pod: "pod0".to_owned(),
        netns: Some(pod.path()),
    };
    let [mut add, mut del] = [Pair::default(), Pair::default()];
    // The first of each finds caches cold, and is looked at instead of measured.
    for run in 0..=runs {
        for ours in [run % 2 == 0, run % 2 != 0] {
            let (added, deleted) = if ours {
                let added = timed(|| call("ADD").run(program, &node)?.ok("ADD"))?;
                if run == 0 {
                    assert_wired(&pod, &vfs)?;
                }
                (added, timed(|| call("DEL").run(program, &node)?.ok("DEL"))?)
            } else {
                let added = timed(|| floor_process(program, "add", &netns, &floor_rails))?;
                if run == 0 {
                    assert_wired(&pod, &vfs).context("the floor does not do the same work")?;
                }
                let deleted = timed(|| floor_process(program, "del", &netns, &floor_rails))?;
                (added, deleted)
            };
            if run == 0 {
                assert_as_before(&node, &before)?;
                continue;
            }
            let of = |pair: &mut Pair, time| {
                if ours {
                    pair.ours.add(time);
                } else {
                    pair.floor.add(time);
                }
            };
            of(&mut add, added);
            of(&mut del, deleted);
        }
    }
    assert_as_before(&node, &before)?;
    Ok([add, del])
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn floor_process(program: &Path, verb: &str, netns: &str, rails: &str) -> Result<()> {
    let output = Command::new(program)
        .args([FLOOR, verb, netns, rails])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    ensure!(
        output.status.success(),
        "the floor's {verb}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Many pods at once.
fn at_once(program: &Path, rounds: u32, soft_roce: bool) -> Result<[Pair; 2]> {
    let node = Node::new(RAILS, PODS, soft_roce)?;
    let before = HostState::read()?;
    let pods = (0..PODS)
        .map(|index| {
            let name = format!("pod{index}");
            let vfs = node.vfs(index);
            node.write_plan(&name, &vfs)?;
            Ok(Pod {
                floor: floor_rails(&node, &name, &vfs)?,
                namespace: Namespace::new()?,
                name,
                vfs,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let [mut add, mut del] = [Pair::default(), Pair::default()];
    // The first round programs the PFs, as Prepare would have done, and is not counted.
    for round in 0..=rounds {
        let call = |pod: &Pod, verb| {
            let call = Call {
                verb,
                container: format!("{}-{round}", pod.name),
                pod: pod.name.clone(),
                netns: Some(pod.namespace.path()),
            };
            call.run(program, &node)?.ok(&format!("{verb} of {}", pod.name))
        };
        let (each, _) = all_at_once(&pods, |pod| call(pod, "ADD"))?;
        let counts = round > 0;
        add.ours.extend(each.into_iter().filter(|_| counts));
        pods.iter().try_for_each(|pod| assert_wired(&pod.namespace, &pod.vfs))?;
        let (each, _) = all_at_once(&pods, |pod| call(pod, "DEL"))?;
        del.ours.extend(each.into_iter().filter(|_| counts));
        assert_as_before(&node, &before)?;
        let path = |pod: &Pod| pod.namespace.path();
        let (_, whole) = all_at_once(&pods, |pod| floor::add(Path::new(&path(pod)), &pod.floor).map(drop))?;
        if counts {
            add.floor.add(whole);
        }
        let (_, whole) = all_at_once(&pods, |pod| floor::del(Path::new(&path(pod)), &pod.floor))?;
        if counts {
            del.floor.add(whole);
        }
        assert_as_before(&node, &before).context("after the floor")?;
    }
    Ok([add, del])
}

struct Pod {
    name: String,
    vfs: Vec<Vf>,
    namespace: Namespace,
    floor: Vec<FloorRail>,
}

/// A thread per pod, started together: the time of each, and of all.
fn all_at_once(pods: &[Pod], work: impl Fn(&Pod) -> Result<()> + Sync) -> Result<(Vec<Duration>, Duration)> {
    let barrier = Barrier::new(pods.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = pods
            .iter()
            .map(|pod| {
                scope.spawn(|| {
                    barrier.wait();
                    timed(|| work(pod))
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        let each = threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a pod's thread panicked"))?)
            .collect::<Result<Vec<_>>>()?;
        Ok((each, start.elapsed()))
    })
}

/// What the floor is to do for a pod: the same as its plan.
fn floor_rails(node: &Node, pod: &str, vfs: &[Vf]) -> Result<Vec<FloorRail>> {
    let plan = node.write_plan(pod, vfs)?;
    vfs.iter()
        .zip(&plan.rails)
        .map(|(vf, rail)| {
            let address = rail.addresses.first().context("a rail without address")?;
            let IpAddr::V4(ip) = address.addr() else {
                bail!("the floor knows IPv4 only");
            };
            let gateway = rail.gateway.and_then(|gateway| match gateway {
                IpAddr::V4(gateway) => Some(gateway),
                IpAddr::V6(_) => None,
            });
            Ok(FloorRail {
                host_name: vf.name.clone(),
                pod_name: rail.name.to_string(),
                host_mac: vf.mac.parse()?,
                pod_mac: pod_mac(vf.rail, vf.index).parse()?,
                host_mtu: HOST_MTU,
                pod_mtu: POD_MTU,
                address: ip,
                prefix: address.prefix_len(),
                gateway,
                table: rail.table,
                soft: node.soft_roce().then(|| soft_device(pod, vf.rail)),
            })
        })
        .collect()
}
