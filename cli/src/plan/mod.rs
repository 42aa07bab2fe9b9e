//! `plan`: would a network be reserved, do its pods fit, and what is the smallest change with which they do? It asks the operator's own
//! planner, on a live cluster, on a saved one, or on one that is only described.

mod asked;
mod bounds;
mod change;
mod reserve;
mod supply;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, path::PathBuf};

use railhead_crds::{Fabric, NetworkSlice, NodeNetwork, TrainingNetwork, reasons::Reason};
use railhead_planner::{
    network::{self, Resolved},
    tenant::Tenant,
};
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    change::Change,
    reserve::{Block, Books},
    supply::{Room, Supply},
};
use crate::{
    Asked,
    cluster::{Claim, Cluster, Kind, ReadError, Wanted, key},
    exit::Exit,
    lookup::named,
    output::{Cell, Page, Report},
};

/// What is planned, and what would be otherwise.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// The TrainingNetworks, as they would be applied; `-` for standard input. Several are planned one after the other.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    what_if: WhatIf,
}

/// What would be otherwise than it is.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct WhatIf {
    /// With so many nodes more, as the most of the fabric's are: `+64`. Without the plus, that many nodes of a Fabric that has none: their
    /// ports are as the Fabric says.
    #[arg(long, value_name = "+N")]
    nodes: Option<String>,
    /// Without the nodes of this leaf; several times.
    #[arg(long, value_name = "LEAF")]
    without_leaf: Vec<String>,
    /// The label of Nodes that names their leaf.
    #[arg(long, value_name = "LABEL", default_value = "fabric.topograph.run/tier-0")]
    leaf_label: String,
    /// Without this rail, by name or id; several times.
    #[arg(long, value_name = "RAIL")]
    without_rail: Vec<String>,
    /// At most so many pods of a network on a node, as where each takes all GPUs. Default: as many as its ports have room for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    per_node: Option<u32>,
}

/// Without what it cannot be said whether something fits.
const DECIDES: [Kind; 10] = [
    Kind::Fabrics,
    Kind::Classes,
    Kind::Ledgers,
    Kind::Quotas,
    Kind::Networks,
    Kind::Slices,
    Kind::Attachments,
    Kind::Nodes,
    Kind::Ports,
    Kind::Claims,
];

/// Reads, plans and shows.
pub(crate) async fn run(asked: &Asked, args: &Args) -> Result<Exit, ReadError> {
    let mut networks = asked::networks(&args.file)?;
    let wanted = Wanted::all_of(DECIDES)
        .and_if_allowed([Kind::Namespaces])
        .of_all_namespaces();
    let cluster = asked.read(wanted).await?;
    for network in &mut networks {
        let namespace = &mut network.metadata.namespace;
        *namespace = namespace
            .take()
            .or_else(|| cluster.namespace.clone())
            .or(Some("default".to_owned()));
    }
    Ok(asked.show(&cluster, &report(&cluster, &networks, &args.what_if)?))
}

/// The report.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanReport {
    /// Whether all could be read that decides. Else what is said may be otherwise.
    complete: bool,
    /// In the order of the file; each is planned as if those before it were there.
    networks: Vec<Planned>,
}

/// What would become of a network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Planned {
    /// `TrainingNetwork team-a/llama`.
    network: String,
    /// Whether it would be reserved, and all of its pods have room.
    fits: bool,
    /// The Fabric and the QosClass that it would use.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<Uses>,
    /// Why it would not be reserved: the reason and the message of its condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
    /// What it would get.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserves: Option<Block>,
    /// For how many pods there is room on the ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<Room>,
    /// Changes with each of which alone it would fit, the smallest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change>,
}

/// What a network would use.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Uses {
    fabric: String,
    class: String,
    /// Per pod and rail.
    guaranteed: String,
    rails: Vec<String>,
}

/// Why a network would not be reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Refused {
    reason: String,
    message: String,
}

/// Plans these networks, one after the other.
fn report(cluster: &Cluster, networks: &[TrainingNetwork], what_if: &WhatIf) -> Result<PlanReport, ReadError> {
    let mut books = Books::of(cluster);
    let mut supplies: Vec<(String, Supply)> = Vec::new();
    let mut planned = Vec::with_capacity(networks.len());
    for network in networks {
        planned.push(plan(cluster, network, what_if, &mut books, &mut supplies)?);
    }
    Ok(PlanReport {
        complete: is_complete(cluster),
        networks: planned,
    })
}

