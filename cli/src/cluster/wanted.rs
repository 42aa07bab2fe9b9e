//! What a command needs to read.

use std::collections::BTreeMap;

use kube::api::ListParams;
use railhead_crds::names::{DRIVER, NETWORK_LABEL, NODE_LABEL, node_label};

/// A kind that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
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
}

/// The kinds that a command needs, and of which objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Whether the report can do without it.
    kinds: BTreeMap<Kind, bool>,
    cluster_wide: bool,
    network: Option<String>,
    nodes: Vec<String>,
    pod: Option<String>,
    claim: Option<String>,
    rails: bool,
}

impl Wanted {
    /// These kinds, without which there is no report.
    pub(crate) fn all_of(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            kinds: kinds.into_iter().map(|kind| (kind, false)).collect(),
            ..Self::default()
        }
    }

    /// And these if they may be read; else the report says that they were not.
    pub(crate) fn and_if_allowed(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        for kind in kinds {
            self.kinds.entry(kind).or_insert(true);
        }
        self
    }

    /// Of all namespaces, whichever was asked for.
    pub(crate) fn of_all_namespaces(mut self) -> Self {
        self.cluster_wide = true;
        self
    }

    /// Pods and attachments of this network only.
    pub(crate) fn of_network(mut self, name: &str) -> Self {
        self.network = Some(name.to_owned());
        self
    }

    /// These Nodes, their NodeNetworks, their ports and their attachments only.
    pub(crate) fn of_nodes(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.nodes.extend(names);
        self
    }

    /// This claim only.
    pub(crate) fn of_claim(mut self, name: &str) -> Self {
        self.claim = Some(name.to_owned());
        self
    }

    /// This pod too, whether or not it has the label.
    pub(crate) fn with_pod(mut self, name: &str) -> Self {
        self.pod = Some(name.to_owned());
        self
    }

    /// The rails of attachments too, which are most of them.
    pub(crate) fn with_rails(mut self) -> Self {
        self.rails = true;
        self
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains_key(&kind)
    }

    pub(super) fn can_do_without(&self, kind: Kind) -> bool {
        let is_named = kind == Kind::Pods && self.pod.is_some();
        self.kinds.get(&kind).copied().unwrap_or(!is_named)
    }

    pub(super) fn is_cluster_wide(&self) -> bool {
        self.cluster_wide
    }

    pub(super) fn keeps_rails(&self) -> bool {
        self.rails
    }

    pub(super) fn named_pod(&self) -> Option<&str> {
        self.pod.as_deref()
    }

    pub(super) fn named_nodes(&self) -> &[String] {
        &self.nodes
    }

    /// What the API server is asked for: one list, or one for each of the nodes.
    pub(super) fn selections(&self, kind: Kind) -> Vec<ListParams> {
        let asked = ListParams::default();
        let network = self
            .network
            .as_ref()
            .map(|network| format!("{NETWORK_LABEL}={network}"));
        let of_nodes = |select: &dyn Fn(&str) -> ListParams| self.nodes.iter().map(|node| select(node)).collect();
        match (kind, network) {
            (Kind::Pods | Kind::Attachments, Some(network)) => vec![asked.labels(&network)],
            (Kind::Pods, None) => vec![asked.labels(NETWORK_LABEL)],
            (Kind::Nodes | Kind::NodeNetworks, _) if !self.nodes.is_empty() => {
                of_nodes(&|node| ListParams::default().fields(&format!("metadata.name={node}")))
            }
            (Kind::Attachments, None) if !self.nodes.is_empty() => {
                of_nodes(&|node| ListParams::default().labels(&format!("{NODE_LABEL}={}", node_label(node))))
            }
            (Kind::Ports, _) if !self.nodes.is_empty() => {
                of_nodes(&|node| ListParams::default().fields(&format!("spec.driver={DRIVER},spec.nodeName={node}")))
            }
            (Kind::Ports, _) => vec![asked.fields(&format!("spec.driver={DRIVER}"))],
            (Kind::Claims, _) if self.claim.is_some() => {
                let name = self.claim.as_deref().unwrap_or_default();
                vec![asked.fields(&format!("metadata.name={name}"))]
            }
            _ => vec![asked],
        }
    }
}
