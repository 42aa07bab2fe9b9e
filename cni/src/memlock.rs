//! The OCI hook that lets containers with rails lock memory: RDMA programs pin what they register, gigabytes of it, and a
//! container gets the limit of its runtime, often 64 KiB or 8 MiB.
//!
//! `railhead memlock-hook <pod uid>` is named in the CDI spec of a claim as a `createRuntime` hook, so a runtime starts it for
//! the containers that hold the claim's device and for no others. It gets the container's state on standard input
//! (opencontainers/runtime-spec, runtime.md, State) and runs after the container's first process exists and before that
//! starts its program. A limit that the container's own OCI configuration sets is set by runc after this and wins.

use std::{fs, io::Read};

use railhead_host::{memlock_limit, raise_memlock, replace};
use railhead_plan::Layout;
use serde::Deserialize;
use thiserror::Error;

/// A state is about one KiB, and as long as the annotations that Kubernetes takes at the most.
const STATE_LIMIT: u64 = 16 << 20;

/// Why nothing is known of the container.
#[derive(Debug, Error)]
enum StateError {
    #[error("read the container's state from standard input: {0}")]
    Read(#[source] std::io::Error),
    #[error("the container's state on standard input is not as the OCI runtime specification says: {0}")]
    State(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct State {
    id: String,
    pid: i32,
}

/// Raises the limit of the container whose state is on `stdin`. What goes wrong comes back in words, and into the pod's
/// folder, where the agent and the pod's own programs find it: a container that may lock little is still better than none.
pub fn memlock_hook(layout: &Layout, pod_uid: &str, stdin: &mut impl Read) -> Option<String> {
    // It becomes a path; whatever else calls itself a pod has no folder.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_uid = !pod_uid.is_empty() && pod_uid.bytes().all(plain);
    let note = is_uid.then(|| layout.memlock_note(pod_uid));
    match raise(stdin) {
        Ok(()) => {
            // An earlier container of this pod may have had less luck.
            if let Some(note) = note {
                let _ = fs::remove_file(note);
            }
            None
        }
        Err(error) => {
            if let Some(note) = note {
                // Without a folder the pod is not wired, and its containers do not start.
                let _ = replace(&note, format!("{error}\n").as_bytes(), 0o644);
            }
            Some(error)
        }
    }
}

fn raise(stdin: &mut impl Read) -> Result<(), String> {
    let state = read(stdin).map_err(|error| error.to_string())?;
    raise_memlock(state.pid).map_err(|error| {
        let now = match memlock_limit(state.pid).ok().and_then(|limit| limit.soft) {
            Some(bytes) => format!("it may lock {bytes} bytes"),
            None => "what it may lock is not known".to_owned(),
        };
        format!(
            "container {}: {error}; {now}, and registering more memory with RDMA fails. Give the container runtime's service LimitMEMLOCK=infinity, or the container CAP_IPC_LOCK",
            state.id
        )
    })
}

fn read(stdin: &mut impl Read) -> Result<State, StateError> {
    let mut bytes = Vec::new();
    stdin
        .take(STATE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(StateError::Read)?;
    serde_json::from_slice(&bytes).map_err(StateError::State)
}
