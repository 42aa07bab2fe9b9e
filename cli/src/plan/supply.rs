//! For how many pods the ports of a fabric have room: as the scheduler counts, with nodes more or less than there are.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use railhead_crds::{Bandwidth, Fabric, names};
use railhead_planner::{
    bandwidth::{self, PortBandwidth},
    network::Resolved,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::WhatIf;
use crate::{
    cluster::{Cluster, Node, ReadError, key},
    output::Page,
};

/// The ports of a fabric, those of a node one after the other.
#[derive(Clone, Debug)]
pub(super) struct Supply {
    ports: Vec<PortBandwidth>,
    /// The ports of most nodes: rail, speed and functions.
    typical: Vec<Shape>,
    nodes: usize,
    added: u32,
    left_out: LeftOut,
}

type Shape = (u32, Bandwidth, u32);

/// What is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeftOut {
    /// Nodes that are not Ready, cordoned or gone.
    not_ready: usize,
    /// Nodes of leaves that are left out.
    of_leaves: usize,
    /// Pods that are attached there.
    attached_there: usize,
}

/// For how many pods of a network there is room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Room {
    /// Pods that need room: those that are not attached.
    asked: u64,
    /// Pods that are attached already.
    attached: u32,
    /// For how many there is room.
    pub(super) fits: u64,
    /// Nodes that are counted, and how many of them are added.
    nodes: usize,
    added: u32,
    /// Nodes on which at least one has room.
    fitting_nodes: usize,
    /// By rail: for how many pods it alone has room. Where no pod has any on a node, that is because of the smallest of these.
    by_rail: BTreeMap<String, u64>,
    left_out: LeftOut,
}

impl Supply {
    pub(super) fn of(cluster: &Cluster, what_if: &WhatIf, fabric: &Fabric) -> Result<Self, ReadError> {
        let name = key(&fabric.metadata).1;
        let rails = without_rails(what_if, fabric)?;
        let is_counted = |port: &PortBandwidth| &*port.fabric == name && !rails.contains(&port.rail);
        let published = || cluster.ports.iter().map(|ports| &ports.of_node);
        let held = cluster.claims.iter().filter_map(|claim| claim.held.as_ref());
        let mut ports = bandwidth::free(published(), held);
        ports.retain(is_counted);
        let mut whole = bandwidth::free(published(), []);
        whole.retain(is_counted);
        let taints = tainted(cluster);
        for port in &mut ports {
            if taints.contains(&(&*port.node, port.rail)) {
                port.vfs_free = 0;
            }
        }
        let mut supply = Self {
            typical: typical(&whole),
            nodes: 0,
            added: 0,
            left_out: LeftOut::default(),
            ports,
        };
        supply.leave_out(cluster, what_if)?;
        supply.nodes = supply.ports.chunk_by(|a, b| a.node == b.node).count();
        supply.add(what_if, fabric, &rails)?;
        Ok(supply)
    }

    fn leave_out(&mut self, cluster: &Cluster, what_if: &WhatIf) -> Result<(), ReadError> {
        let nodes: HashMap<&str, &Node> = cluster.nodes.iter().map(|node| (key(&node.metadata).1, node)).collect();
        let leaf = |node: &Node| node.metadata.labels.as_ref()?.get(&what_if.leaf_label).cloned();
        let known: HashSet<String> = cluster.nodes.iter().filter_map(leaf).collect();
        if let Some(unknown) = what_if.without_leaf.iter().find(|leaf| !known.contains(*leaf)) {
            let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
            known.sort_unstable();
            let label = &what_if.leaf_label;
            return Err(ReadError::Usage(if known.is_empty() {
                format!(
                    "no Node has the label {label}, which names its leaf: label the Nodes, or name another label with --leaf-label"
                )
            } else {
                format!("no Node has {label}={unknown}; there is {}", known.join(", "))
            }));
        }
        let is_of_leaf = |node: &Node| leaf(node).is_some_and(|leaf| what_if.without_leaf.contains(&leaf));
        let is_ready =
            |node: &Node| !node.spec.unschedulable && !node.is_out_of_service() && node.not_ready().is_none();
        let (mut of_leaves, mut not_ready) = (HashSet::new(), HashSet::new());
        for port in &self.ports {
            let node = nodes.get(&*port.node);
            if node.is_some_and(|node| is_of_leaf(node)) {
                of_leaves.insert(Arc::clone(&port.node));
            } else if node.map_or(!nodes.is_empty(), |node| !is_ready(node)) {
                not_ready.insert(Arc::clone(&port.node));
            }
        }
        self.ports
            .retain(|port| !of_leaves.contains(&port.node) && !not_ready.contains(&port.node));
        let attached = cluster.attachments.iter();
        let attached_there = attached.filter(|attachment| of_leaves.contains(attachment.spec.node_name.as_str()));
        self.left_out = LeftOut {
            not_ready: not_ready.len(),
            attached_there: attached_there.count(),
            of_leaves: of_leaves.len(),
        };
        Ok(())
    }