/// Labels of namespaces decide only where something is for some of them; and claims are there where pods are attached.
fn is_complete(cluster: &Cluster) -> bool {
    let has_allow_lists = cluster
        .fabrics
        .iter()
        .any(|fabric| fabric.spec.allowed_namespaces.is_some())
        || cluster
            .classes
            .iter()
            .any(|class| class.spec.allowed_namespaces.is_some());
    DECIDES.iter().all(|kind| cluster.has_read(*kind))
        && (cluster.has_read(Kind::Namespaces) || !has_allow_lists)
        && (cluster.attachments.is_empty() || !cluster.claims.is_empty())
        && (cluster.slices.is_empty() || !cluster.ledgers.is_empty())
}

fn plan(
    cluster: &Cluster,
    network: &TrainingNetwork,
    what_if: &WhatIf,
    books: &mut Books<'_>,
    supplies: &mut Vec<(String, Supply)>,
) -> Result<Planned, ReadError> {
    let network = &as_stored(cluster, network);
    let mut planned = Planned {
        network: named("TrainingNetwork", &network.metadata),
        fits: false,
        uses: None,
        refused: None,
        reserves: None,
        room: None,
        changes: Vec::new(),
    };
    if network.metadata.deletion_timestamp.is_some() {
        planned.refused = Some(Refused {
            reason: Reason::SliceDeleted.to_string(),
            message: "the network of this name is being deleted: apply it anew when it is gone".to_owned(),
        });
        return Ok(planned);
    }
    let slice = books.slice_of(network).cloned();
    let resolved = match resolve(cluster, network, slice.as_ref()) {
        Ok(resolved) => resolved,
        Err(refused) => {
            planned.refused = Some(refused);
            return Ok(planned);
        }
    };
    let fabric = key(&resolved.fabric.metadata).1.to_owned();
    planned.uses = Some(Uses {
        fabric: fabric.clone(),
        class: key(&resolved.class.metadata).1.to_owned(),
        guaranteed: resolved.guaranteed.to_string(),
        rails: resolved.rails.iter().map(|rail| rail.name.clone()).collect(),
    });
    let known = supplies.iter().position(|(of, _)| *of == fabric);
    let place = known.unwrap_or(supplies.len());
    if known.is_none() {
        supplies.push((fabric.clone(), Supply::of(cluster, what_if, &resolved.fabric)?));
    }
    let supply = &mut supplies[place].1;
    let attached = attached(cluster, network, slice.as_ref());
    let asked = u64::from(network.spec.pods.saturating_sub(attached));
    let room = supply.room(&resolved, attached, what_if.per_node);
    let has_room = room.fits >= asked;
    let reserved = books.reserve(cluster, network, &resolved, slice.as_ref());
    planned.fits = has_room && reserved.is_ok();
    if !planned.fits {
        planned.changes = change::changes(&change::Case {
            cluster,
            network,
            resolved: &resolved,
            slice: slice.as_ref(),
            supply,
            books,
            attached,
            per_node: what_if.per_node,
        });
    }
    planned.room = Some(room.of(asked));
    match reserved {
        Ok(reserved) => {
            planned.reserves = Some(books.enter(reserved));
            if planned.fits {
                supply.take(&resolved, asked, what_if.per_node);
            }
        }
        Err(refused) => planned.refused = Some(refused),
    }
    Ok(planned)
}

/// The network as it would be stored: one of its name that is there already keeps its identity.
fn as_stored(cluster: &Cluster, network: &TrainingNetwork) -> TrainingNetwork {
    let mut stored = network.clone();
    let mut networks = cluster.networks.iter();
    if let Some(known) = networks.find(|known| key(&known.metadata) == key(&network.metadata)) {
        stored.metadata = known.metadata.clone();
    } else {
        let (namespace, name) = key(&network.metadata);
        stored.metadata.uid = Some(format!("planned-{namespace}-{name}"));
    }
    stored
}

