//! `make faults`: a Prepare, ADD, DEL or Unprepare is killed behind each of its changes, and then things go on in one of four ways. Whatever the place and the way, in the
//! end all is as it was.

use std::{fmt::Write, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use railhead_host::RdmaSocket;

use crate::{
    call::Call,
    claim,
    namespace::Namespace,
    node::{Node, Vf, soft_device},
    observe::{HostState, assert_as_before, assert_empty, assert_wired, come_home},
    trace::run_until,
};

/// What happens after the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The runtime deletes the sandbox.
    Del,
    /// The same again: kubelet makes a new sandbox of the pod; a DEL is repeated.
    Again,
    /// The pod's namespace ends, and another pod gets the VFs.
    Another,
    /// The collector, which knows of no sandbox.
    Collector,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Del, "DEL"),
    (Way::Again, "again"),
    (Way::Another, "another pod"),
    (Way::Collector, "collector"),
];

/// Prints the table, and fails if a cell is not "ok". The namespace of the calling thread becomes the host.
pub fn run(program: &Path, rails: u32) -> Result<()> {
    let (table, failures) = table(program, rails)?;
    print!("{table}");
    ensure!(failures.is_empty(), "not as before:\n  {}", failures.join("\n  "));
    Ok(())
}

/// The table as text, and what is wrong in it.
pub fn table(program: &Path, rails: u32) -> Result<(String, Vec<String>)> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("a network namespace (needs root)")?;
    on(program, &Node::new(rails, 1, false)?, |_| &WAYS)
}

/// As [`run`] on real VFs, which nobody uses meanwhile, of the node of the calling thread: each step once, with the ways in turn.
pub fn run_on_real_vfs(program: &Path, vfs: Vec<Vf>) -> Result<()> {
    let (table, failures) = on(program, &Node::of_real_vfs(vfs)?, |place| {
        &WAYS[place % WAYS.len()..][..1]
    })?;
    print!("{table}");
    ensure!(failures.is_empty(), "not as before:\n  {}", failures.join("\n  "));
    Ok(())
}

/// The table, with these ways on from behind each change.
fn on(
    program: &Path,
    node: &Node,
    ways: impl Fn(usize) -> &'static [(Way, &'static str)],
) -> Result<(String, Vec<String>)> {
    let rails = node.rails();
    let before = HostState::read()?;
    ensure!(before.vf_count() == rails as usize, "the VFs are not seen: {before:?}");
    let mut text = format!("{:<10}{:>4}  {:<34}", "killed", "", "behind");
    for (_, name) in WAYS {
        write!(text, "{name:<14}")?;
    }
    text.push('\n');
    let mut failures = Vec::new();
    for verb in ["PREPARE", "ADD", "DEL", "UNPREPARE"] {
        for place in 1.. {
            let mut row = String::new();
            let mut behind = None;
            for (way, name) in WAYS {
                if !ways(place).iter().any(|(wanted, _)| *wanted == way) {
                    write!(row, "{:<14}", "")?;
                    continue;
                }
                let case = Case {
                    program,
                    node,
                    before: &before,
                };
                let outcome = match verb {
                    "ADD" | "DEL" => case.run(verb, place, way),
                    _ => case.run_claim(verb, place, way),
                };
                match outcome {
                    Ok(None) => break,
                    Ok(Some(change)) => {
                        behind.get_or_insert(change);
                        write!(row, "{:<14}", "ok")?;
                    }
                    Err(error) => {
                        failures.push(format!("{verb} killed behind change {place}, then {name}: {error:#}"));
                        behind.get_or_insert_with(|| "?".to_owned());
                        write!(row, "{:<14}", "NOT AS BEFORE")?;
                        case.clean_up().with_context(|| failures.join("\n"))?;
                    }
                }
            }
            let Some(behind) = behind else { break };
            writeln!(text, "{verb:<10}{place:>4}  {behind:<34.32}{row}")?;
        }
    }
    Ok((text, failures))
}

/// One cell of the table.
struct Case<'a> {
    program: &'a Path,
    node: &'a Node,
    before: &'a HostState,
}

