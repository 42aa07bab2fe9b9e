//! The one part of a claim's CDI spec that Prepare cannot know for sure: the RDMA devices' character devices. Those of
//! soft-RoCE appear in ADD, and numbers are dealt anew whenever a driver makes its device again.
//!
//! DEL leaves them in the spec: no container is made of it before the pod's next ADD has named its own, and a rewrite has the
//! runtime read all its specs again.

use std::path::PathBuf;

use railhead_host::{DurableError, StateFileError, read_state_file, replace};
use railhead_plan::Layout;
use serde_json::{Value, json};
use thiserror::Error;

use crate::protocol::Code;

/// The connection manager's device, which every RDMA user needs beside its own.
const RDMA_CM: &str = "/dev/infiniband/rdma_cm";

/// What the paths of RDMA devices' own character devices begin with.
const UVERBS: &str = "/dev/infiniband/uverbs";

/// Why the spec was not read or rewritten.
#[derive(Debug, Error)]
pub(crate) enum CdiError {
    #[error("the CDI spec: {0}; the agent writes it when it prepares the claim")]
    Read(#[source] StateFileError),
    #[error("the CDI spec {path} is damaged: {detail}; delete the pod so that it is prepared again")]
    Damaged { path: PathBuf, detail: String },
    #[error("rewrite the CDI spec: {0}")]
    Write(#[source] DurableError),
}

impl CdiError {
    /// What the runtime is told.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Read(error) if error.is_absent() => Code::TryAgain,
            Self::Read(error) if !error.is_lasting() => Code::Io,
            Self::Read(_) | Self::Damaged { .. } => Code::Decode,
            Self::Write(_) => Code::Io,
        }
    }
}

/// A claim's spec.
struct Spec {
    path: PathBuf,
    content: Value,
}

/// Whether there is a spec that can be completed.
pub(crate) fn check(layout: &Layout, claim_uid: &str) -> Result<(), CdiError> {
    read(layout, claim_uid).map(drop)
}

fn read(layout: &Layout, claim_uid: &str) -> Result<Spec, CdiError> {
    let path = layout.cdi_spec(claim_uid);
    let bytes = read_state_file(&path).map_err(CdiError::Read)?;
    let damaged = |detail| CdiError::Damaged {
        path: path.clone(),
        detail,
    };
    let mut content = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if container_edits(&mut content).is_none() {
        return Err(damaged("it has no device with container edits".to_owned()));
    }
    Ok(Spec { path, content })
}

/// Names the character devices of this pod and no others. containerd reads the spec when it makes the first container,
/// after ADD. Without the module rdma_ucm there is no connection manager, and a runtime refuses devices that do not exist.
///
/// The spec is read here and not before the wiring: the claim may have been unprepared since, and its spec must not come back, or
/// prepared anew.
pub(crate) fn complete(layout: &Layout, claim_uid: &str, uverbs: &[String], has_rdma_cm: bool) -> Result<(), CdiError> {
    let Spec { path, mut content } = read(layout, claim_uid)?;
    let Some(edits) = container_edits(&mut content) else {
        return Ok(());
    };
    let before = edits.get("deviceNodes");
    let others = before.and_then(Value::as_array).into_iter().flatten().filter(|node| {
        let path = node["path"].as_str().unwrap_or_default();
        path != RDMA_CM && !path.starts_with(UVERBS)
    });
    let own = uverbs.iter().map(String::as_str).chain(has_rdma_cm.then_some(RDMA_CM));
    let nodes: Value = others.cloned().chain(own.map(|path| json!({ "path": path }))).collect();
    if before == Some(&nodes) {
        return Ok(());
    }
    edits.insert("deviceNodes".to_owned(), nodes);
    replace(&path, content.to_string().as_bytes(), 0o644).map_err(CdiError::Write)
}

/// The edits of the spec's only device.
fn container_edits(spec: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    let device = spec.get_mut("devices")?.get_mut(0)?.as_object_mut()?;
    device
        .entry("containerEdits")
        .or_insert_with(|| json!({}))
        .as_object_mut()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_spec_is_completed_and_written_only_if_it_says_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.cdi()).unwrap();
        let path = layout.cdi_spec("77aa");
        let spec = json!({
            "cdiVersion": "0.6.0", "kind": "railhead.dev/rail",
            "devices": [{"name": "77aa", "containerEdits": {"env": ["A=b"]}}]
        });
        fs::write(&path, spec.to_string()).unwrap();
        let uverbs = ["/dev/infiniband/uverbs3".to_owned()];
        complete(&layout, "77aa", &uverbs, true).unwrap();
        let completed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            completed["devices"][0]["containerEdits"],
            json!({"env": ["A=b"], "deviceNodes": [{"path": "/dev/infiniband/uverbs3"}, {"path": RDMA_CM}]})
        );
        let inode = fs::metadata(&path).unwrap().ino();
        complete(&layout, "77aa", &uverbs, true).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().ino(),
            inode,
            "the runtime would read it again"
        );
    }

    #[test]
    fn a_spec_of_a_claim_that_was_unprepared_meanwhile_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.cdi()).unwrap();
        let spec = json!({"devices": [{"name": "77aa"}]});
        fs::write(layout.cdi_spec("77aa"), spec.to_string()).unwrap();
        check(&layout, "77aa").unwrap();
        fs::remove_file(layout.cdi_spec("77aa")).unwrap();
        let error = complete(&layout, "77aa", &["/dev/infiniband/uverbs3".to_owned()], true).unwrap_err();
        assert_eq!(error.code(), Code::TryAgain);
        assert!(!layout.cdi_spec("77aa").exists());
    }

    #[test]
    fn devices_of_prepare_that_are_others_by_now_are_not_handed_out() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.cdi()).unwrap();
        let nodes = json!([{"path": "/dev/infiniband/uverbs7"}, {"path": RDMA_CM}, {"path": "/dev/of-somebody"}]);
        let spec = json!({"devices": [{"name": "77aa", "containerEdits": {"deviceNodes": nodes}}]});
        fs::write(layout.cdi_spec("77aa"), spec.to_string()).unwrap();
        complete(&layout, "77aa", &["/dev/infiniband/uverbs3".to_owned()], false).unwrap();
        let completed: Value = serde_json::from_slice(&fs::read(layout.cdi_spec("77aa")).unwrap()).unwrap();
        assert_eq!(
            completed["devices"][0]["containerEdits"]["deviceNodes"],
            json!([{"path": "/dev/of-somebody"}, {"path": "/dev/infiniband/uverbs3"}])
        );
    }
}