    /// The nodes that are added, or described.
    fn add(&mut self, what_if: &WhatIf, fabric: &Fabric, without: &HashSet<u32>) -> Result<(), ReadError> {
        let Some(text) = &what_if.nodes else { return Ok(()) };
        let (digits, adds) = text
            .strip_prefix('+')
            .map_or((text.as_str(), false), |digits| (digits, true));
        let count: u32 =
            digits.parse().ok().filter(|count| *count <= 100_000).ok_or_else(|| {
                ReadError::Usage(format!("--nodes {text}: write +64 for 64 nodes more, at most 100,000"))
            })?;
        let name = key(&fabric.metadata).1;
        if !adds && self.nodes > 0 {
            return Err(ReadError::Usage(format!(
                "--nodes {text}: Fabric {name} has {} nodes already; write +{text} for so many more",
                self.nodes
            )));
        }
        if self.typical.is_empty() {
            self.typical = described(fabric, without)?;
        }
        self.more(name, count);
        self.added = count;
        Ok(())
    }

    /// With so many nodes more, such as most are.
    pub(super) fn with_more(&self, fabric: &str, count: u32) -> Self {
        let mut supply = self.clone();
        supply.more(fabric, count);
        supply
    }

    fn more(&mut self, fabric: &str, count: u32) {
        let fabric: Arc<str> = fabric.into();
        let first = self.nodes;
        for number in 0..count {
            let node: Arc<str> = format!("added {}", first + usize::try_from(number).unwrap_or(usize::MAX)).into();
            for (rail, capacity, vfs) in &self.typical {
                self.ports.push(PortBandwidth {
                    node: Arc::clone(&node),
                    rail: *rail,
                    fabric: Arc::clone(&fabric),
                    capacity: *capacity,
                    used: Bandwidth::from_mbps(0),
                    vfs_free: *vfs,
                });
            }
        }
        self.nodes += usize::try_from(count).unwrap_or(usize::MAX);
    }

    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many pods have room on the ports of these rails.
    pub(super) fn fits(&self, rails: &[u32], asked: Bandwidth, per_node: Option<u32>) -> u64 {
        let nodes = self.ports.chunk_by(|a, b| a.node == b.node);
        nodes.map(|node| u64::from(on_node(node, rails, asked, per_node))).sum()
    }

    pub(super) fn room(&self, resolved: &Resolved, attached: u32, per_node: Option<u32>) -> Room {
        let rails = ids(resolved);
        let on = |rails: &[u32]| self.fits(rails, resolved.guaranteed, per_node);
        let nodes = self.ports.chunk_by(|a, b| a.node == b.node);
        let with_room = nodes.filter(|node| on_node(node, &rails, resolved.guaranteed, per_node) > 0);
        Room {
            asked: 0,
            attached,
            fits: on(&rails),
            nodes: self.nodes,
            added: self.added,
            fitting_nodes: with_room.count(),
            by_rail: resolved
                .rails
                .iter()
                .map(|rail| (rail.name.clone(), on(&[rail.id])))
                .collect(),
            left_out: self.left_out.clone(),
        }
    }

    /// So many pods are on their ports: node by node, as far as there is room.
    pub(super) fn take(&mut self, resolved: &Resolved, pods: u64, per_node: Option<u32>) {
        let rails = ids(resolved);
        let mut left = pods;
        for node in self.ports.chunk_by_mut(|a, b| a.node == b.node) {
            let here = on_node(node, &rails, resolved.guaranteed, per_node);
            let here = here.min(u32::try_from(left).unwrap_or(u32::MAX));
            left -= u64::from(here);
            for port in node.iter_mut().filter(|port| rails.contains(&port.rail)) {
                let mbps = resolved.guaranteed.mbps().saturating_mul(u64::from(here));
                port.used = Bandwidth::from_mbps(port.used.mbps().saturating_add(mbps));
                port.vfs_free = port.vfs_free.saturating_sub(here);
            }
            if left == 0 {
                return;
            }
        }
    }
}

pub(super) fn ids(resolved: &Resolved) -> Vec<u32> {
    resolved.rails.iter().map(|rail| rail.id).collect()
}

