//! How long the agent waits for what, in one place: the numbers hang together.
//!
//! kubelet hangs up on a claim after 45 s and comes back after 60 to 90 s. So a Prepare goes on until [`PREPARE`] with all that
//! it waits for, one that is stuck in the kernel is answered for at [`KUBELET`], and a single request may be tried again within
//! that time.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// How long an answer of the API server may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How long kubelet waits for an answer about a claim. The work goes on after it, and the next call finds what it made.
pub(crate) const KUBELET: Duration = Duration::from_secs(40);
/// How long Prepare tries what may clear up by itself.
pub(crate) const PREPARE: Duration = Duration::from_secs(35);
/// How soon Prepare tries again what did not succeed, and how late at most.
pub(crate) const PREPARE_AGAIN: Duration = Duration::from_millis(200);
pub(crate) const PREPARE_AGAIN_AT_MOST: Duration = Duration::from_secs(3);
/// How long a call waits for an earlier one of the same claim.
pub(crate) const TURN: Duration = Duration::from_secs(20);
/// How often a slice that is being reserved is looked for.
pub(crate) const SLICE_POLL: Duration = Duration::from_millis(500);
/// How often indices are looked at when all are held, or one that cannot be watched.
pub(crate) const INDEX_POLL: Duration = Duration::from_secs(2);
/// How long to wait when another node was faster with an index.
pub(crate) const INDEX_TAKEN: Duration = Duration::from_millis(50);

/// How long another agent, or the garbage collector, may be at work on the same claim.
pub(crate) const CLAIM_LOCK: Duration = Duration::from_secs(30);
/// How long a CNI operation of another sandbox may hold a function.
pub(crate) const FUNCTION_LOCK: Duration = Duration::from_secs(15);
/// How long DEL may take.
pub(crate) const DEL: Duration = Duration::from_secs(30);

/// How long a pass of the ports' loop may take: the functions of eight ports may have to be made, 20 s each, and the runtime
/// asked.
pub(crate) const PORTS_PASS: Duration = Duration::from_mins(10);
/// How long the report of one attachment may take: a few requests.
pub(crate) const REPORT_PASS: Duration = Duration::from_mins(5);
/// How long the collector, or the one of lost sandboxes, may be at one claim: DEL, functions that come home, requests.
pub(crate) const COLLECT_PASS: Duration = Duration::from_mins(10);

/// How long the comparison of one sandbox with its record may take, and the pause until the next round.
pub(crate) const DRIFT_PASS: Duration = Duration::from_mins(5);

/// How often the garbage collector looks.
pub(crate) const COLLECT: Duration = Duration::from_mins(1);
/// How long a pod has to be gone before it is collected.
pub(crate) const GONE: Duration = Duration::from_secs(55);
/// How often lost sandboxes are looked for without being told to.
pub(crate) const LOST_SANDBOXES: Duration = Duration::from_mins(1);
/// How long to wait before a watch of a folder that failed is set up again.
pub(crate) const WATCH_AGAIN: Duration = Duration::from_secs(30);

/// Between half of `pause` and one and a half of it: what many nodes wait for does not end for all of them at once.
pub(crate) fn jitter(pause: Duration) -> Duration {
    // The hasher's keys are random, and that is all that is needed here.
    let random = RandomState::new().hash_one(0_u8) % 1024;
    pause / 2 + pause.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
}
