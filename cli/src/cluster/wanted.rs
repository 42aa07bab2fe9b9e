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
    node: Option<String>,
    pod: Option<String>,
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

    /// This Node, its NodeNetwork, its ports and its attachments only.
    pub(crate) fn of_node(mut self, name: &str) -> Self {
        self.node = Some(name.to_owned());
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
        self.kinds.get(&kind).copied().unwrap_or(true)
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

    /// What the API server is asked for.
    pub(super) fn selection(&self, kind: Kind) -> ListParams {
        let mut asked = ListParams::default();
        let by_name = |name: &str| format!("metadata.name={name}");
        match (kind, &self.network, &self.node) {
            (Kind::Pods, None, _) => asked.labels(NETWORK_LABEL),
            (Kind::Pods | Kind::Attachments, Some(network), _) => asked.labels(&format!("{NETWORK_LABEL}={network}")),
            (Kind::Attachments, None, Some(node)) => asked.labels(&format!("{NODE_LABEL}={}", node_label(node))),
            (Kind::Nodes | Kind::NodeNetworks, _, Some(node)) => asked.fields(&by_name(node)),
            (Kind::Ports, _, Some(node)) => asked.fields(&format!("spec.driver={DRIVER},spec.nodeName={node}")),
            (Kind::Ports, _, None) => asked.fields(&format!("spec.driver={DRIVER}")),
            _ => {
                asked.limit = None;
                asked
            }
        }
    }
}
