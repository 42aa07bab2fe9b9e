//! Nodes without a machine, and what their agents do with attachments: an index is taken, the slice looked at once more, and only
//! then the pod is wired; it is given back in the reverse order.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::api::Api;
use crate::control_plane::cluster::SYSTEM;

const UNWIRED: &str = "railhead.dev/unwired";

/// A node, and its agent's identity.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: Arc<str>,
    pub(super) agent: Api,
}

/// A pod that is wired.
#[derive(Clone, Debug)]
pub(super) struct Wired {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Name and UID of the attachment.
    attachment: (String, String),
    node: usize,
}

impl Node {
    /// Adds it to the cluster. Nobody gives it heartbeats: its pods are not evicted for that by anybody who would matter here.
    pub(super) fn add(admin: &mut Api, gate: SocketAddr, name: &str) -> Result<Self> {
        admin
            .post(
                "/api/v1/nodes",
                &json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                    "spec": {"unschedulable": true},
                }),
            )?
            .ok()?;
        let pod = format!("agent-of-{name}");
        admin
            .post(
                &format!("/api/v1/namespaces/{SYSTEM}/pods"),
                &json!({
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod},
                    "spec": {
                        "nodeName": name, "serviceAccountName": "railhead-agent",
                        // A node that says nothing counts as unreachable, and this pod has to stay for its token.
                        "tolerations": [{"operator": "Exists"}],
                        "containers": [{"name": "agent", "image": "agent"}],
                    },
                }),
            )?
            .ok()?;
        let token = admin
            .post(
                &format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/railhead-agent/token"),
                &json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                    "spec": {"expirationSeconds": 86400, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod}},
                }),
            )?
            .ok()?;
        let token = token["status"]["token"].as_str().context("no token")?;
        Ok(Self {
            name: name.into(),
            agent: Api::new(gate, token),
        })
    }
}

pub(super) fn attachments(namespace: &str) -> String {
    format!("/apis/railhead.dev/v1alpha1/namespaces/{namespace}/networkattachments")
}

/// What an agent does in Prepare and what follows. `None` where the pod gets nothing, as its agent would tell it.
pub(super) fn attach(
    nodes: &mut [Node],
    node: usize,
    (namespace, network): (&str, &Value),
    (pod, pod_uid): (&str, &str),
    index: u64,
) -> Result<Option<Wired>> {
    let Node { name, agent } = &mut nodes[node];
    let Some(slice_name) = network["status"]["sliceName"].as_str() else {
        return Ok(None);
    };
    let slice_path = format!("/apis/railhead.dev/v1alpha1/namespaces/{namespace}/networkslices/{slice_name}");
    let slice = agent.get(&slice_path)?;
    let stands = slice.is_ok()
        && slice.body["metadata"]["deletionTimestamp"].is_null()
        && slice.body["spec"]["network"]["uid"] == network["metadata"]["uid"];
    if !stands {
        return Ok(None);
    }
    let attachment = format!("{slice_name}-{index}");
    let created = agent.post(
        &attachments(namespace),
        &json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
            "metadata": {
                "name": attachment, "finalizers": [UNWIRED],
                "labels": {
                    "railhead.dev/slice": slice_name, "railhead.dev/node": &**name,
                    "railhead.dev/network": network["metadata"]["name"],
                },
            },
            "spec": {
                "sliceName": slice_name, "index": index, "podName": pod, "podUID": pod_uid,
                "claimUID": "00000000-0000-4000-8000-000000000002", "nodeName": &**name,
            },
        }),
    )?;
    if !created.is_ok() {
        return Ok(None);
    }
    let uid = created.body["metadata"]["uid"].as_str().context("no UID")?.to_owned();
    let wired = Wired {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        attachment: (attachment.clone(), uid),
        node,
    };
    // The handshake with whoever deletes the slice: one of the two sees the other.
    let again = agent.get(&slice_path)?;
    let stands = again.is_ok()
        && again.body["metadata"]["deletionTimestamp"].is_null()
        && again.body["metadata"]["uid"] == slice.body["metadata"]["uid"];
    if !stands {
        detach(nodes, &wired)?;
        return Ok(None);
    }
    let now = OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?;
    let status = json!({
        "metadata": {"uid": wired.attachment.1},
        "status": {"summary": "2/2", "conditions": [
            {"type": "Wired", "status": "True", "reason": "Wired", "message": "simulated", "lastTransitionTime": now},
        ]},
    });
    let path = format!("{}/{attachment}/status", attachments(namespace));
    agent.merge(&path, &status)?;
    Ok(Some(wired))
}

/// The node has unwired the pod.
pub(super) fn detach(nodes: &mut [Node], wired: &Wired) -> Result<()> {
    let agent = &mut nodes[wired.node].agent;
    let (name, uid) = &wired.attachment;
    let path = format!("{}/{name}", attachments(&wired.namespace));
    let marked = agent.delete(&path, &json!({"preconditions": {"uid": uid}}))?;
    if marked.is_ok() && marked.body["kind"] == "NetworkAttachment" {
        agent.merge(&path, &json!({"metadata": {"uid": uid, "finalizers": null}}))?;
    }
    Ok(())
}
