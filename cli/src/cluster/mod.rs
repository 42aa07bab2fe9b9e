//! Everything that is read of a cluster, at one moment, with what is used of it and nothing else.
//!
//! A command says which kinds it [`Wanted`]; [`live`] asks the API server for those, and [`saved`] takes them from files that
//! somebody saved. What is known afterwards is the same, so that reports are pure functions of a [`Cluster`].

mod kept;
mod known;
mod live;
mod problem;
mod saved;
mod wanted;

use std::path::PathBuf;

use k8s_openapi::{
    api::resource::v1::ResourceClaimTemplate, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkQuota, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork,
};

pub(crate) use known::{Claim, Event, Node, Pod, Ports};
pub(crate) use problem::ReadError;
pub(crate) use wanted::{Kind, Wanted};

/// Where to read.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct From {
    /// The namespace. Default: that of the context.
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        conflicts_with = "all_namespaces"
    )]
    pub(crate) namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long, global = true)]
    pub(crate) all_namespaces: bool,
    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig. Default: $KUBECONFIG, else ~/.kube/config, else the account of the pod.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Saved objects (YAML or JSON, as `kubectl get -o yaml` prints them) instead of a live cluster; several times, or a folder.
    #[arg(long = "from", global = true, value_name = "FILE-OR-FOLDER", conflicts_with_all = ["context", "kubeconfig"])]
    pub(crate) saved: Vec<PathBuf>,
}

/// What was read. A kind that was not wanted is empty.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// When: the latest moment at which all of it was so. Ages count from here.
    pub(crate) read_at: Timestamp,
    /// The namespace that was asked for; none with `--all-namespaces`.
    pub(crate) namespace: Option<String>,
    /// What could not be read, a sentence each: a right that is missing, a kind that the cluster does not have, an object that
    /// this release does not understand. The report says them.
    pub(crate) unread: Vec<Unread>,
    pub(crate) fabrics: Vec<Fabric>,
    pub(crate) ledgers: Vec<FabricLedger>,
    pub(crate) classes: Vec<QosClass>,
    pub(crate) quotas: Vec<NetworkQuota>,
    pub(crate) networks: Vec<TrainingNetwork>,
    pub(crate) slices: Vec<NetworkSlice>,
    /// With their rails only if [`Wanted::with_rails`] asked for them.
    pub(crate) attachments: Vec<NetworkAttachment>,
    pub(crate) node_networks: Vec<NodeNetwork>,
    pub(crate) nodes: Vec<Node>,
    /// The Nodes that were asked for by name; none where all of them were.
    pub(crate) named_nodes: Vec<String>,
    /// Labels of namespaces.
    pub(crate) namespaces: Vec<ObjectMeta>,
    /// Those with the label, and the one that was asked for by name.
    pub(crate) pods: Vec<Pod>,
    /// Those that ask for or hold rails.
    pub(crate) claims: Vec<Claim>,
    /// Of networks.
    pub(crate) templates: Vec<ResourceClaimTemplate>,
    /// The ports that agents published.
    pub(crate) ports: Vec<Ports>,
    pub(crate) events: Vec<Event>,
}

/// A kind, or an object of it, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) kind: Kind,
    pub(crate) why: String,
}

/// Reads what is wanted.
pub(crate) async fn read(from: &From, wanted: Wanted) -> Result<Cluster, ReadError> {
    let named_nodes = wanted.named_nodes().to_vec();
    let mut cluster = if from.saved.is_empty() {
        live::read(from, wanted).await?
    } else {
        saved::read(from, wanted)?
    };
    cluster.named_nodes = named_nodes;
    cluster.sort();
    Ok(cluster)
}

/// The way to the API server that is read, for what is written.
pub(crate) async fn connect(from: &From) -> Result<kube::Client, ReadError> {
    live::connect(from).await
}

impl Cluster {
    /// Whether a kind could be read, if it was wanted.
    pub(crate) fn has_read(&self, kind: Kind) -> bool {
        !self.unread.iter().any(|unread| unread.kind == kind)
    }

    /// What was read later of the same cluster: Nodes and what is on them, claims.
    pub(crate) fn add(&mut self, later: Self) {
        self.unread.extend(later.unread);
        self.nodes.extend(later.nodes);
        self.named_nodes.extend(later.named_nodes);
        self.node_networks.extend(later.node_networks);
        self.ports.extend(later.ports);
        self.claims.extend(later.claims);
        self.sort();
    }

    /// Whether it is known that there is no such Node.
    pub(crate) fn lacks_node(&self, name: &str) -> bool {
        let has_it = self.nodes.iter().any(|node| key(&node.metadata).1 == name);
        let was_asked = if self.named_nodes.is_empty() {
            !self.nodes.is_empty()
        } else {
            self.named_nodes.iter().any(|named| named == name)
        };
        was_asked && !has_it && self.has_read(Kind::Nodes)
    }

    /// In an order that does not depend on who answered first.
    fn sort(&mut self) {
        self.unread.sort_by(|a, b| (a.kind, &a.why).cmp(&(b.kind, &b.why)));
        self.unread.dedup();
        self.events.sort_by_key(|event| event.last);
    }
}

/// Namespace and name of an object; the namespace is empty where the kind has none.
pub(crate) fn key(metadata: &ObjectMeta) -> (&str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// All of these objects, as they would be read at a moment; for tests.
#[cfg(test)]
pub(crate) fn of_objects(objects: Vec<serde_json::Value>, namespace: Option<&str>, read_at: &str) -> Cluster {
    use Kind::*;
    let all = [
        Fabrics,
        Ledgers,
        Classes,
        Quotas,
        Networks,
        Slices,
        Attachments,
        NodeNetworks,
        Nodes,
        Namespaces,
        Pods,
        Claims,
        Templates,
        Ports,
        Events,
    ];
    let wanted = Wanted::all_of(all).with_rails().of_all_namespaces();
    let mut cluster = saved::of_objects(objects, namespace, wanted, read_at.parse().expect("a time"));
    cluster.sort();
    cluster
}
