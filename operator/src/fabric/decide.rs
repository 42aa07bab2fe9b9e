//! What a fabric's status says. Pure.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{Fabric, FabricStatus, NodeNetwork, PoolStatus, PortHealth, reasons::Reason};
use railhead_planner::{
    ledger::Usage,
    pools::{EditConflict, Laid},
};

use super::{nodes::Elsewhere, pools};
use crate::{
    conditions::{self, Said, Word},
    network::listed,
};

/// What was observed.
pub(super) struct Seen<'a> {
    pub(super) fabric: &'a Fabric,
    pub(super) laid: &'a Laid,
    pub(super) conflicts: &'a [EditConflict],
    pub(super) usage: Usage,
    /// Whether another fabric has the same VLANs.
    pub(super) vlans_shared: Said,
    /// Of the nodes that the fabric selects.
    pub(super) nodes: &'a [Arc<NodeNetwork>],
    pub(super) elsewhere: &'a [Elsewhere],
    /// Nodes that it selects no more, and what they wait for.
    pub(super) leaving: &'a [String],
    /// Whether its ledger is older than what nodes have.
    pub(super) restored: Said,
    /// Whether the cluster's definitions are those of this release.
    pub(super) schemas: Said,
    /// Whether it is the default one.
    pub(super) default: Said,
}

/// Why a node is not ready.
struct Missing {
    reason: Word,
    message: String,
}

pub(super) fn status(seen: &Seen<'_>, now: Timestamp) -> FabricStatus {
    let fabric = seen.fabric;
    let mut nodes: Vec<&NodeNetwork> = seen.nodes.iter().map(|node| &**node).collect();
    nodes.sort_unstable_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut missing: Vec<Missing> = nodes.iter().filter_map(|node| not_ready(fabric, node)).collect();
    let ready = nodes.len() - missing.len();
    missing.extend(seen.elsewhere.iter().map(|other| Missing {
        reason: Reason::NodeOfOtherFabric.into(),
        message: format!("{} belongs to Fabric {}", other.node, other.fabric),
    }));
    let selected = nodes.len() + seen.elsewhere.len();
    let pools = pools::healthy(seen.laid);
    let conflicts = pools::conflicts(seen.conflicts);
    let nodes_text = format!("{ready}/{selected}");
    let mut nodes_ready = nodes_ready(fabric, ready, selected, &missing);
    if !seen.leaving.is_empty() {
        let leaving = listed(seen.leaving);
        let message = nodes_ready.message;
        nodes_ready.message = format!("{message}; selected no more, and not as before yet: {leaving}");
    }
    let before = fabric.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let said = vec![
        overall(seen, &pools, &conflicts, &nodes_ready, ready),
        nodes_ready,
        pools,
        conflicts,
        seen.vlans_shared.clone(),
        seen.restored.clone(),
        seen.schemas.clone(),
        seen.default.clone(),
    ];
    FabricStatus {
        observed_generation: fabric.metadata.generation,
        nodes: Some(nodes_text),
        rails: i32::try_from(fabric.spec.rails.len()).ok(),
        ipv4_used: Some(format!("{}%", seen.usage.used_percent)),
        vlans_free: i32::try_from(seen.usage.vlans_free).ok(),
        pools: pools_of(fabric, seen.usage),
        conditions: conditions::merge(before, said, fabric.metadata.generation, now),
    }
}

fn overall(seen: &Seen<'_>, pools: &Said, conflicts: &Said, nodes: &Said, ready: usize) -> Said {
    if seen.restored.status {
        return Said::no("Ready", Reason::LedgerRestored, seen.restored.message.clone());
    }
    if !seen.schemas.status {
        return Said::no("Ready", seen.schemas.reason.clone(), seen.schemas.message.clone());
    }
    if !seen.laid.is_usable() && !pools.status {
        return Said::no("Ready", pools.reason.clone(), pools.message.clone());
    }
    // What is wrong with some of it is worth a look, and no reason not to use the rest.
    let wrong = [(!pools.status, pools), (conflicts.status, conflicts)];
    let wrong = wrong.into_iter().find(|(wrong, _)| *wrong);
    if let Some((_, wrong)) = wrong.filter(|_| nodes.status) {
        let reason = if wrong.type_ == "EditConflict" {
            Reason::EditConflict.into()
        } else {
            wrong.reason.clone()
        };
        return Said::yes("Ready", reason, wrong.message.clone());
    }
    // Networks can run on the nodes that are ready, whatever the others lack.
    if nodes.status || ready == 0 {
        return Said {
            type_: "Ready",
            ..nodes.clone()
        };
    }
    Said::yes("Ready", Reason::SomeNodesNotReady, nodes.message.clone())
}

