//! A pod, from its label to its functions. Pure.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{
    AttachedRail, AttachmentState, NetworkAttachment, NetworkSlice, TrainingNetwork,
    names::{ATTACH_ANNOTATION, NETWORK_LABEL, POD_CLAIM},
};
use railhead_planner::{
    bandwidth,
    index::{self, IndexChoice, Space},
};

use super::{WhyReport, level_of};
use crate::{
    cluster::{Claim, Cluster, Pod, key},
    facts::{Fact, Level},
    lookup::{Conditions as _, Lookup, condition, has_ended, named, network_of},
    waits,
};

/// How many warnings are shown.
const WARNINGS: usize = 3;
/// How many ports are named where none has enough.
const PORTS: usize = 3;

/// The name of the pod's claim for rails, once Kubernetes has made it.
pub(super) fn claim(pod: &Pod) -> Option<&str> {
    let mut claims = pod.status.resource_claim_statuses.iter();
    claims
        .find(|claim| claim.name == POD_CLAIM)?
        .resource_claim_name
        .as_deref()
}

/// The nodes that have to do with a pod: its own, and that of whoever has its index.
pub(super) fn nodes(cluster: &Cluster, uid: Option<&str>) -> BTreeSet<String> {
    let lookup = Lookup::new(cluster);
    let Some(pod) = uid.and_then(|uid| lookup.pod_by_uid(uid)) else {
        return BTreeSet::new();
    };
    let mut nodes: BTreeSet<String> = pod.spec.node_name.iter().cloned().collect();
    let holder = || {
        let network = lookup.network(key(&pod.metadata).0, network_of(pod)?)?;
        let wait = waits::of(&lookup, pod)?;
        let mut attachments = lookup.attachments(lookup.slice(network)?).iter();
        attachments.find(|attachment| Some(attachment.spec.index) == wait.index)
    };
    nodes.extend(holder().map(|holder| holder.spec.node_name.clone()));
    nodes
}

/// Whether the scheduler found no node for a pod.
pub(super) fn has_no_room(cluster: &Cluster, uid: Option<&str>) -> bool {
    let pod = cluster.pods.iter().find(|pod| pod.metadata.uid.as_deref() == uid);
    let scheduled = pod.and_then(Pod::scheduled);
    scheduled.is_some_and(|said| said.reason.as_deref() == Some("Unschedulable"))
}

pub(super) fn report(cluster: &Cluster, name: &str) -> WhyReport {
    let lookup = Lookup::new(cluster);
    let namespace = cluster.namespace.clone().unwrap_or_default();
    let mut pods = cluster.pods.iter();
    let found = pods.find(|pod| key(&pod.metadata) == (namespace.as_str(), name));
    let Some(pod) = found else {
        return WhyReport::new(
            "Pod",
            Some(namespace),
            name.to_owned(),
            "it is gone meanwhile",
            Vec::new(),
        );
    };
    let seen = Seen {
        lookup: &lookup,
        pod,
        object: named("Pod", &pod.metadata),
        now: cluster.read_at,
    };
    let (verdict, facts) = seen.facts();
    WhyReport::new("Pod", Some(namespace), name.to_owned(), verdict, facts)
}

struct Seen<'a> {
    lookup: &'a Lookup<'a>,
    pod: &'a Pod,
    object: String,
    now: Timestamp,
}

