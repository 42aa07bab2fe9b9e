//! For what a pod waits before its rails work: who holds it, and what would help. Pure.

mod holder;
#[cfg(test)]
mod tests;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{
    NetworkAttachment, NetworkSlice, TrainingNetwork,
    names::{NETWORK_LABEL, attachment},
};
use railhead_planner::index::{self, IndexChoice, Space};

use crate::{
    cluster::{Kind, Pod, key},
    facts::{Fact, Level},
    lookup::{Conditions as _, Lookup, condition, has_ended, is_true, named, network_of},
    similar::similar,
};

/// What a pod waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// The index that it is to have, once that is known.
    pub(crate) index: Option<u32>,
    /// Why, with what would help.
    pub(crate) fact: Fact,
}

/// What a pod with the label waits for; none for one that is wired, or has ended.
pub(crate) fn of(lookup: &Lookup<'_>, pod: &Pod) -> Option<Wait> {
    let network_name = network_of(pod)?;
    if has_ended(pod) {
        return None;
    }
    let seen = Seen {
        lookup,
        pod,
        now: lookup.cluster.read_at,
        object: named("Pod", &pod.metadata),
    };
    let (namespace, _) = key(&pod.metadata);
    let Some(network) = lookup.network(namespace, network_name) else {
        return Some(Wait {
            index: None,
            fact: seen.no_network(namespace, network_name),
        });
    };
    let Some(slice) = lookup.slice(network) else {
        return Some(Wait {
            index: None,
            fact: seen.not_reserved(network),
        });
    };
    let own = lookup.attachment_of(pod);
    if own.is_some_and(|own| is_true(own.conditions(), "Wired")) {
        return None;
    }
    if let Some(own) = own {
        return Some(Wait {
            index: Some(own.spec.index),
            fact: seen.not_wired(own),
        });
    }
    // Nobody prepares it any more.
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(seen.without_attachment(network, slice))
}

/// A pod that is looked at.
struct Seen<'a> {
    lookup: &'a Lookup<'a>,
    pod: &'a Pod,
    now: Timestamp,
    object: String,
}

