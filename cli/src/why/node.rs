//! A node: whose it is, its ports, what is wrong with them, and who is attached. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{NodeNetwork, NodePort, PortHealth};

use super::{WhyReport, conditions_of};
use crate::{
    cluster::{Cluster, Kind, Node, ReadError, key},
    facts::{Fact, Level},
    lookup::{Conditions as _, Lookup, named},
    status::trouble,
};

/// How many attached pods are shown.
const SHOWN: usize = 32;

pub(super) fn report(cluster: &Cluster, name: &str) -> Result<WhyReport, ReadError> {
    let lookup = Lookup::new(cluster);
    let (node, found) = (lookup.node(name), lookup.node_network(name));
    if node.is_none() && found.is_none() {
        return Err(ReadError::NotFound {
            kind: if cluster.has_read(Kind::Nodes) {
                "Node"
            } else {
                "NodeNetwork"
            },
            namespace: None,
            name: name.to_owned(),
            similar: None,
        });
    }
    let seen = Seen {
        cluster,
        name,
        now: cluster.read_at,
    };
    let mut facts: Vec<Fact> = node.map(|node| seen.node(node)).into_iter().collect();
    let verdict = match found {
        None => {
            let fact = seen.not_selected(node);
            let text = fact.text.clone();
            facts.push(fact);
            text
        }
        Some(found) => {
            facts.extend(seen.ports(found));
            match trouble(&lookup, found) {
                Some((reason, message, _)) => format!("not ready, {reason}: {message}"),
                None => format!("ready in Fabric {}", found.spec.fabric_name),
            }
        }
    };
    facts.extend(seen.attached());
    Ok(WhyReport::new("Node", None, name.to_owned(), verdict, facts))
}

struct Seen<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    now: Timestamp,
}

impl Seen<'_> {
    fn node(&self, node: &Node) -> Fact {
        let object = format!("Node {}", self.name);
        if node.is_out_of_service() {
            return Fact::new(
                "node",
                "it is out of service: nothing runs there any more, and what it held is let go",
                object,
            )
            .level(Level::Wrong)
            .help("take the taint node.kubernetes.io/out-of-service away when it is back");
        }
        if let Some(ready) = node.not_ready() {
            let message = ready.message.as_deref().unwrap_or("no more is said");
            let since = ready.last_transition_time.as_ref().map(|time| time.0);
            return Fact::new("node", format!("not Ready ({}): {message}", ready.status), object)
                .level(Level::Wrong)
                .since(since, self.now)
                .help(
                    "what its pods hold stays held until it comes back, or until somebody says that it is off: \
                     https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown",
                );
        }
        let cordoned = if node.spec.unschedulable {
            ", cordoned: no new pods"
        } else {
            ""
        };
        Fact::new("node", format!("Ready{cordoned}"), object)
    }

    /// Why the operator made no NodeNetwork for it.
    fn not_selected(&self, node: Option<&Node>) -> Fact {
        let selecting = node.and_then(|node| {
            let labels = node.labels();
            let selects = |fabric: &&railhead_crds::Fabric| {
                railhead_planner::node::spec(fabric, |key| labels.get(key).map(String::as_str)).is_some()
            };
            self.cluster.fabrics.iter().find(selects)
        });
        match selecting {
            Some(fabric) => Fact::new(
                "fabric",
                format!(
                    "Fabric {} selects it, and the operator has not made its NodeNetwork yet",
                    fabric.name_any()
                ),
                named("Fabric", &fabric.metadata),
            )
            .level(Level::Waits)
            .help("it takes a second; else kubectl get pods -n railhead-system: does the operator run?"),
            None => Fact::new(
                "fabric",
                "no Fabric selects it: Railhead does nothing there",
                "Fabrics, spec.nodeSelector",
            ),
        }
    }

    fn ports(&self, found: &NodeNetwork) -> Vec<Fact> {
        let object = named("NodeNetwork", &found.metadata);
        let mut facts = conditions_of(self.cluster, &object, "says", found.conditions());
        let ports = found.status.as_ref().map_or(&[][..], |status| &status.ports);
        for wanted in &found.spec.rails {
            let place = wanted.pci_address.as_deref().or(wanted.netdev.as_deref());
            let missing = || {
                let text = format!("there is no port {}", place.unwrap_or("unnamed"));
                Fact::new(&wanted.name, text, format!("{object}, status.ports"))
                    .level(Level::Wrong)
                    .help("correct rails[].ports of the Fabric, or look at the node")
            };
            let port = ports.iter().find(|port| port.rail == wanted.id);
            facts.push(port.map_or_else(missing, |port| self.port(&wanted.name, port, &object)));
        }
        facts
    }

    fn port(&self, rail: &str, port: &NodePort, object: &str) -> Fact {
        let speed = port
            .speed
            .map_or_else(|| "no speed".to_owned(), |speed| speed.to_string());
        let rdma = port
            .rdma_device
            .as_deref()
            .map_or_else(String::new, |device| format!(", {device}"));
        let numa = port
            .numa_node
            .map_or_else(String::new, |node| format!(", NUMA node {node}"));
        let taints = self.taints(port.rail);
        let why = port
            .message
            .as_deref()
            .map_or_else(String::new, |message| format!(": {message}"));
        let text = format!(
            "{} ({}, {}), {speed}{rdma}{numa}, {}/{} VFs used, {:?}{why}{taints}",
            port.netdev, port.pci_address, port.driver, port.vfs.used, port.vfs.total, port.state
        );
        let level = if port.state == PortHealth::Healthy {
            Level::Fine
        } else {
            Level::Wrong
        };
        Fact::new(rail, text, format!("{object}, status.ports")).level(level)
    }

    /// What keeps new pods from a port.
    fn taints(&self, rail: u32) -> String {
        let device = railhead_crds::names::rail_device(rail);
        let slices = self.cluster.ports.iter().filter(|slice| slice.node == self.name);
        let taints = slices.filter_map(|slice| slice.taints.get(&device)).flatten();
        let texts: Vec<String> = taints.map(|(key, effect)| format!("{key}:{effect}")).collect();
        if texts.is_empty() {
            String::new()
        } else {
            format!(", tainted {}", texts.join(", "))
        }
    }

    fn attached(&self) -> Vec<Fact> {
        let attachments = self.cluster.attachments.iter();
        let mut here: Vec<_> = attachments
            .filter(|attachment| attachment.spec.node_name == self.name)
            .collect();
        here.sort_by_key(|attachment| key(&attachment.metadata));
        let fact = |attachment: &&railhead_crds::NetworkAttachment| {
            let namespace = key(&attachment.metadata).0;
            let spec = &attachment.spec;
            let wired = attachment
                .status
                .as_ref()
                .and_then(|status| status.summary.as_deref())
                .unwrap_or("0");
            let text = format!(
                "pod {namespace}/{}: index {} of {}, {wired} rails",
                spec.pod_name, spec.index, spec.slice_name
            );
            let made = attachment.metadata.creation_timestamp.as_ref().map(|time| time.0);
            Fact::new("attached", text, named("NetworkAttachment", &attachment.metadata)).since(made, self.now)
        };
        let mut facts: Vec<Fact> = here.iter().take(SHOWN).map(fact).collect();
        if here.len() > SHOWN {
            let text = format!("and {} pods more", here.len() - SHOWN);
            facts.push(Fact::new("attached", text, "NetworkAttachments"));
        }
        facts
    }
}
