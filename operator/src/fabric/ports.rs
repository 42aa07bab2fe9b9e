//! Ports that a Fabric gives to other rails while pods are on them. What the scheduler has counted on a port stays right only if the
//! port does: such an edit waits on each node until its pods are gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use railhead_crds::NodeNetworkSpec;
use railhead_planner::{node, pools::EditConflict};

use crate::{network::listed, world::World};

/// What was found of it on the nodes so far.
#[derive(Default)]
pub(super) struct OnPorts {
    /// Networks with pods, by node; looked up when the first node has other ports than it should.
    networks: Option<HashMap<String, BTreeSet<String>>>,
    /// Nodes and networks, by rail.
    kept: BTreeMap<String, (Vec<String>, BTreeSet<String>)>,
}

impl OnPorts {
    /// What the node is to have now.
    pub(super) fn keep(
        &mut self,
        world: &World,
        name: &str,
        wanted: NodeNetworkSpec,
        found: &NodeNetworkSpec,
    ) -> NodeNetworkSpec {
        let networks = self.networks.get_or_insert_with(|| attached(world));
        let Some(networks) = networks.get(name) else {
            return wanted;
        };
        let (kept, rails) = node::keep_ports(wanted, found);
        for rail in rails {
            let (nodes, of_rail) = self.kept.entry(rail).or_default();
            nodes.push(name.to_owned());
            of_rail.extend(networks.iter().cloned());
        }
        kept
    }

    pub(super) fn conflicts(self) -> Vec<EditConflict> {
        let conflict = |(rail, (mut nodes, networks)): (String, (Vec<String>, BTreeSet<String>))| {
            nodes.sort_unstable();
            EditConflict {
                field: format!("spec.rails[{rail}].ports"),
                what: format!(
                    "another port than pods are on: it stays theirs on {} until they are gone",
                    listed(&nodes)
                ),
                networks: networks.into_iter().collect(),
            }
        };
        self.kept.into_iter().map(conflict).collect()
    }
}

fn attached(world: &World) -> HashMap<String, BTreeSet<String>> {
    let mut networks: HashMap<String, BTreeSet<String>> = HashMap::new();
    for attachment in world.attachments.state() {
        let namespace = attachment.metadata.namespace.as_deref().unwrap_or_default();
        let spec = &attachment.spec;
        let slice = world.slice(namespace, &spec.slice_name);
        let network = slice
            .as_ref()
            .map_or(&spec.slice_name, |slice| &slice.spec.network.name);
        let of_node = networks.entry(spec.node_name.clone()).or_default();
        of_node.insert(format!("{namespace}/{network}"));
    }
    networks
}
