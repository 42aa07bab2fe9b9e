//! The built binary as a hook, on real processes.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{
    fs,
    io::Write,
    process::{Child, Command, Output, Stdio},
    thread,
};

use railhead_cni::memlock_hook;
use railhead_host::{MemlockLimit, memlock_limit};
use railhead_plan::Layout;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::json;

/// A process that may lock little, as the first one of a container.
struct Container(Child);

impl Container {
    fn start() -> Self {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "ulimit -S -l 64 && ulimit -H -l 4096 && echo started && exec sleep 60",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = [0; 8];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut started).unwrap();
        Self(child)
    }

    fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    fn limit(&self) -> MemlockLimit {
        memlock_limit(self.pid()).unwrap()
    }

    fn state(&self) -> String {
        json!({"ociVersion": "1.2.0", "id": "c0ffee", "status": "creating", "pid": self.pid(), "bundle": "/b",
               "annotations": {"a": "b"}})
        .to_string()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn hook(stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_railhead"))
        .env_clear()
        .args(["memlock-hook", "00000000-0000-0000-0000-000000000000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn may_raise() -> bool {
    capabilities(None)
        .unwrap()
        .effective
        .contains(CapabilitySet::SYS_RESOURCE)
}

#[test]
fn the_hook_raises_the_limit_of_the_process_in_the_state_and_of_no_other() {
    let container = Container::start();
    let other = Container::start();
    assert_eq!(container.limit().soft, Some(64 * 1024));
    let hard = container.limit().hard;
    let output = hook(&container.state());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    if may_raise() {
        assert_eq!(container.limit(), MemlockLimit { soft: None, hard: None });
        assert!(output.stderr.is_empty(), "{output:?}");
    } else {
        // Where the tests themselves may not raise a hard limit, the soft one goes as far as it may.
        assert_eq!(container.limit(), MemlockLimit { soft: hard, hard });
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("container c0ffee"),
            "{output:?}"
        );
    }
    assert_eq!(other.limit().soft, Some(64 * 1024));
}

#[test]
fn a_limit_that_cannot_be_raised_is_said_in_the_pods_folder_until_one_can() {
    let container = Container::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::under(folder.path());
    fs::create_dir_all(layout.attachment("6f1c")).unwrap();
    let hard = container.limit().hard;
    let said = thread::scope(|scope| {
        let without_capability = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= CapabilitySet::SYS_RESOURCE;
            sets.permitted -= CapabilitySet::SYS_RESOURCE;
            set_capabilities(None, sets).unwrap();
            memlock_hook(&layout, "6f1c", &mut container.state().as_bytes())
        });
        without_capability.join().unwrap().unwrap()
    });
    assert!(said.contains("container c0ffee"), "{said}");
    assert!(said.contains(&format!("it may lock {} bytes", hard.unwrap())), "{said}");
    assert!(said.contains("LimitMEMLOCK=infinity"), "{said}");
    let note = layout.memlock_note("6f1c");
    assert_eq!(fs::read_to_string(&note).unwrap(), format!("{said}\n"));
    if may_raise() {
        assert_eq!(memlock_hook(&layout, "6f1c", &mut container.state().as_bytes()), None);
        assert!(!note.exists());
    }
}

#[test]
fn a_hook_never_keeps_a_container_from_starting() {
    let ended = {
        let container = Container::start();
        container.state()
    };
    for stdin in [
        "",
        "{}",
        "not json",
        r#"{"id":"c","pid":0}"#,
        r#"{"id":"c","pid":-1}"#,
        &ended,
    ] {
        let output = hook(stdin);
        assert!(output.status.success(), "{stdin}: {output:?}");
        assert!(!output.stderr.is_empty(), "{stdin}");
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::under(folder.path());
    fs::create_dir_all(layout.attachments()).unwrap();
    // Neither a pod without a folder nor a text that leads elsewhere makes a file.
    for pod in ["6f1c", "../../x", ""] {
        assert!(memlock_hook(&layout, pod, &mut "{}".as_bytes()).is_some());
        assert_eq!(fs::read_dir(layout.attachments()).unwrap().count(), 0, "{pod}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{pod}");
    }
}