/// What a network refers to; of one that has its slice, what the slice says.
fn resolve(cluster: &Cluster, network: &TrainingNetwork, slice: Option<&NetworkSlice>) -> Result<Resolved, Refused> {
    if let Some(slice) = slice {
        let mut fabrics = cluster.fabrics.iter();
        let fabric = fabrics.find(|fabric| key(&fabric.metadata).1 == slice.spec.fabric.name);
        return Ok(network::from_slice(slice, fabric));
    }
    let namespace = key(&network.metadata).0;
    let mut namespaces = cluster.namespaces.iter();
    let labels = namespaces
        .find(|found| key(found).1 == namespace)
        .and_then(|found| found.labels.as_ref());
    let has = |key: &str, value: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str) == Some(value);
    let tenant = Tenant { namespace, has: &has };
    // Whether ports are fast enough is for the room on them to say: they may be others than there are.
    let no_nodes: [NodeNetwork; 0] = [];
    let resolved = network::resolve(network, &tenant, &cluster.fabrics, &cluster.classes, &no_nodes);
    let resolved = resolved.map_err(|unresolved| Refused {
        reason: unresolved.reason().to_string(),
        message: unresolved.to_string(),
    })?;
    if is_going(&resolved.fabric) {
        return Err(Refused {
            reason: Reason::FabricNotFound.to_string(),
            message: format!("{} is being deleted", named("Fabric", &resolved.fabric.metadata)),
        });
    }
    Ok(resolved)
}

fn is_going(fabric: &Fabric) -> bool {
    fabric.metadata.deletion_timestamp.is_some()
}

/// How many of its pods have ports already: those of which the scheduler has allocated a claim, attached or not yet.
fn attached(cluster: &Cluster, network: &TrainingNetwork, slice: Option<&NetworkSlice>) -> u32 {
    let namespace = key(&network.metadata).0;
    let uid = network.metadata.uid.as_deref();
    let is_its = |claim: &&Claim| {
        let named = claim.network.as_ref().map(|(_, uid)| uid.as_str());
        key(&claim.metadata).0 == namespace && named == uid && !claim.allocated.is_empty()
    };
    let allocated = cluster
        .claims
        .iter()
        .filter(is_its)
        .filter_map(|claim| claim.metadata.uid.as_deref());
    let of_slice = cluster.attachments.iter().filter(|attachment| {
        let name = slice.and_then(|slice| slice.metadata.name.as_deref());
        key(&attachment.metadata).0 == namespace && Some(attachment.spec.slice_name.as_str()) == name
    });
    let attached = of_slice.map(|attachment| attachment.spec.claim_uid.as_str());
    let claims: HashSet<&str> = allocated.chain(attached).collect();
    u32::try_from(claims.len()).unwrap_or(u32::MAX).min(network.spec.pods)
}

impl Report for PlanReport {
    const KIND: &'static str = "Plan";

    fn show(&self, page: &mut Page) {
        for planned in &self.networks {
            page.gap();
            planned.show(page);
        }
        if !self.complete {
            page.gap();
            page.line(Cell::bad(
                "not all could be read that decides this: it may be otherwise",
            ));
        }
    }

    fn exit(&self) -> Exit {
        if !self.complete {
            Exit::CannotTell
        } else if self.networks.iter().all(|planned| planned.fits) {
            Exit::Fine
        } else {
            Exit::DoesNotFit
        }
    }
}

impl Planned {
    fn show(&self, page: &mut Page) {
        let verdict = if self.fits { "fits" } else { "does not fit" };
        page.line(
            Cell::bold(&self.network)
                .and("  ")
                .and(Cell::good_if(self.fits, verdict)),
        );
        if let Some(uses) = &self.uses {
            page.line(format!(
                "  uses: Fabric {}, QosClass {}, {} guaranteed per pod on each of {} rails",
                uses.fabric,
                uses.class,
                uses.guaranteed,
                uses.rails.len()
            ));
        }
        if let Some(refused) = &self.refused {
            page.line(
                Cell::plain("  not reserved: ").and(Cell::bad(format!("{}: {}", refused.reason, refused.message))),
            );
        }
        if let Some(block) = &self.reserves {
            block.show(page);
        }
        if let Some(room) = &self.room {
            room.show(page);
        }
        for (place, change) in self.changes.iter().enumerate() {
            let or = if place == 0 { "smallest change that fits" } else { "or" };
            page.line(format!("  {or}: {}", change.text));
        }
        if !self.fits && self.changes.is_empty() && self.uses.is_some() {
            page.line("  no single change of pods, bandwidth, rails or nodes makes it fit");
        }
    }
}
