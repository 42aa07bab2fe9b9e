//! Fabrics: whether they are ready, how full they are, rail by rail.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use railhead_crds::{Fabric, NodeNetwork, PortHealth};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    lookup::{Conditions as _, Lookup, condition},
    output::{Cell, Page, age},
};

/// Conditions that are worth a line when they do not say this.
const EXPECTED: [(&str, &str); 6] = [
    ("NodesReady", "True"),
    ("PoolsHealthy", "True"),
    ("EditConflict", "False"),
    ("VlansShared", "False"),
    ("LedgerRestored", "False"),
    ("SchemasCurrent", "True"),
];

/// A fabric.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FabricLine {
    /// Its name.
    name: String,
    /// Whether networks can use it.
    ready: bool,
    /// Why it is or is not, in one word.
    reason: String,
    /// Nodes whose ports are all there, of those selected: 497/500.
    nodes: String,
    /// How addresses relate to segments.
    addressing: String,
    /// VLANs that networks hold, of those in its range.
    vlans: VlanUse,
    /// By id.
    rails: Vec<RailLine>,
    /// What its other conditions say that is not as it should be.
    notes: Vec<Note>,
}

/// How many VLANs are used.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VlanUse {
    /// Held by networks, or resting; unknown before the operator has counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u32>,
    /// In the range.
    total: u32,
}

/// A rail.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RailLine {
    /// Its name.
    name: String,
    /// Ports that are healthy.
    healthy: u32,
    /// Ports that nodes have.
    ports: u32,
    /// Functions that no pod has.
    vfs_free: u32,
    /// Functions that exist.
    vfs: u32,
    /// Share of the pool that networks hold, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_used: Option<String>,
    /// The largest prefix that a new network could get.
    #[serde(skip_serializing_if = "Option::is_none")]
    largest_free: Option<String>,
}

/// What a condition says.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Note {
    /// Its type.
    condition: String,
    /// Why, in one word.
    reason: String,
    /// What it says.
    message: String,
    /// How long it has been so.
    age: String,
}

pub(super) fn lines(lookup: &Lookup<'_>, of_interest: impl Fn(&str) -> bool) -> Vec<FabricLine> {
    let mut ports: BTreeMap<&str, Vec<&NodeNetwork>> = BTreeMap::new();
    for node in &lookup.cluster.node_networks {
        ports.entry(&node.spec.fabric_name).or_default().push(node);
    }
    let mut fabrics: Vec<&Fabric> = lookup.cluster.fabrics.iter().collect();
    fabrics.retain(|fabric| of_interest(&fabric.name_any()));
    fabrics.sort_by_key(|fabric| &fabric.metadata.name);
    let line = |fabric: &&Fabric| {
        line(
            lookup,
            fabric,
            ports.get(&*fabric.name_any()).map_or(&[], Vec::as_slice),
        )
    };
    fabrics.iter().map(line).collect()
}

fn line(lookup: &Lookup<'_>, fabric: &Fabric, nodes: &[&NodeNetwork]) -> FabricLine {
    let conditions = fabric.conditions();
    let ready = condition(conditions, "Ready");
    let status = fabric.status.as_ref();
    let range = fabric.spec.vlan.range;
    let total = u32::from(range.max.saturating_sub(range.min)) + 1;
    let free = status.and_then(|status| u32::try_from(status.vlans_free?).ok());
    let reason = ready.map_or("Pending", |ready| ready.reason.as_str());
    let unexpected = EXPECTED.iter().filter_map(|(type_, expected)| {
        let found = condition(conditions, type_)?;
        (found.status != *expected).then_some(found)
    });
    FabricLine {
        name: fabric.name_any(),
        ready: ready.is_some_and(|ready| ready.status == "True"),
        reason: reason.to_owned(),
        nodes: status
            .and_then(|status| status.nodes.clone())
            .unwrap_or_else(|| "?".to_owned()),
        addressing: format!("{:?}", fabric.spec.addressing.mode),
        vlans: VlanUse {
            used: free.map(|free| total.saturating_sub(free)),
            total,
        },
        rails: rails(fabric, nodes),
        notes: unexpected
            .map(|found| Note {
                condition: found.type_.clone(),
                reason: found.reason.clone(),
                message: found.message.clone(),
                age: age(found.last_transition_time.0, lookup.cluster.read_at),
            })
            .collect(),
    }
}

fn rails(fabric: &Fabric, nodes: &[&NodeNetwork]) -> Vec<RailLine> {
    let mut rails: BTreeMap<u32, RailLine> = fabric
        .spec
        .rails
        .iter()
        .map(|rail| {
            let name = rail.name.clone();
            (
                rail.id,
                RailLine {
                    name,
                    ..RailLine::default()
                },
            )
        })
        .collect();
    for pool in fabric.status.iter().flat_map(|status| &status.pools) {
        if let Some(rail) = rails.get_mut(&pool.rail) {
            rail.pool_used = Some(pool.used.clone());
            rail.largest_free.clone_from(&pool.largest_free);
        }
    }
    for port in nodes
        .iter()
        .flat_map(|node| &node.status)
        .flat_map(|status| &status.ports)
    {
        if let Some(rail) = rails.get_mut(&port.rail) {
            rail.ports += 1;
            rail.healthy += u32::from(port.state == PortHealth::Healthy);
            rail.vfs += port.vfs.total;
            rail.vfs_free += port.vfs.total.saturating_sub(port.vfs.used);
        }
    }
    rails.into_values().collect()
}

impl FabricLine {
    /// Whether nothing of it needs somebody. That nodes are not ready is told for each of them.
    pub(super) fn is_fine(&self) -> bool {
        self.ready && self.notes.is_empty()
    }

    pub(super) fn show(&self, page: &mut Page) {
        page.gap();
        let state = if self.ready { "Ready" } else { "not Ready" };
        let reason = if self.reason == "AllReady" {
            String::new()
        } else {
            format!(" ({})", self.reason)
        };
        let used = self.vlans.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
        page.line(
            Cell::bold(format!("Fabric {}", self.name))
                .and("  ")
                .and(Cell::good_if(self.ready, format!("{state}{reason}")))
                .and(format!(
                    "  {} nodes  {} rails  {}  VLANs {used}/{}",
                    self.nodes,
                    self.rails.len(),
                    self.addressing,
                    self.vlans.total
                )),
        );
        for rail in &self.rails {
            let pool = rail.pool_used.as_deref().unwrap_or("?");
            let largest = rail.largest_free.as_deref().unwrap_or("none");
            page.row(
                2,
                [
                    Cell::plain(&rail.name),
                    Cell::good_if(
                        rail.healthy == rail.ports,
                        format!("{}/{} ports healthy", rail.healthy, rail.ports),
                    ),
                    Cell::plain(format!("{}/{} VFs free", rail.vfs_free, rail.vfs)),
                    Cell::plain(format!("pool {pool} used")),
                    Cell::plain(format!("largest free {largest}")),
                ],
            );
        }
        for note in &self.notes {
            page.line(
                Cell::plain("  ")
                    .and(Cell::bad(format!("{}: {}", note.condition, note.reason)))
                    .and(format!("  {}", note.message))
                    .and(Cell::dim(format!("  ({})", note.age))),
            );
        }
    }
}
