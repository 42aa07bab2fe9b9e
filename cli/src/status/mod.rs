//! `status`: the cluster on a page: fabrics with their rails, nodes that are not ready, networks, and what waits for what.

mod fabrics;
mod networks;
mod nodes;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::nodes::trouble;
use self::{fabrics::FabricLine, networks::Networks, nodes::NodeLine};
use crate::{
    Asked,
    cluster::{Cluster, Kind, ReadError, Wanted},
    exit::Exit,
    lookup::Lookup,
    output::{Cell, Page, Report},
};

/// Nothing but the general options: the whole cluster, or the networks of one namespace with `-n`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Reads, reports and shows.
pub(crate) async fn run(asked: &Asked, _: &Args) -> Result<Exit, ReadError> {
    let networks = [Kind::Networks, Kind::Slices, Kind::Attachments];
    let around = [Kind::Fabrics, Kind::NodeNetworks];
    let more = [Kind::Pods, Kind::Nodes, Kind::Ledgers];
    // Who looks at a namespace may see that and no more.
    let wanted = if asked.from.namespace.is_some() {
        Wanted::all_of(networks).and_if_allowed(around.into_iter().chain(more))
    } else {
        Wanted::all_of(networks.into_iter().chain(around))
            .and_if_allowed(more)
            .of_all_namespaces()
    };
    let mut cluster = asked.read(wanted).await?;
    cluster.namespace.clone_from(&asked.from.namespace);
    Ok(asked.show(&cluster, &report(&cluster)))
}

/// The report.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusReport {
    /// The namespace whose networks are told of; none for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// By name.
    fabrics: Vec<FabricLine>,
    /// Nodes of fabrics that are not as they should be, by name.
    nodes_not_ready: Vec<NodeLine>,
    /// The networks.
    networks: Networks,
}

/// What there is to say of a cluster.
fn report(cluster: &Cluster) -> StatusReport {
    let lookup = Lookup::new(cluster);
    let of_interest = |fabric: &str| cluster.namespace.is_none() || is_used(cluster, fabric);
    StatusReport {
        namespace: cluster.namespace.clone(),
        fabrics: fabrics::lines(&lookup, of_interest),
        nodes_not_ready: nodes::lines(&lookup, of_interest),
        networks: networks::of(&lookup),
    }
}

/// Whether one of the networks that are told of is on this fabric.
fn is_used(cluster: &Cluster, fabric: &str) -> bool {
    cluster.networks.iter().any(|network| {
        let used = network.status.as_ref().and_then(|status| status.fabric_name.as_ref());
        used.or(network.spec.fabric_name.as_ref())
            .is_some_and(|used| used == fabric)
    })
}

impl Report for StatusReport {
    const KIND: &'static str = "Status";

    fn show(&self, page: &mut Page) {
        if self.fabrics.is_empty() && self.namespace.is_none() {
            page.line("There is no Fabric yet: the platform team describes the backend network in one (kubectl explain fabric).");
        }
        for fabric in &self.fabrics {
            fabric.show(page);
        }
        nodes::show(&self.nodes_not_ready, page);
        self.networks.show(self.namespace.as_deref(), page);
    }

    fn rests_on(&self) -> &[Kind] {
        let of_namespace = &[Kind::Networks, Kind::Slices, Kind::Attachments, Kind::Pods];
        let of_cluster = &[
            Kind::Networks,
            Kind::Slices,
            Kind::Attachments,
            Kind::Pods,
            Kind::Fabrics,
            Kind::NodeNetworks,
            Kind::Nodes,
        ];
        if self.namespace.is_some() {
            of_namespace
        } else {
            of_cluster
        }
    }

    fn exit(&self) -> Exit {
        let fabrics_are_fine = self.fabrics.iter().all(FabricLine::is_fine);
        if fabrics_are_fine && self.nodes_not_ready.is_empty() && self.networks.are_fine() {
            Exit::Fine
        } else {
            Exit::Wrong
        }
    }
}

/// Says how many were left out.
fn more(page: &mut Page, count: usize) {
    if count > 0 {
        page.line(Cell::dim(format!("  and {count} more: -o wide shows all")));
    }
}
