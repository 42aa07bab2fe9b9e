//! What tests on the real kernel need: network namespaces of their own, and iproute2 as the witness.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A test that cannot go on panics.

use std::{process::Command, thread};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::Netns;

/// Runs a test inside a network namespace of its own, or says why it cannot.
pub fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::Uid::effective().is_root() {
        println!("SKIP network namespaces need root");
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI must run the tests that need root"
        );
        return;
    }
    let finished = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for the test");
        test();
    })
    .join();
    if let Err(panic) = finished {
        std::panic::resume_unwind(panic);
    }
}

/// A network namespace beside the test's own. It ends when it is dropped and nothing else holds it.
pub fn another_namespace() -> Netns {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Netns::current().unwrap()
    })
    .join()
    .unwrap()
}

/// Runs `ip` in the namespace of the thread and fails with what it said.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the tests need iproute2");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// As [`ip`], with its answer as JSON; an empty answer is an empty list.
pub fn ip_json(arguments: &str) -> Value {
    let text = ip(&format!("-j {arguments}"));
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
}
