//! Nodes of fabrics that are not as they should be.

use std::collections::HashMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{NodeNetwork, PortHealth};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    lookup::{Conditions as _, Lookup, condition},
    output::{Cell, Page, age},
};

/// How many are shown without `-o wide`.
const SHOWN: usize = 20;

/// A node.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeLine {
    /// Its name.
    name: String,
    /// Its fabric.
    fabric: String,
    /// Why, in one word.
    reason: String,
    /// What is known of it.
    message: String,
    /// How long it has been so.
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<String>,
    /// Pods that are attached there.
    attached: u32,
}

pub(super) fn lines(lookup: &Lookup<'_>, of_interest: impl Fn(&str) -> bool) -> Vec<NodeLine> {
    let mut attached: HashMap<&str, u32> = HashMap::new();
    for attachment in &lookup.cluster.attachments {
        *attached.entry(&attachment.spec.node_name).or_default() += 1;
    }
    let mut nodes: Vec<&NodeNetwork> = lookup.cluster.node_networks.iter().collect();
    nodes.retain(|node| of_interest(&node.spec.fabric_name));
    nodes.sort_by_key(|node| &node.metadata.name);
    let line = |node: &&NodeNetwork| {
        let (reason, message, since) = trouble(lookup, node)?;
        let name = node.name_any();
        Some(NodeLine {
            attached: attached.get(&*name).copied().unwrap_or(0),
            name,
            fabric: node.spec.fabric_name.clone(),
            reason,
            message,
            age: since.map(|since| age(since, lookup.cluster.read_at)),
        })
    };
    nodes.iter().filter_map(line).collect()
}

/// Why a node is not ready, in a word and in a sentence, and since when.
pub(crate) fn trouble(lookup: &Lookup<'_>, node: &NodeNetwork) -> Option<(String, String, Option<Timestamp>)> {
    let name = node.name_any();
    if let Some(lost) = lookup.lost(&name) {
        return Some(("NodeLost".to_owned(), lost.to_string(), lost.since));
    }
    let Some(ready) = condition(node.conditions(), "Ready") else {
        let since = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let message = format!("no word from the agent of {name}: does its pod run?");
        return Some(("AgentNotReporting".to_owned(), message, since));
    };
    if ready.status != "True" {
        return Some((
            ready.reason.clone(),
            ready.message.clone(),
            Some(ready.last_transition_time.0),
        ));
    }
    let status = node.status.as_ref()?;
    let port = status.ports.iter().find(|port| port.state != PortHealth::Healthy)?;
    let why = port.message.as_deref().unwrap_or("no more is said");
    let message = format!("rail {} ({}): {why}", port.rail, port.netdev);
    Some((format!("{:?}", port.state), message, None))
}

pub(super) fn show(nodes: &[NodeLine], page: &mut Page) {
    if nodes.is_empty() {
        return;
    }
    page.gap();
    page.line(Cell::bold(format!("Nodes not ready {}", nodes.len())));
    let shown = if page.is_wide() { nodes.len() } else { SHOWN };
    for node in nodes.iter().take(shown) {
        let held = match node.attached {
            0 => String::new(),
            1 => "1 pod attached".to_owned(),
            attached => format!("{attached} pods attached"),
        };
        let age = node.age.clone().unwrap_or_default();
        page.row(
            2,
            [
                Cell::plain(&node.name),
                Cell::bad(&node.reason),
                Cell::plain(age),
                Cell::plain(held),
                Cell::plain(&node.message),
            ],
        );
    }
    super::more(page, nodes.len().saturating_sub(shown));
}
