//! The OCI hook of containers with rails: `railhead container-hook <pod uid>`.
//!
//! It is named in the CDI spec of a claim as a `createRuntime` hook, so a runtime starts it for the containers that hold the
//! claim's device and for no others. It gets the container's state on standard input (opencontainers/runtime-spec, runtime.md,
//! State) and runs after the container's first process exists and before that starts its program.
//!
//! It lets the container lock memory: RDMA programs pin what they register, gigabytes of it, and a container gets the limit of
//! its runtime, often 64 KiB or 8 MiB. A limit that the container's own OCI configuration sets is set by runc after this and
//! wins. And it looks whether the RDMA devices that the spec hands out are still the pod's: a driver that is reset under a
//! running pod makes its devices anew, and the numbers of their character devices are dealt again. And it notes where Railhead's
//! `nccl.conf` hides one of the image.

mod hidden_nccl;

use std::{collections::BTreeMap, fs, io::Read, path::PathBuf};

use railhead_host::{Sysfs, memlock_limit, raise_memlock, replace};
use railhead_plan::{AttachmentRecord, Layout, parser_says};
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
    State(String),
}

#[derive(Deserialize)]
struct State {
    id: String,
    pid: i32,
    bundle: Option<PathBuf>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Readies the container whose state is on `stdin`. An error is why it must not start.
///
/// A limit that could not be raised is no error: a container that may lock little is still better than none. Why comes back in
/// words, and into the pod's folder, where the agent and the pod's own programs find it.
pub fn container_hook(layout: &Layout, pod_uid: &str, stdin: &mut impl Read) -> Result<Option<String>, String> {
    // It becomes a path; whatever else calls itself a pod has no folder.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_uid = !pod_uid.is_empty() && pod_uid.bytes().all(plain);
    if is_uid && let Some(foreign) = foreign_device(layout, pod_uid) {
        return Err(foreign);
    }
    let state = read(stdin);
    if is_uid && let Ok(state) = &state {
        hidden_nccl::note(layout, pod_uid, state);
    }
    let note = is_uid.then(|| layout.memlock_note(pod_uid));
    match state.map_err(|error| error.to_string()).and_then(|state| raise(&state)) {
        Ok(()) => {
            // An earlier container of this pod may have had less luck.
            if let Some(note) = note {
                let _ = fs::remove_file(note);
            }
            Ok(None)
        }
        Err(error) => {
            if let Some(note) = note {
                // Without a folder the pod is not wired, and its containers do not start.
                let _ = replace(&note, format!("{error}\n").as_bytes(), 0o644);
            }
            Ok(Some(error))
        }
    }
}

/// The first device of the record whose character device may be another pod's by now. Nothing is concluded from what cannot
/// be read.
fn foreign_device(layout: &Layout, pod_uid: &str) -> Option<String> {
    let record: AttachmentRecord = railhead_store::read(&layout.record(pod_uid)).ok()?;
    let sysfs = Sysfs::new(layout.sysfs());
    record.rails.iter().find_map(|rail| {
        let rdma = rail.rdma.as_ref()?;
        let uverbs = sysfs.uverbs(rdma.device.as_str()).ok()?;
        let is_own = match sysfs.function_of_rdma_device(rdma.device.as_str()).ok()? {
            Some(function) => function == rail.vf,
            // A soft device; so the VF has none of its own.
            None => sysfs.rdma_devices(&rail.vf).ok()?.is_empty(),
        };
        (uverbs.as_ref() != Some(&rdma.uverbs) || !is_own).then(|| {
            format!(
                "rail {}: {} is not the character device of the pod's RDMA device {} any more, and may be another pod's; delete the pod so that it is wired again",
                rail.name, rdma.uverbs, rdma.device
            )
        })
    })
}

fn raise(state: &State) -> Result<(), String> {
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
    serde_json::from_slice(&bytes).map_err(|error| StateError::State(parser_says(&error)))
}