/// How many pods have room on all these rails of a node.
fn on_node(ports: &[PortBandwidth], rails: &[u32], asked: Bandwidth, per_node: Option<u32>) -> u32 {
    let of_rail = |rail: &u32| {
        let ports = ports.iter().filter(|port| port.rail == *rail);
        ports.map(|port| on_port(port, asked)).sum::<u32>()
    };
    let room = rails.iter().map(of_rail).min().unwrap_or(0);
    per_node.map_or(room, |most| room.min(most))
}

fn on_port(port: &PortBandwidth, asked: Bandwidth) -> u32 {
    let shares = port.free().mbps().checked_div(asked.mbps()).unwrap_or(u64::MAX);
    port.vfs_free.min(u32::try_from(shares).unwrap_or(u32::MAX))
}

/// Ports that the scheduler gives to nobody.
fn tainted(cluster: &Cluster) -> HashSet<(&str, u32)> {
    let closed = |taints: &[(String, String)]| taints.iter().any(|(_, effect)| effect != "None");
    let mut tainted = HashSet::new();
    for ports in &cluster.ports {
        for (device, _) in ports.taints.iter().filter(|(_, taints)| closed(taints)) {
            let rail = (0..64).find(|rail| names::rail_device(*rail) == **device);
            tainted.extend(rail.map(|rail| (ports.node.as_str(), rail)));
        }
    }
    tainted
}

/// The ports that most nodes have.
fn typical(ports: &[PortBandwidth]) -> Vec<Shape> {
    let mut shapes: BTreeMap<Vec<Shape>, usize> = BTreeMap::new();
    for node in ports.chunk_by(|a, b| a.node == b.node) {
        let shape = node.iter().map(|port| (port.rail, port.capacity, port.vfs_free));
        *shapes.entry(shape.collect()).or_default() += 1;
    }
    let most = shapes.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(Vec::new, |(shape, _)| shape)
}

/// Ports as a Fabric describes them.
fn described(fabric: &Fabric, without: &HashSet<u32>) -> Result<Vec<Shape>, ReadError> {
    let rails = fabric.spec.rails.iter().filter(|rail| !without.contains(&rail.id));
    let shape = rails.map(|rail| {
        let speed = rail.speed.ok_or_else(|| {
            ReadError::Usage(format!(
                "Fabric {} has no nodes, and its {} says no speed, by which they could be described: write spec.rails[].speed",
                key(&fabric.metadata).1,
                rail.name
            ))
        });
        Ok((rail.id, speed?, fabric.spec.vfs_per_port))
    });
    shape.collect()
}

fn without_rails(what_if: &WhatIf, fabric: &Fabric) -> Result<HashSet<u32>, ReadError> {
    let mut ids = HashSet::new();
    for wanted in &what_if.without_rail {
        let mut rails = fabric.spec.rails.iter();
        let found = rails.find(|rail| rail.name == *wanted || rail.id.to_string() == *wanted);
        let found = found.ok_or_else(|| {
            let known: Vec<&str> = fabric.spec.rails.iter().map(|rail| rail.name.as_str()).collect();
            let name = key(&fabric.metadata).1;
            ReadError::Usage(format!(
                "Fabric {name} has no rail {wanted:?}; it has {}",
                known.join(", ")
            ))
        })?;
        ids.insert(found.id);
    }
    Ok(ids)
}

impl Room {
    /// For so many pods.
    pub(super) fn of(mut self, asked: u64) -> Self {
        self.asked = asked;
        self
    }

    pub(super) fn show(&self, page: &mut Page) {
        let attached = match self.attached {
            0 => String::new(),
            attached => format!(" ({attached} attached already)"),
        };
        let added = match self.added {
            0 => String::new(),
            added => format!(", {added} of them added"),
        };
        page.line(format!(
            "  room: for {} of {} pods{attached}, on {} of {} nodes{added}",
            self.fits.min(self.asked),
            self.asked,
            self.fitting_nodes,
            self.nodes
        ));
        if self.fits < self.asked || page.is_wide() {
            let rails: Vec<String> = self
                .by_rail
                .iter()
                .map(|(rail, fits)| format!("{rail} {fits}"))
                .collect();
            page.line(format!("    each rail alone: {}", rails.join(", ")));
        }
        let LeftOut {
            not_ready,
            of_leaves,
            attached_there,
        } = self.left_out;
        if not_ready > 0 {
            page.line(format!(
                "    not counted: {not_ready} nodes that are not Ready, cordoned or gone"
            ));
        }
        if of_leaves > 0 {
            page.line(format!(
                "    left out: {of_leaves} nodes of the leaf, with {attached_there} pods attached there"
            ));
        }
    }
}
