//! The one part of a claim's CDI spec that Prepare cannot know for sure: the RDMA devices' character devices. Those of
//! soft-RoCE appear in ADD, and numbers are dealt anew whenever a driver makes its device again.

use std::path::PathBuf;

use railhead_host::{DurableError, StateFileError, read_state_file, replace};
use railhead_plan::Layout;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{journal::CdiOriginal, protocol::Code};

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
            Self::Read(error) if !error.is_foreign() => Code::Io,
            Self::Read(_) | Self::Damaged { .. } => Code::Decode,
            Self::Write(_) => Code::Io,
        }
    }
}

/// A claim's spec as it is before ADD.
pub(crate) struct ReadSpec {
    /// For the journal.
    pub(crate) original: CdiOriginal,
    spec: Value,
}

/// Reads what the spec says now.
pub(crate) fn original(layout: &Layout, claim_uid: &str) -> Result<ReadSpec, CdiError> {
    let mut spec = read(layout, claim_uid)?;
    let edits = container_edits(layout, claim_uid, &mut spec)?;
    let original = CdiOriginal {
        claim_uid: claim_uid.to_owned(),
        device_nodes: edits.get("deviceNodes").cloned(),
    };
    Ok(ReadSpec { original, spec })
}

/// Names the character devices of this pod and no others. containerd reads the spec when it makes the first container,
/// after ADD. Without the module rdma_ucm there is no connection manager, and a runtime refuses devices that do not exist.
pub(crate) fn complete(
    layout: &Layout,
    ReadSpec { original, spec }: &ReadSpec,
    uverbs: &[String],
    has_rdma_cm: bool,
) -> Result<(), CdiError> {
    let path = layout.cdi_spec(&original.claim_uid);
    // The claim may have been unprepared meanwhile, and its spec must not come back.
    if !path.exists() {
        return Err(CdiError::Read(StateFileError::Absent { path }));
    }
    let mut nodes = match &original.device_nodes {
        Some(Value::Array(nodes)) => nodes.clone(),
        _ => Vec::new(),
    };
    nodes.retain(|node| {
        let path = node["path"].as_str().unwrap_or_default();
        path != RDMA_CM && !path.starts_with(UVERBS)
    });
    let paths = uverbs.iter().map(String::as_str);
    nodes.extend(
        paths
            .chain(has_rdma_cm.then_some(RDMA_CM))
            .map(|path| json!({ "path": path })),
    );
    rewrite(layout, &original.claim_uid, spec.clone(), Some(nodes.into()))
}

/// Puts back what was there. A spec that is gone needs nothing.
pub(crate) fn restore(layout: &Layout, original: &CdiOriginal) -> Result<(), CdiError> {
    if !layout.cdi_spec(&original.claim_uid).exists() {
        return Ok(());
    }
    let spec = read(layout, &original.claim_uid)?;
    rewrite(layout, &original.claim_uid, spec, original.device_nodes.clone())
}

fn rewrite(layout: &Layout, claim_uid: &str, mut spec: Value, nodes: Option<Value>) -> Result<(), CdiError> {
    let edits = container_edits(layout, claim_uid, &mut spec)?;
    if edits.get("deviceNodes") == nodes.as_ref() {
        return Ok(());
    }
    match nodes {
        Some(nodes) => edits.insert("deviceNodes".to_owned(), nodes),
        None => edits.remove("deviceNodes"),
    };
    replace(&layout.cdi_spec(claim_uid), spec.to_string().as_bytes(), 0o644).map_err(CdiError::Write)
}

fn read(layout: &Layout, claim_uid: &str) -> Result<Value, CdiError> {
    let path = layout.cdi_spec(claim_uid);
    let bytes = read_state_file(&path).map_err(CdiError::Read)?;
    serde_json::from_slice(&bytes).map_err(|error| CdiError::Damaged {
        path,
        detail: error.to_string(),
    })
}

/// The edits of the spec's only device.
fn container_edits<'a>(
    layout: &Layout,
    claim_uid: &str,
    spec: &'a mut Value,
) -> Result<&'a mut serde_json::Map<String, Value>, CdiError> {
    let device = spec
        .get_mut("devices")
        .and_then(|devices| devices.get_mut(0))
        .and_then(Value::as_object_mut);
    device
        .map(|device| device.entry("containerEdits").or_insert_with(|| json!({})))
        .and_then(Value::as_object_mut)
        .ok_or_else(|| CdiError::Damaged {
            path: layout.cdi_spec(claim_uid),
            detail: "it has no device with container edits".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn completing_and_restoring_a_spec_leaves_it_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.cdi()).unwrap();
        let spec = json!({
            "cdiVersion": "0.6.0", "kind": "railhead.dev/rail",
            "devices": [{"name": "77aa", "containerEdits": {"env": ["A=b"]}}]
        });
        fs::write(layout.cdi_spec("77aa"), spec.to_string()).unwrap();
        let read = original(&layout, "77aa").unwrap();
        complete(&layout, &read, &["/dev/infiniband/uverbs3".to_owned()], true).unwrap();
        let completed: Value = serde_json::from_slice(&fs::read(layout.cdi_spec("77aa")).unwrap()).unwrap();
        assert_eq!(
            completed["devices"][0]["containerEdits"],
            json!({"env": ["A=b"], "deviceNodes": [{"path": "/dev/infiniband/uverbs3"}, {"path": RDMA_CM}]})
        );
        restore(&layout, &read.original).unwrap();
        let restored: Value = serde_json::from_slice(&fs::read(layout.cdi_spec("77aa")).unwrap()).unwrap();
        assert_eq!(restored, spec);
        fs::remove_file(layout.cdi_spec("77aa")).unwrap();
        restore(&layout, &read.original).unwrap();
        assert!(!layout.cdi_spec("77aa").exists());
    }

    #[test]
    fn a_spec_of_a_claim_that_was_unprepared_meanwhile_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.cdi()).unwrap();
        let spec = json!({"devices": [{"name": "77aa"}]});
        fs::write(layout.cdi_spec("77aa"), spec.to_string()).unwrap();
        let read = original(&layout, "77aa").unwrap();
        fs::remove_file(layout.cdi_spec("77aa")).unwrap();
        let error = complete(&layout, &read, &["/dev/infiniband/uverbs3".to_owned()], true).unwrap_err();
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
        let read = original(&layout, "77aa").unwrap();
        complete(&layout, &read, &["/dev/infiniband/uverbs3".to_owned()], false).unwrap();
        let completed: Value = serde_json::from_slice(&fs::read(layout.cdi_spec("77aa")).unwrap()).unwrap();
        assert_eq!(
            completed["devices"][0]["containerEdits"]["deviceNodes"],
            json!([{"path": "/dev/of-somebody"}, {"path": "/dev/infiniband/uverbs3"}])
        );
    }
}
