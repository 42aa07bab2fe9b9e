//! A namespace of its own for each test.

use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs a test where the thread's namespace stands for a host, or says why it cannot.
pub(crate) fn on_a_host(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::Uid::effective().is_root() {
        println!("SKIP network namespaces need root");
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI must run the tests that need root"
        );
        return;
    }
    let finished = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for the test");
        test();
    })
    .join();
    if let Err(panic) = finished {
        std::panic::resume_unwind(panic);
    }
}
