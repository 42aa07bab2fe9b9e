//! `why`: one object, one sentence per fact, each with where it was read and how old it is.

mod fabric;
mod ledger;
mod network;
mod node;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use clap::Subcommand;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Asked,
    cluster::{Cluster, Kind, ReadError, Wanted, key},
    exit::Exit,
    facts::{Fact, Level, gravest},
    lookup::{found_network, network_of, object_name},
    output::{Cell, Page, Report},
    similar::similar,
};

/// How many Nodes are looked at for a network whose pods wait.
const NODES: usize = 16;

/// Of what.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// A pod: its network, its index and where that comes from, its node, its rails, or what it waits for.
    #[command(visible_alias = "po")]
    Pod {
        /// Its name.
        name: String,
    },
    /// A TrainingNetwork: what it got, or why it got nothing and who has it; which pods wait.
    #[command(visible_aliases = ["trainingnetwork", "tnet"])]
    Network {
        /// Its name.
        name: String,
    },
    /// A node: its ports, what is wrong with them, who is attached.
    #[command(visible_aliases = ["nodenetwork", "nodenet"])]
    Node {
        /// Its name.
        name: String,
    },
    /// A Fabric: its pools and VLANs and who holds them, and what its conditions say.
    #[command(visible_alias = "fab")]
    Fabric {
        /// Its name.
        name: String,
    },
}

/// Reads, reports and shows.
pub(crate) async fn run(asked: &Asked, args: &Args) -> Result<Exit, ReadError> {
    match args {
        Args::Pod { name } => of_pod(asked, name).await,
        Args::Network { name } => of_network(asked, name).await,
        Args::Node { name } => of_node(asked, name).await,
        Args::Fabric { name } => of_fabric(asked, name).await,
    }
}

async fn of_pod(asked: &Asked, name: &str) -> Result<Exit, ReadError> {
    asked.one_namespace()?;
    let mut cluster = asked.read(Wanted::default().with_pod(object_name(name)?)).await?;
    let namespace = cluster.namespace.clone().unwrap_or_default();
    let of_namespace = || cluster.pods.iter().filter(|pod| key(&pod.metadata).0 == namespace);
    let Some(found) = of_namespace().find(|pod| pod.name_any() == name) else {
        return Err(ReadError::NotFound {
            kind: "Pod",
            name: name.to_owned(),
            similar: None,
            namespace: Some(namespace),
        });
    };
    let (uid, network) = (found.metadata.uid.clone(), network_of(found).map(str::to_owned));
    let claim = pod::claim(found).map(str::to_owned);
    if let Some(network) = network.filter(|network| railhead_crds::names::is_object_name(network)) {
        let kinds = [Kind::Networks, Kind::Slices, Kind::Attachments, Kind::Pods];
        let mut wanted = Wanted::all_of(kinds)
            .and_if_allowed([Kind::Events])
            .of_network(&network)
            .with_pod(name)
            .with_rails();
        if let Some(claim) = claim {
            wanted = wanted.and_if_allowed([Kind::Claims]).of_claim(&claim);
        }
        cluster = asked.read(wanted).await?;
        let nodes = pod::nodes(&cluster, uid.as_deref());
        cluster.add(asked.read(about_nodes(nodes)).await?);
        if pod::has_no_room(&cluster, uid.as_deref()) {
            let ports = Wanted::default().and_if_allowed([Kind::Claims, Kind::Ports]);
            cluster.add(asked.read(ports.of_all_namespaces()).await?);
        }
    }
    Ok(asked.show(&cluster, &pod::report(&cluster, name)))
}

async fn of_network(asked: &Asked, name: &str) -> Result<Exit, ReadError> {
    asked.one_namespace()?;
    let wanted = Wanted::all_of([Kind::Networks, Kind::Slices, Kind::Attachments])
        .and_if_allowed([
            Kind::Pods,
            Kind::Quotas,
            Kind::Templates,
            Kind::Fabrics,
            Kind::Ledgers,
            Kind::Classes,
        ])
        .of_network(object_name(name)?);
    let mut cluster = asked.read(wanted).await?;
    let network = found_network(&cluster, name)?;
    let nodes = network::nodes(&cluster, network);
    if !nodes.is_empty() {
        let nodes = nodes.into_iter().take(NODES).collect();
        cluster.add(asked.read(about_nodes(nodes)).await?);
    }
    let network = found_network(&cluster, name)?;
    Ok(asked.show(&cluster, &network::report(&cluster, network)))
}

async fn of_node(asked: &Asked, name: &str) -> Result<Exit, ReadError> {
    let wanted = Wanted::all_of([Kind::NodeNetworks])
        .and_if_allowed([Kind::Nodes, Kind::Ports, Kind::Attachments, Kind::Fabrics])
        .of_nodes([object_name(name)?.to_owned()])
        .of_all_namespaces();
    let cluster = asked.read(wanted).await?;
    Ok(asked.show(&cluster, &node::report(&cluster, name)?))
}

