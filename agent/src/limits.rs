//! How long the agent waits for what, in one place: the numbers hang together.
//!
//! kubelet hangs up on a claim after 45 s and comes back after 60 to 90 s, so [`PREPARE`] and [`TURN`] stay below that; what
//! is waited for inside of a Prepare stays below [`PREPARE`].

use std::time::Duration;

/// How long Prepare waits for what may clear up by itself.
pub(crate) const PREPARE: Duration = Duration::from_secs(35);
/// How long a call waits for an earlier one of the same claim.
pub(crate) const TURN: Duration = Duration::from_secs(20);
/// How often a slice that is being reserved is looked for.
pub(crate) const SLICE_POLL: Duration = Duration::from_millis(500);
/// How often a held index is looked at.
pub(crate) const INDEX_POLL: Duration = Duration::from_secs(1);

/// How long another agent, or the garbage collector, may be at work on the same claim.
pub(crate) const CLAIM_LOCK: Duration = Duration::from_secs(30);
/// How long somebody else may choose functions or give them back.
pub(crate) const NODE_LOCK: Duration = Duration::from_secs(10);
/// How long a CNI operation of another sandbox may hold a function.
pub(crate) const FUNCTION_LOCK: Duration = Duration::from_secs(15);
/// How long DEL may take.
pub(crate) const DEL: Duration = Duration::from_secs(30);

/// How often the garbage collector looks.
pub(crate) const COLLECT: Duration = Duration::from_mins(1);
/// How long a pod has to be gone before it is collected.
pub(crate) const GONE: Duration = Duration::from_secs(55);
/// How often lost sandboxes are looked for without being told to.
pub(crate) const LOST_SANDBOXES: Duration = Duration::from_mins(1);
/// How long to wait before a watch of a folder that failed is set up again.
pub(crate) const WATCH_AGAIN: Duration = Duration::from_secs(30);