impl Seen<'_> {
    fn facts(&self) -> (String, Vec<Fact>) {
        let Some(network_name) = network_of(self.pod) else {
            let fact = Fact::new("label", format!("it has no label {NETWORK_LABEL}"), &self.object).help(format!(
                "a pod joins a network with the label {NETWORK_LABEL}: <network> in its template"
            ));
            return ("it has nothing to do with Railhead".to_owned(), vec![fact]);
        };
        let mut facts = vec![self.label(network_name)];
        let network = self.lookup.network(key(&self.pod.metadata).0, network_name);
        let slice = network.and_then(|network| self.lookup.slice(network));
        let own = self.lookup.attachment_of(self.pod);
        if let Some(network) = network {
            facts.extend(self.network(network));
        }
        if let (Some(network), Some(slice)) = (network, slice) {
            facts.push(self.slice(slice));
            facts.extend(self.index(network, own));
        }
        facts.extend(self.node());
        facts.extend(self.claim());
        if let Some(own) = own {
            facts.extend(self.rails(slice, own));
            facts.extend(self.wiring(own));
        }
        let wait = waits::of(self.lookup, self.pod);
        let verdict = match &wait {
            Some(wait) => format!("it waits: {}", wait.fact.text),
            None if has_ended(self.pod) => "it has ended".to_owned(),
            None if own.is_none() && self.pod.metadata.deletion_timestamp.is_some() => "it is being deleted".to_owned(),
            None => Self::wired(own),
        };
        facts.extend(wait.map(|wait| wait.fact));
        facts.extend(slice.and_then(|slice| self.no_room(slice)));
        facts.extend(self.containers());
        facts.extend(self.warnings());
        (verdict, facts)
    }

    fn wired(own: Option<&NetworkAttachment>) -> String {
        let Some(own) = own else {
            return "nothing is known of its rails".to_owned();
        };
        let rails = own
            .status
            .as_ref()
            .and_then(|status| status.summary.as_deref())
            .unwrap_or("?");
        let place = format!("index {} on {}, {rails} rails", own.spec.index, own.spec.node_name);
        match condition(own.conditions(), "Degraded").filter(|degraded| degraded.status == "True") {
            Some(degraded) => format!(
                "it is wired as {place}, and has less than was declared: {}",
                degraded.message
            ),
            None => format!("it is wired as {place}"),
        }
    }

    fn label(&self, network: &str) -> Fact {
        let made = self.pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let workload = index::workload(&self.pod.metadata);
        let workload = workload.map_or_else(String::new, |workload| format!(", of {workload}"));
        let fact = Fact::new(
            "label",
            format!("{NETWORK_LABEL}: {network}{workload}"),
            format!("{}, labels", self.object),
        );
        let fact = fact.since(made, self.now);
        if self.pod.annotations().contains_key(ATTACH_ANNOTATION) {
            return fact;
        }
        fact.level(Level::Wrong).help(format!(
            "it was made without the annotation {ATTACH_ANNOTATION}, while Railhead's admission policy was not there: make it anew"
        ))
    }

    fn network(&self, network: &TrainingNetwork) -> Option<Fact> {
        let ready = condition(network.conditions(), "Ready")?;
        let object = named("TrainingNetwork", &network.metadata);
        Some(Fact::of_condition("network", ready, level_of(ready), &object, self.now))
    }

    fn slice(&self, slice: &NetworkSlice) -> Fact {
        let qos = &slice.spec.qos;
        let maximum = qos
            .maximum
            .map_or_else(String::new, |maximum| format!(", at most {maximum}"));
        let text = format!(
            "{} of Fabric {}: class {}, DSCP {}, priority {}, {} guaranteed per rail{maximum}",
            slice.name_any(),
            slice.spec.fabric.name,
            qos.class_name,
            qos.dscp,
            qos.priority,
            qos.guaranteed
        );
        let made = slice.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Fact::new("slice", text, named("NetworkSlice", &slice.metadata)).since(made, self.now)
    }

    /// Which index, and where it comes from. Why there is none is told as what the pod waits for.
    fn index(&self, network: &TrainingNetwork, own: Option<&NetworkAttachment>) -> Option<Fact> {
        // A network that has grown and whose slice has not yet: why the pod waits is told.
        let slice = self.lookup.slice(network)?;
        let space = Space::new(network, slice.spec.pods);
        let choice = index::of(&self.pod.metadata, &space).ok();
        let labels = index::READ.iter().filter_map(|key| {
            let labels = self.pod.labels().get(*key);
            let value = labels.or_else(|| self.pod.annotations().get(*key))?;
            Some(format!("{key}={value}"))
        });
        let labels: Vec<String> = labels.collect();
        let origin = if labels.is_empty() {
            String::new()
        } else {
            format!(" <- {}", labels.join(", "))
        };
        if let Some(own) = own {
            let how = if matches!(choice, Some(IndexChoice::Any(_))) {
                ", the first that was free"
            } else {
                origin.as_str()
            };
            let text = format!("{}{how}", own.spec.index);
            let made = own.metadata.creation_timestamp.as_ref().map(|time| time.0);
            return Some(Fact::new("index", text, named("NetworkAttachment", &own.metadata)).since(made, self.now));
        }
        let text = match choice? {
            IndexChoice::Fixed(index) => format!("{index}{origin}"),
            IndexChoice::Any(span) => format!(
                "any free one of {} to {}",
                span.first,
                (span.first + span.pods).saturating_sub(1)
            ),
        };
        Some(Fact::new("index", text, format!("{}, labels", self.object)))
    }

    fn node(&self) -> Option<Fact> {
        let node = self.pod.spec.node_name.as_deref()?;
        let scheduled = self.pod.scheduled();
        let since = scheduled.and_then(|said| said.last_transition_time.as_ref().map(|time| time.0));
        let fact = Fact::new(
            "node",
            format!("{node}, chosen by the scheduler"),
            format!("{}, spec.nodeName", self.object),
        );
        let Some(lost) = self.lookup.lost(node) else {
            return Some(fact.since(since, self.now));
        };
        let fact = Fact::new("node", lost.to_string(), format!("Node {node}")).since(lost.since, self.now);
        Some(
            fact.level(Level::Wrong)
                .help(format!("kubectl railhead why node {node}")),
        )
    }

    fn claim(&self) -> Option<Fact> {
        let name = claim(self.pod)?;
        let namespace = key(&self.pod.metadata).0;
        let source = format!("ResourceClaim {namespace}/{name}");
        let mut claims = self.lookup.cluster.claims.iter();
        let found = claims.find(|claim| key(&claim.metadata) == (namespace, name))?;
        let made = found.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let ports: Vec<&str> = found.allocated.iter().map(|(_, device, _)| device.as_str()).collect();
        let text = if ports.is_empty() {
            format!("{name}: the scheduler has given it no ports yet")
        } else {
            let mbps = found.allocated.iter().map(|(_, _, mbps)| *mbps).max().unwrap_or(0);
            let each = railhead_crds::Bandwidth::from_mbps(mbps);
            format!(
                "{name}: {} of {}, {each} counted on each",
                ports.join(", "),
                found.allocated[0].0
            )
        };
        let fact = Fact::new("claim", text, source).since(made, self.now);
        Some(self.claim_of_others(found).map_or(fact.clone(), |why| {
            let text = format!("{}; {why}", fact.text);
            Fact { text, ..fact }.level(Level::Wrong)
        }))
    }

    /// That the claim is another pod's or another network's, which its own pod cannot use.
    fn claim_of_others(&self, claim: &Claim) -> Option<String> {
        let uid = self.pod.metadata.uid.as_deref();
        let others = claim.reserved_for.iter().filter(|(_, of)| Some(of.as_str()) != uid);
        let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
        let wanted = network_of(self.pod);
        match &claim.network {
            _ if !others.is_empty() => Some(format!("it is reserved for {} as well", others.join(", "))),
            Some((network, _)) if Some(network.as_str()) != wanted => {
                Some(format!("it asks for the rails of network {network}"))
            }
            _ => None,
        }
    }

    fn rails(&self, slice: Option<&NetworkSlice>, own: &NetworkAttachment) -> Vec<Fact> {
        let status = own.status.as_ref();
        let prepared = status.and_then(|status| status.prepared_at.as_deref()?.parse().ok());
        let object = named("NetworkAttachment", &own.metadata);
        let rails = status.map_or(&[][..], |status| &status.rails);
        let fact = |rail: &AttachedRail| {
            let name = slice.and_then(|slice| slice.spec.rails.iter().find(|planned| planned.id == rail.id));
            let name = name.map_or_else(|| format!("rail {}", rail.id), |planned| planned.name.clone());
            let mut parts = vec![rail.addresses.join(" ")];
            parts.extend(rail.vlan.map(|vlan| format!("VLAN {vlan}")));
            parts.push(format!("VF {}{}", rail.vf, self.port(own, rail.id)));
            parts.extend(rail.rdma_device.clone());
            parts.extend(rail.gid_index.map(|gid| format!("GID {gid}")));
            parts.push(format!("MAC {}", rail.mac));
            if rail.state == AttachmentState::Prepared {
                parts.push("not wired yet".to_owned());
            }
            Fact::new(name, parts.join("  "), format!("{object}, status.rails")).since(prepared, self.now)
        };
        rails.iter().map(fact).collect()
    }

    /// Of which port a function is.
    fn port(&self, own: &NetworkAttachment, rail: u32) -> String {
        let node = self.lookup.node_network(&own.spec.node_name);
        let mut ports = node
            .and_then(|node| node.status.as_ref())
            .into_iter()
            .flat_map(|status| &status.ports);
        let port = ports.find(|port| port.rail == rail);
        port.map_or_else(String::new, |port| {
            let speed = port.speed.map_or_else(String::new, |speed| format!(" {speed}"));
            format!(" of {}{speed} ({:?})", port.netdev, port.state)
        })
    }

    fn wiring(&self, own: &NetworkAttachment) -> Vec<Fact> {
        let object = named("NetworkAttachment", &own.metadata);
        let told = own
            .conditions()
            .iter()
            .filter(|said| said.type_ == "Wired" || said.status == "True");
        told.map(|said| Fact::of_condition("wiring", said, level_of(said), &object, self.now))
            .collect()
    }

    /// On which rail no node has what the network guarantees, where that is why the pod has no node.
    fn no_room(&self, slice: &NetworkSlice) -> Option<Fact> {
        let cluster = self.lookup.cluster;
        if cluster.ports.is_empty() || !has_no_room(cluster, self.pod.metadata.uid.as_deref()) {
            return None;
        }
        let held = cluster.claims.iter().filter_map(|claim| claim.held.as_ref());
        let ports = bandwidth::free(cluster.ports.iter().map(|ports| &ports.of_node), held);
        let rails: Vec<u32> = slice.spec.rails.iter().map(|rail| rail.id).collect();
        let (fabric, asked) = (&slice.spec.fabric.name, slice.spec.qos.guaranteed);
        let short = bandwidth::shortage(&ports, fabric, &rails, asked, PORTS)?;
        let most = short.ports.iter().map(|port| {
            let vfs = if port.vfs_free == 0 { " and no VF" } else { "" };
            format!("{} {} of {}{vfs}", port.node, port.free(), port.capacity)
        });
        let most: Vec<String> = most.collect();
        let source = cluster
            .ports
            .iter()
            .find(|ports| *ports.node == *short.ports.first().map_or("", |port| &*port.node));
        let source = source.map_or_else(
            || "ResourceSlices".to_owned(),
            |ports| named("ResourceSlice", &ports.metadata),
        );
        let text = format!(
            "no node has {asked} left on all of its rails; of the {} ports of rail {} most is left on: {}",
            short.count,
            short.rail,
            most.join(", ")
        );
        let fact = Fact::new("room", text, format!("{source} and ResourceClaims")).level(Level::Waits);
        Some(fact.help(
            "it starts when others end; or ask for less with bandwidthPerRail, in a network that is applied anew",
        ))
    }

    fn containers(&self) -> Vec<Fact> {
        let status = &self.pod.status;
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
        let waiting = containers.filter_map(|container| {
            let waiting = container.state.waiting.as_ref()?;
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            let message = waiting
                .message
                .as_deref()
                .map_or_else(String::new, |message| format!(": {message}"));
            let text = format!("container {} is {reason}{message}", container.name);
            Some(Fact::new("container", text, format!("{}, status", self.object)).level(Level::Waits))
        });
        // Before the pod has a node nobody has looked at its containers.
        waiting.filter(|_| self.pod.spec.node_name.is_some()).collect()
    }

    fn warnings(&self) -> Vec<Fact> {
        let uid = self.pod.metadata.uid.as_deref();
        let events = self.lookup.cluster.events.iter().rev();
        let own = events.filter(|event| event.warning && Some(event.about.uid.as_str()) == uid);
        let fact = |event: &crate::cluster::Event| {
            let count = if event.count > 1 {
                format!(" ({} times)", event.count)
            } else {
                String::new()
            };
            let text = format!("{}: {}{count}", event.reason, event.message);
            Fact::new("event", text, format!("Event by {}", event.reporter))
                .reason(&event.reason)
                .since(event.last, self.now)
        };
        own.take(WARNINGS).map(fact).collect()
    }
}