fn nodes_ready(fabric: &Fabric, ready: usize, selected: usize, missing: &[Missing]) -> Said {
    let Some(first) = missing.first() else {
        if selected > 0 {
            return Said::yes(
                "NodesReady",
                Reason::AllReady,
                format!("{ready}/{selected} nodes have all ports"),
            );
        }
        let labels = fabric.spec.node_selector.as_ref().map(|selector| {
            let labels: Vec<String> = selector
                .match_labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            labels.join(",")
        });
        let message = match labels.filter(|labels| !labels.is_empty()) {
            Some(labels) => format!("no node carries the labels of spec.nodeSelector: {labels}"),
            None => "the cluster has no node".to_owned(),
        };
        return Said::no("NodesReady", Reason::NoNodes, message);
    };
    let messages: Vec<String> = missing.iter().map(|missing| missing.message.clone()).collect();
    let message = format!("{ready}/{selected} nodes have all ports; {}", listed(&messages));
    // The gravest first: a port that is nowhere is a mistake in the fabric, an agent that has not reported may still come.
    let reason = missing
        .iter()
        .find(|missing| missing.reason == Reason::PortMissing)
        .unwrap_or(first);
    Said::no("NodesReady", reason.reason.clone(), message)
}

fn not_ready(fabric: &Fabric, node: &NodeNetwork) -> Option<Missing> {
    let name = node.name_any();
    let unfit: Vec<String> = fabric
        .spec
        .rails
        .iter()
        .filter(|rail| node.spec.rails.iter().all(|wanted| wanted.id != rail.id))
        .map(|rail| format!("{name} has no {}: no entry of its ports fits the node", rail.name))
        .collect();
    if !unfit.is_empty() {
        return Some(Missing {
            reason: Reason::PortMissing.into(),
            message: unfit.join(", "),
        });
    }
    let Some(status) = node
        .status
        .as_ref()
        .filter(|status| !status.conditions.is_empty() || !status.ports.is_empty())
    else {
        return Some(Missing {
            reason: Reason::AgentNotReporting.into(),
            message: format!("no word from the agent of {name} (does its pod run?)"),
        });
    };
    let absent: Vec<String> = node
        .spec
        .rails
        .iter()
        .filter(|rail| status.ports.iter().all(|port| port.rail != rail.id))
        .map(|rail| {
            let port = rail.pci_address.as_deref().or(rail.netdev.as_deref());
            format!("{name} has no {} ({})", rail.name, port.unwrap_or("unnamed"))
        })
        .collect();
    if !absent.is_empty() {
        return Some(Missing {
            reason: Reason::PortMissing.into(),
            message: format!("{}: correct the rail's ports or look at the node", absent.join(", ")),
        });
    }
    let unhealthy = status
        .ports
        .iter()
        .find_map(|port| Some((port, wrong_with(port.state)?)));
    if let Some((port, reason)) = unhealthy {
        let why = port.message.as_deref().unwrap_or(reason.name());
        return Some(Missing {
            reason: reason.into(),
            message: format!("{name} rail {} ({}): {why}", port.rail, port.netdev),
        });
    }
    match conditions::find(&status.conditions, "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(Missing {
            reason: ready.into(),
            message: format!("{name}: {}", ready.message),
        }),
        None => Some(Missing {
            reason: Reason::AgentNotReporting.into(),
            message: format!("no word from the agent of {name} whether it is ready"),
        }),
    }
}

fn wrong_with(port: PortHealth) -> Option<Reason> {
    match port {
        PortHealth::Healthy => None,
        PortHealth::Down => Some(Reason::PortDown),
        PortHealth::Slow => Some(Reason::PortSlow),
        PortHealth::NoVfs => Some(Reason::NoVfs),
        PortHealth::SmallMtu => Some(Reason::MtuTooSmall),
        PortHealth::NoRdma => Some(Reason::NoRdma),
        PortHealth::VfsUnusable => Some(Reason::VfsUnusable),
        PortHealth::ForeignOwner => Some(Reason::ForeignOwner),
        PortHealth::Switchdev => Some(Reason::Switchdev),
        PortHealth::DpuManaged => Some(Reason::DpuManaged),
        PortHealth::RdmaExclusive => Some(Reason::RdmaExclusive),
    }
}

fn pools_of(fabric: &Fabric, usage: Usage) -> Vec<PoolStatus> {
    let mut rails: Vec<u32> = fabric.spec.rails.iter().map(|rail| rail.id).collect();
    rails.sort_unstable();
    rails
        .into_iter()
        .map(|rail| PoolStatus {
            rail,
            used: format!("{}%", usage.used_percent),
            largest_free: usage
                .largest_free
                .filter(|slots| *slots > 0)
                .map(|slots| format!("/{}", 32 - slots.ilog2())),
        })
        .collect()
}

#[cfg(test)]
mod tests;
