//! What all parts of the running agent share.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use kube::Client;
use railhead_host::Sysfs;
use railhead_plan::Layout;
use railhead_service::Passes;
use railhead_vf::{Host, HostError, Originals, PfSide};
use tokio::sync::{Notify, watch};

use crate::{
    claims::Turns,
    drift::Drift,
    events::Events,
    inventory::Inventory,
    kubelet::{Registered, SocketPaths},
    metrics::Metrics,
};

/// The agent of one node.
pub struct Agent {
    /// Name of the node.
    pub node: String,
    /// API client.
    pub client: Client,
    /// Writes events.
    pub events: Events,
    /// Folders of the node.
    pub layout: Layout,
    /// How PFs are reached.
    pub pf_side: Arc<dyn PfSide>,
    /// Id of this boot.
    pub boot_id: String,
    /// The installed CNI binary, run for sandboxes that the runtime has forgotten.
    pub cni_binary: PathBuf,
    /// Where kubelet is served.
    pub sockets: SocketPaths,
    /// Counters.
    pub metrics: Metrics,
    /// Whose turn it is with a claim.
    pub turns: Turns,
    /// The agent's loops, and whether they still go round.
    pub passes: Passes,
    /// The ports, as last seen; `None` until the node's spec is known.
    pub inventory: watch::Sender<Option<Arc<Inventory>>>,
    /// What the node does with new claims.
    pub phase: watch::Sender<Phase>,
    /// kubelet's last word on the plugin.
    pub registered: watch::Sender<Registered>,
    /// Rung when ports, their use or their publication may have changed.
    pub node_changed: Notify,
    /// Rung when a claim has taken functions or given them back.
    pub claims_changed: Notify,
    /// What of running pods is not as it was wired.
    pub drift: watch::Sender<Drift>,
    /// Who else uses the claim of a pod, in words, by the pod's UID.
    pub shared: watch::Sender<BTreeMap<String, String>>,
    /// Rung when plans or attachments may have changed.
    pub attachments_changed: Notify,
}

/// What the node does with new claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// What the node is to serve is not known yet: the API server has not said it, or the ports could not be looked at.
    #[default]
    Starting,
    /// Ports are served.
    Serving,
    /// Everything is being given back.
    TearingDown,
    /// It is to be given back as soon as no pod has anything; kubelet is served, since pods end through it.
    WaitingForPods,
    /// Everything was given back; kubelet is no longer served.
    TornDown,
}

impl Phase {
    /// Whether everything is given back now, or was.
    pub fn is_teardown(self) -> bool {
        matches!(self, Self::TearingDown | Self::WaitingForPods | Self::TornDown)
    }
}

impl Agent {
    /// The records of original states.
    pub fn originals(&self) -> Originals {
        Originals::new(&self.layout, &self.boot_id)
    }

    /// What is needed to work on VFs, from a thread of the host's namespace, which the agent never leaves.
    pub fn host(&self) -> Result<Host, HostError> {
        Host::with_pf_side(&self.layout, self.pf_side.clone())
    }

    /// The node's sysfs.
    pub fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.layout.sysfs())
    }
}