impl Case<'_> {
    /// Answers with the change behind which the call was killed; nothing where it makes fewer.
    fn run(&self, verb: &'static str, place: usize, way: Way) -> Result<Option<String>> {
        let vfs = self.node.vfs(0);
        self.prepare("pod-a", &vfs)?;
        let sandbox = Namespace::new()?;
        let add = call("ADD", "a1", "pod-a", Some(&sandbox));
        let del = call("DEL", "a1", "pod-a", Some(&sandbox));
        let killed = if verb == "ADD" {
            run_until(add.command(self.program, self.node), place)?
        } else {
            add.run(self.program, self.node)?.ok("ADD")?;
            assert_wired(&sandbox, &vfs)?;
            run_until(del.command(self.program, self.node), place)?
        };
        if !killed.killed {
            ensure!(killed.code == 0, "{verb} under trace: {}", killed.said);
            self.call(&del)?;
            self.end("pod-a", &sandbox)?;
            return Ok(None);
        }
        match way {
            Way::Del => self.call(&del)?,
            Way::Again if verb == "DEL" => {
                self.call(&del)?;
                self.call(&del)?;
            }
            Way::Again => {
                let new = Namespace::new()?;
                self.call(&call("ADD", "a2", "pod-a", Some(&new)))?;
                assert_wired(&new, &vfs)?;
                // The old sandbox is deleted late, and takes nothing from the new one.
                self.call(&del)?;
                assert_wired(&new, &vfs).context("after the late DEL of the old sandbox")?;
                self.call(&call("DEL", "a2", "pod-a", Some(&new)))?;
                assert_empty(&new)?;
            }
            Way::Another => {
                self.remove_soft_rdma("pod-a", &sandbox, &vfs)?;
                come_home(&sandbox)?;
                drop(sandbox);
                let other = Namespace::new()?;
                if self.node.is_real() {
                    // The claim of the pod that is gone comes first, since a VF is given only when no plan names it.
                    self.unprepare("pod-a")?;
                }
                self.prepare("pod-b", &vfs)?;
                self.call(&call("ADD", "b1", "pod-b", Some(&other)))?;
                assert_wired(&other, &vfs)?;
                self.call(&call("DEL", "a1", "pod-a", None))?;
                assert_wired(&other, &vfs).context("after the late DEL of the old pod")?;
                self.call(&call("DEL", "b1", "pod-b", Some(&other)))?;
                self.unprepare("pod-b")?;
                self.end("pod-a", &other)?;
                return Ok(killed.changes.last().cloned());
            }
            Way::Collector => {
                self.call(&call("GC", "", "pod-a", None))?;
            }
        }
        self.end("pod-a", &sandbox)?;
        Ok(killed.changes.last().cloned())
    }

    /// The same for the claim's half. The VFs must be as the PFs had them, too.
    fn run_claim(&self, verb: &str, place: usize, way: Way) -> Result<Option<String>> {
        let vfs = self.node.vfs(0);
        let enforced = self.node.enforced()?;
        // Each case is the first on its node: what the VFs were like is not known yet.
        let originals = self.node.layout().originals();
        if originals.exists() {
            std::fs::remove_dir_all(originals)?;
        }
        for pod in ["pod-a", "pod-b"] {
            claim::wanted(self.node, &self.node.plan(pod, &vfs)?)?;
        }
        let killed = if verb == "PREPARE" {
            run_until(self.claim("prepare", "pod-a"), place)?
        } else {
            self.claim_call("prepare", "pod-a")?;
            run_until(self.claim("unprepare", "pod-a"), place)?
        };
        if killed.killed {
            match way {
                Way::Del => {}
                Way::Again if verb == "UNPREPARE" => self.claim_call("unprepare", "pod-a")?,
                Way::Again => {
                    self.claim_call("prepare", "pod-a")?;
                    let pod = Namespace::new()?;
                    self.node.write_spec("pod-a")?;
                    self.call(&call("ADD", "a1", "pod-a", Some(&pod)))?;
                    assert_wired(&pod, &vfs)?;
                    self.call(&call("DEL", "a1", "pod-a", Some(&pod)))?;
                    self.node.remove_spec("pod-a")?;
                    assert_empty(&pod)?;
                }
                Way::Another => {
                    // It is given a VF only when no plan names that.
                    self.claim_call("unprepare", "pod-a")?;
                    self.claim_call("prepare", "pod-b")?;
                    self.claim_call("unprepare", "pod-b")?;
                }
                Way::Collector => self.node.sweep()?,
            }
        } else {
            ensure!(killed.code == 0, "{verb} under trace: {}", killed.said);
        }
        self.claim_call("unprepare", "pod-a")?;
        self.node.sweep()?;
        assert_as_before(self.node, self.before)?;
        let now = self.node.enforced()?;
        ensure!(now == enforced, "the PFs enforce {now:?} and had {enforced:?}");
        let plans = std::fs::read_dir(self.node.layout().plans())?.count();
        ensure!(plans == 0, "{plans} plans are left");
        Ok(killed.changes.last().filter(|_| killed.killed).cloned())
    }

    /// What an ADD finds. A stand-in has no more to be prepared than a plan.
    fn prepare(&self, pod: &str, vfs: &[Vf]) -> Result<()> {
        if self.node.is_real() {
            claim::wanted(self.node, &self.node.plan(pod, vfs)?)?;
            self.claim_call("prepare", pod)?;
            self.node.write_spec(pod)
        } else {
            self.node.write_plan(pod, vfs).map(drop)
        }
    }

    fn unprepare(&self, pod: &str) -> Result<()> {
        if self.node.is_real() {
            self.claim_call("unprepare", pod)?;
            self.node.remove_spec(pod)
        } else {
            self.node.remove_plan(pod)
        }
    }

    /// Before a namespace ends with a VF: a link that leaves has its soft-RoCE device unregistered later, by a worker, and where the
    /// namespace has ended by then, Linux 7.3.4 stops (`ib_unregister_work`, `kobject_uevent_net_broadcast`: NULL pointer).
    fn remove_soft_rdma(&self, pod: &str, sandbox: &Namespace, vfs: &[Vf]) -> Result<()> {
        if !self.node.is_real() {
            return Ok(());
        }
        sandbox.run(|| {
            let mut socket = RdmaSocket::open()?;
            for vf in vfs {
                if let Some(device) = socket.device_named(&soft_device(pod, vf.rail))? {
                    socket.remove_soft(&device)?;
                }
            }
            Ok(())
        })
    }

    fn claim(&self, verb: &str, pod: &str) -> (Command, Vec<u8>) {
        (claim::command(verb, pod, self.program, self.node), Vec::new())
    }

    fn claim_call(&self, verb: &str, pod: &str) -> Result<()> {
        let output = self.claim(verb, pod).0.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{verb} of {pod}: {said}");
        Ok(())
    }

    fn call(&self, call: &Call) -> Result<()> {
        let what = format!("{} of {}", call.verb, call.container);
        call.run(self.program, self.node)?.ok(&what)
    }

    fn end(&self, pod: &str, sandbox: &Namespace) -> Result<()> {
        self.unprepare(pod)?;
        self.node.sweep()?;
        assert_empty(sandbox)?;
        assert_as_before(self.node, self.before)
    }

    /// After a failure: what can be given back is, so that the next case begins as the first one did.
    fn clean_up(&self) -> Result<()> {
        for pod in ["pod-a", "pod-b"] {
            self.claim("unprepare", pod).0.output()?;
        }
        for container in ["a1", "a2", "b1"] {
            // Its own failure was told already, by the case.
            call("DEL", container, "pod-a", None).run(self.program, self.node)?;
        }
        for file in self.node.files()? {
            let path = Path::new(&file);
            if path.is_dir() {
                std::fs::remove_dir_all(path)?;
            } else {
                std::fs::remove_file(path)?;
            }
        }
        let differences = self.before.differences(&HostState::read()?);
        ensure!(
            differences.is_empty(),
            "the stand-in ports are lost, no further case can be tried: {}",
            differences.join("; ")
        );
        Ok(())
    }
}

fn call(verb: &'static str, container: &str, pod: &str, netns: Option<&Namespace>) -> Call {
    Call {
        verb,
        container: container.to_owned(),
        pod: pod.to_owned(),
        netns: netns.map(Namespace::path),
    }
}