async fn of_fabric(asked: &Asked, name: &str) -> Result<Exit, ReadError> {
    let wanted = Wanted::all_of([Kind::Fabrics])
        .and_if_allowed([Kind::Ledgers, Kind::NodeNetworks])
        .of_all_namespaces();
    let cluster = asked.read(wanted).await?;
    let found = cluster.fabrics.iter().find(|fabric| fabric.name_any() == name);
    let Some(fabric) = found else {
        let names: Vec<String> = cluster.fabrics.iter().map(kube::ResourceExt::name_any).collect();
        return Err(ReadError::NotFound {
            kind: "Fabric",
            namespace: None,
            name: name.to_owned(),
            similar: similar(name, names.iter().map(String::as_str)).map(str::to_owned),
        });
    };
    Ok(asked.show(&cluster, &fabric::report(&cluster, fabric)))
}

/// Nodes by their names, with what is on them.
fn about_nodes(names: BTreeSet<String>) -> Wanted {
    let wanted = Wanted::default().and_if_allowed([Kind::Nodes, Kind::NodeNetworks]);
    if names.is_empty() {
        Wanted::default()
    } else {
        wanted.of_nodes(names)
    }
}

/// What there is to say of an object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WhyReport {
    /// Pod, TrainingNetwork, Node or Fabric.
    object_kind: String,
    /// Its namespace, where the kind has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Its name.
    name: String,
    /// All in one sentence.
    verdict: String,
    /// How that is meant.
    level: Level,
    /// One after the other.
    facts: Vec<Fact>,
}

impl WhyReport {
    /// As grave as the gravest of its facts.
    fn new(kind: &str, namespace: Option<String>, name: String, verdict: impl Into<String>, facts: Vec<Fact>) -> Self {
        Self {
            object_kind: kind.to_owned(),
            namespace,
            name,
            verdict: verdict.into(),
            level: gravest(&facts),
            facts,
        }
    }
}

impl Report for WhyReport {
    const KIND: &'static str = "Why";

    fn show(&self, page: &mut Page) {
        let name = self
            .namespace
            .as_ref()
            .map_or_else(|| self.name.clone(), |namespace| format!("{namespace}/{}", self.name));
        let verdict = match self.level {
            Level::Fine => Cell::good(&self.verdict),
            Level::Waits => Cell::waits(&self.verdict),
            Level::Wrong => Cell::bad(&self.verdict),
        };
        page.line(
            Cell::bold(format!("{} {name}", self.object_kind))
                .and(": ")
                .and(verdict),
        );
        for fact in &self.facts {
            fact.show(page);
        }
    }

    fn rests_on(&self) -> &[Kind] {
        match self.object_kind.as_str() {
            "Node" => &[Kind::Nodes, Kind::NodeNetworks],
            "Fabric" => &[Kind::Fabrics, Kind::NodeNetworks],
            _ => &[Kind::Networks, Kind::Slices, Kind::Attachments, Kind::Pods],
        }
    }

    fn exit(&self) -> Exit {
        if self.level == Level::Fine {
            Exit::Fine
        } else {
            Exit::Wrong
        }
    }
}

/// How a condition is meant.
fn level_of(condition: &Condition) -> Level {
    let wrong = match condition.type_.as_str() {
        "Degraded" | "EditConflict" | "VlansShared" | "LedgerRestored" | "Quarantined" | "Exceeded" => "True",
        // Which of several is the default, or that pods are attached, is neither good nor bad; that some are awaited is told
        // pod by pod.
        "Default" | "InUse" | "Releasable" | "TornDown" | "Attached" => return Level::Fine,
        _ => "False",
    };
    match condition.status.as_str() {
        "False" if condition.type_ == "Wired" => Level::Waits,
        status if status == wrong => Level::Wrong,
        "Unknown" => Level::Waits,
        _ => Level::Fine,
    }
}

/// What the conditions of an object say, in their order. Those that say the same word for word are one fact.
fn conditions_of(cluster: &Cluster, object: &str, about: &str, conditions: &[Condition]) -> Vec<Fact> {
    let mut told: Vec<(&Condition, Fact)> = Vec::new();
    for condition in conditions {
        let same = |(other, _): &&mut (&Condition, Fact)| {
            (&other.reason, &other.message) == (&condition.reason, &condition.message)
        };
        if let Some((_, fact)) = told.iter_mut().find(same) {
            fact.text = format!("{}={} {}", condition.type_, condition.status, fact.text);
            continue;
        }
        let level = level_of(condition);
        let fact = Fact::of_condition(about, condition, level, object, cluster.read_at);
        told.push((condition, fact));
    }
    told.into_iter().map(|(_, fact)| fact).collect()
}