impl Seen<'_> {
    /// Why a pod waits, since it was made.
    fn waits(&self, reason: &str, text: impl Into<String>, source: impl Into<String>) -> Fact {
        let made = self.pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Fact::new("waits", text, source)
            .reason(reason)
            .level(Level::Waits)
            .since(made, self.now)
    }

    fn no_network(&self, namespace: &str, wanted: &str) -> Fact {
        let others = self.lookup.cluster.networks.iter();
        let others = others.filter(|network| key(&network.metadata).0 == namespace);
        let names: Vec<String> = others.map(kube::ResourceExt::name_any).collect();
        let help = match similar(wanted, names.iter().map(String::as_str)) {
            Some(name) => format!("did you mean {name}? Make the pod anew with {NETWORK_LABEL}: {name}"),
            None if names.is_empty() => format!("apply a TrainingNetwork {wanted} in {namespace}, which has none yet"),
            None => format!(
                "correct the label, or apply a TrainingNetwork {wanted}; there is {}",
                names.join(", ")
            ),
        };
        let text = format!("there is no TrainingNetwork {wanted} in namespace {namespace}");
        self.waits(
            "NetworkNotFound",
            text,
            format!("{}, label {NETWORK_LABEL}", self.object),
        )
        .level(Level::Wrong)
        .help(help)
    }

    fn not_reserved(&self, network: &TrainingNetwork) -> Fact {
        let object = named("TrainingNetwork", &network.metadata);
        if network.metadata.deletion_timestamp.is_some() {
            return self
                .waits(
                    "NetworkDeleting",
                    "its network is being deleted and takes no new pods",
                    object,
                )
                .help("apply the network anew when it is gone");
        }
        match condition(network.conditions(), "Reserved") {
            Some(reserved) => Fact::of_condition("waits", reserved, Level::Waits, &object, self.now),
            None => self
                .waits("Pending", "the operator has not looked at its network yet", object)
                .help("it takes a second; else kubectl get pods -n railhead-system: does the operator run?"),
        }
    }

    fn not_wired(&self, own: &NetworkAttachment) -> Fact {
        let object = named("NetworkAttachment", &own.metadata);
        let node = &own.spec.node_name;
        if let Some(fact) = self.node_trouble(node) {
            return fact;
        }
        match condition(own.conditions(), "Wired") {
            Some(wired) => Fact::of_condition("waits", wired, Level::Waits, &object, self.now),
            None => self.waits(
                "Wiring",
                format!("index and functions are prepared on {node}; its sandbox is not wired yet"),
                object,
            ),
        }
    }

    fn without_attachment(&self, network: &TrainingNetwork, slice: &NetworkSlice) -> Wait {
        if let Some(why) = slice.quarantine() {
            let text = format!("its network takes no new pods: {why}");
            let fact = self.waits("Quarantined", text, named("NetworkSlice", &slice.metadata));
            return Wait {
                index: None,
                fact: fact.level(Level::Wrong),
            };
        }
        let index = match self.index(network, slice) {
            Ok(index) => index,
            Err(wait) => return *wait,
        };
        if let Some(index) = index
            && let Some(holder) = self.held(slice, index)
        {
            return Wait {
                index: Some(index),
                fact: self.index_held(index, holder),
            };
        }
        Wait {
            index,
            fact: self.not_prepared(),
        }
    }

    /// Which index the pod is to have, as its agent finds it: among those that the slice has. None is any free one.
    fn index(&self, network: &TrainingNetwork, slice: &NetworkSlice) -> Result<Option<u32>, Box<Wait>> {
        let among = |pods| index::of(&self.pod.metadata, &Space::new(network, pods));
        let error = match among(slice.spec.pods) {
            Ok(IndexChoice::Fixed(index)) => return Ok(Some(index)),
            Ok(IndexChoice::Any(_)) => return Ok(None),
            Err(error) => error,
        };
        if let Ok(IndexChoice::Fixed(index)) = among(network.spec.pods) {
            let reserved = condition(network.conditions(), "Reserved").map_or("", |reserved| reserved.message.as_str());
            let text = format!(
                "the network has grown to {} pods only, and index {index} is not there yet: {reserved}",
                slice.spec.pods
            );
            let fact = self.waits("CannotGrow", text, named("TrainingNetwork", &network.metadata));
            let (index, fact) = (Some(index), fact.advised());
            return Err(Box::new(Wait { index, fact }));
        }
        let fact = self.waits(
            error.reason().name(),
            error.to_string(),
            format!("{}, labels", self.object),
        );
        let (index, fact) = (None, fact.level(Level::Wrong).advised());
        Err(Box::new(Wait { index, fact }))
    }

    /// Who else has the index.
    fn held(&self, slice: &NetworkSlice, index: u32) -> Option<&NetworkAttachment> {
        let mut attachments = self.lookup.attachments(slice).iter();
        attachments.find(|attachment| attachment.spec.index == index).copied()
    }

    /// The index is free, and no node has prepared the pod.
    fn not_prepared(&self) -> Fact {
        let scheduled = self.pod.scheduled();
        let Some(node) = self.pod.spec.node_name.as_deref() else {
            let why = scheduled
                .and_then(|said| said.message.as_deref())
                .unwrap_or("no scheduler has said why");
            let reason = scheduled.and_then(|said| said.reason.as_deref()).unwrap_or("Pending");
            return self
                .waits(reason, format!("it has no node: {why}"), format!("{}, condition PodScheduled", self.object))
                .help("kubectl railhead status names nodes and ports that are not ready, kubectl railhead why network what it asks for");
        };
        if let Some(fact) = self.node_trouble(node) {
            return fact;
        }
        let mut events = self.lookup.cluster.events.iter().rev();
        let uid = self.pod.metadata.uid.as_deref();
        if let Some(event) = events.find(|event| event.warning && Some(event.about.uid.as_str()) == uid) {
            let text = format!("it starts on {node}; last warning: {}: {}", event.reason, event.message);
            return self
                .waits(&event.reason, text, format!("Event of {}", self.object))
                .since(event.last, self.now);
        }
        self.waits(
            "Starting",
            format!("it starts on {node}, whose agent has not prepared it yet"),
            &self.object,
        )
        .help(format!(
            "if it stays so: kubectl describe pod, and the log of the agent on {node}"
        ))
    }

    /// That its node is in trouble, if it is.
    fn node_trouble(&self, node: &str) -> Option<Fact> {
        let lost = self.lookup.lost(node)?;
        Some(
            self.waits("NodeLost", format!("it is bound to {lost}"), format!("Node {node}"))
                .since(lost.since, self.now)
                .help(format!("kubectl railhead why node {node}")),
        )
    }

    fn index_held(&self, index: u32, holder: &NetworkAttachment) -> Fact {
        let who = holder::of(self.lookup, holder);
        let name = attachment(&holder.spec.slice_name, index);
        let (namespace, _) = key(&holder.metadata);
        self.waits(
            "IndexHeld",
            format!(
                "index {index} is held by pod {} on {}: {}",
                holder.spec.pod_name, holder.spec.node_name, who.text
            ),
            format!("NetworkAttachment {namespace}/{name}"),
        )
        .help(who.help)
    }
}

/// The pods of a network that wait, by index.
pub(crate) fn of_network(lookup: &Lookup<'_>, network: &TrainingNetwork) -> Vec<(String, Wait)> {
    if !lookup.cluster.has_read(Kind::Pods) {
        return Vec::new();
    }
    let pods = lookup.pods(network).iter();
    let mut waits: Vec<(String, Wait)> = pods
        .filter_map(|pod| Some((pod.name_any(), of(lookup, pod)?)))
        .collect();
    waits.sort_by(|(a, x), (b, y)| (x.index, a).cmp(&(y.index, b)));
    waits
}
