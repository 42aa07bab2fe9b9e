//! A network: what it asked for and got, or why it got nothing and who has it; which of its pods wait. Pure.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::{Fabric, FabricLedger, NetworkSlice, TrainingNetwork, names};

use super::{WhyReport, conditions_of, ledger};
use crate::{
    cluster::{Cluster, Kind, key},
    facts::{Fact, Level},
    lookup::{Conditions as _, Lookup, condition, has_ended, is_true, named, network_of},
    waits,
};

/// How many waiting pods, and how many that are less than declared, are shown.
const SHOWN: usize = 16;

/// The nodes of pods that are not wired: of those that wait, and of those that hold what others wait for.
pub(super) fn nodes(cluster: &Cluster, network: &TrainingNetwork) -> BTreeSet<String> {
    let lookup = Lookup::new(cluster);
    let waiting = lookup
        .pods(network)
        .iter()
        .filter(|pod| waits::of(&lookup, pod).is_some());
    let mut nodes: BTreeSet<String> = waiting.filter_map(|pod| pod.spec.node_name.clone()).collect();
    let waits = waits::of_network(&lookup, network);
    let indices: BTreeSet<u32> = waits.iter().filter_map(|(_, wait)| wait.index).collect();
    let attachments = lookup.slice(network).map_or(&[][..], |slice| lookup.attachments(slice));
    let holders = attachments
        .iter()
        .filter(|attachment| indices.contains(&attachment.spec.index));
    nodes.extend(holders.map(|holder| holder.spec.node_name.clone()));
    nodes
}

pub(super) fn report(cluster: &Cluster, network: &TrainingNetwork) -> WhyReport {
    let lookup = Lookup::new(cluster);
    let seen = Seen {
        lookup: &lookup,
        network,
        object: named("TrainingNetwork", &network.metadata),
        now: cluster.read_at,
    };
    let slice = lookup.slice(network);
    let mut facts = vec![seen.asks()];
    facts.extend(conditions_of(cluster, &seen.object, "says", network.conditions()));
    match slice {
        Some(slice) => facts.extend(seen.slice(slice)),
        None => facts.extend(seen.refused()),
    }
    facts.extend(seen.template());
    facts.extend(seen.pods(slice));
    let verdict = seen.verdict();
    let (namespace, name) = key(&network.metadata);
    WhyReport::new(
        "TrainingNetwork",
        Some(namespace.to_owned()),
        name.to_owned(),
        verdict,
        facts,
    )
}

struct Seen<'a> {
    lookup: &'a Lookup<'a>,
    network: &'a TrainingNetwork,
    object: String,
    now: Timestamp,
}

impl Seen<'_> {
    fn verdict(&self) -> String {
        let conditions = self.network.conditions();
        let Some(ready) = condition(conditions, "Ready") else {
            return "the operator has not looked at it yet".to_owned();
        };
        if ready.status != "True" {
            return format!("not Ready, {}: {}", ready.reason, ready.message);
        }
        let attached = condition(conditions, "Attached").map_or("", |attached| attached.message.as_str());
        match condition(conditions, "Degraded").filter(|degraded| degraded.status == "True") {
            Some(degraded) => format!("Ready, {attached}; degraded: {}", degraded.message),
            None => format!("Ready, {attached}"),
        }
    }

    fn asks(&self) -> Fact {
        let spec = &self.network.spec;
        let status = self.network.status.as_ref();
        let or_default = |named: &Option<String>, used: Option<&String>| match (named, used) {
            (Some(name), _) => name.clone(),
            (None, Some(used)) => format!("{used} (the default)"),
            (None, None) => "the default".to_owned(),
        };
        let rails = match &spec.rails {
            None => "all rails".to_owned(),
            Some(rails) => match (&rails.names, rails.count) {
                (Some(names), _) => format!("rails {}", names.join(", ")),
                (None, Some(count)) => format!("the first {count} rails"),
                (None, None) => "all rails".to_owned(),
            },
        };
        let room = spec
            .max_pods
            .map_or_else(String::new, |room| format!(" (room for {room})"));
        let bandwidth = spec
            .bandwidth_per_rail
            .map_or_else(String::new, |bandwidth| format!(", {bandwidth} per rail"));
        let fabric = or_default(&spec.fabric_name, status.and_then(|status| status.fabric_name.as_ref()));
        let class = or_default(
            &spec.qos_class_name,
            status.and_then(|status| status.qos_class_name.as_ref()),
        );
        let text = format!(
            "{} pods{room} on {rails} of Fabric {fabric}, class {class}{bandwidth}",
            spec.pods
        );
        let made = self.network.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Fact::new("asks for", text, format!("{}, spec", self.object)).since(made, self.now)
    }

    fn slice(&self, slice: &NetworkSlice) -> Vec<Fact> {
        let object = named("NetworkSlice", &slice.metadata);
        let made = slice.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let fact = |about: &str, text: String| Fact::new(about, text, format!("{object}, spec")).since(made, self.now);
        let spec = &slice.spec;
        let text = format!(
            "{}: indices 0 to {} of {} slots from {}, {} guaranteed per pod and rail, DSCP {}, priority {}",
            slice.name_any(),
            spec.pods.saturating_sub(1),
            spec.capacity,
            spec.base,
            spec.qos.guaranteed,
            spec.qos.dscp,
            spec.qos.priority
        );
        let mut facts = vec![fact("slice", text)];
        for rail in &spec.rails {
            let vlan = rail
                .vlan
                .map_or_else(|| "no VLAN".to_owned(), |vlan| format!("VLAN {vlan}"));
            let blocks = rail
                .prefixes
                .iter()
                .map(|block| format!("{} of pool {}", block.prefix, block.pool));
            let blocks: Vec<String> = blocks.collect();
            facts.push(fact(&rail.name, format!("{}, {vlan}", blocks.join(" and "))));
        }
        let quarantined = condition(slice.conditions(), names::QUARANTINED).filter(|said| said.status == "True");
        facts.extend(quarantined.map(|said| Fact::of_condition("slice", said, Level::Wrong, &object, self.now)));
        facts.extend(self.ledger(&spec.fabric.name).and_then(|ledger| self.entry(ledger)));
        facts
    }

    fn ledger(&self, fabric: &str) -> Option<&FabricLedger> {
        let mut ledgers = self.lookup.cluster.ledgers.iter();
        ledgers.find(|ledger| key(&ledger.metadata).1 == fabric)
    }

    fn entry(&self, ledger: &FabricLedger) -> Option<Fact> {
        let uid = self.network.metadata.uid.as_deref()?;
        let entry = ledger.spec.entries.iter().find(|entry| entry.owner.uid == uid)?;
        Some(ledger::holder(
            entry,
            &named("FabricLedger", &ledger.metadata),
            self.now,
        ))
        .map(|mut fact| {
            "ledger".clone_into(&mut fact.about);
            fact
        })
    }

    /// Who has what the network did not get.
    fn refused(&self) -> Vec<Fact> {
        let reserved = condition(self.network.conditions(), "Reserved");
        match reserved.map(|reserved| reserved.reason.as_str()) {
            Some("PoolExhausted" | "VlanExhausted") => {
                let ledger = self.fabric().and_then(|fabric| self.ledger(&fabric.name_any()));
                ledger.map_or_else(Vec::new, |ledger| ledger::holders(ledger, self.now))
            }
            Some("QuotaExceeded") => self.quotas(),
            _ => Vec::new(),
        }
    }

    /// The fabric that it asks for.
    fn fabric(&self) -> Option<&Fabric> {
        let used = self
            .network
            .status
            .as_ref()
            .and_then(|status| status.fabric_name.as_ref());
        let named = self.network.spec.fabric_name.as_ref().or(used);
        let mut fabrics = self.lookup.cluster.fabrics.iter();
        match named {
            Some(name) => fabrics.find(|fabric| key(&fabric.metadata).1 == name),
            None => fabrics.find(|fabric| is_true(fabric.conditions(), "Default")),
        }
    }

    fn quotas(&self) -> Vec<Fact> {
        let namespace = key(&self.network.metadata).0;
        let quotas = self.lookup.cluster.quotas.iter();
        let quotas = quotas.filter(|quota| key(&quota.metadata).0 == namespace);
        let fact = |quota: &railhead_crds::NetworkQuota| {
            let summary = quota
                .status
                .as_ref()
                .and_then(|status| status.summary.clone())
                .unwrap_or_default();
            let text = format!(
                "{}: used of what is allowed: {} networks, {} pods, {} bandwidth, {} VLANs",
                quota.name_any(),
                summary.networks,
                summary.pods,
                summary.bandwidth,
                summary.vlans
            );
            Fact::new(
                "quota",
                text,
                format!("{}, status", named("NetworkQuota", &quota.metadata)),
            )
        };
        quotas.map(fact).collect()
    }

    /// Whether pods can get claims.
    fn template(&self) -> Option<Fact> {
        let name = names::claim_template(&self.network.name_any());
        let namespace = key(&self.network.metadata).0;
        if !self.lookup.cluster.has_read(Kind::Templates) {
            return None;
        }
        let object = format!("ResourceClaimTemplate {namespace}/{name}");
        let mut templates = self.lookup.cluster.templates.iter();
        let found = templates.find(|template| key(&template.metadata) == (namespace, name.as_str()));
        let Some(template) = found else {
            let fact = Fact::new("template", format!("{name} is not there: no pod gets a claim"), object);
            return is_true(self.network.conditions(), "Ready").then(|| fact.level(Level::Wrong));
        };
        let made = template.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Some(Fact::new("template", format!("pods get their claims from {name}"), object).since(made, self.now))
    }

    fn pods(&self, slice: Option<&NetworkSlice>) -> Vec<Fact> {
        let pods = self.lookup.pods(self.network);
        let name = self.network.name_any();
        let source = format!("Pods with the label {}: {name}", names::NETWORK_LABEL);
        let mut facts = Vec::new();
        if self.lookup.cluster.has_read(Kind::Pods) {
            let ended = pods.iter().filter(|pod| has_ended(pod)).count();
            debug_assert!(pods.iter().all(|pod| network_of(pod) == Some(&name)));
            let text = format!("{} carry the label, {ended} of them have ended", pods.len());
            facts.push(Fact::new("pods", text, source));
        }
        let attachments = slice.map_or(&[][..], |slice| self.lookup.attachments(slice));
        let wired = attachments
            .iter()
            .filter(|attachment| is_true(attachment.conditions(), "Wired"))
            .count();
        if slice.is_some() {
            let pods = self.network.spec.pods;
            let within = attachments
                .iter()
                .filter(|attachment| attachment.spec.index < pods)
                .count();
            let beyond = match attachments.len() - within {
                0 => String::new(),
                beyond => format!(", and {beyond} beyond them, which their pods keep while they live"),
            };
            let text = format!("{within} of {pods} indices are taken{beyond}; {wired} pods are wired");
            facts.push(Fact::new("indices", text, "NetworkAttachments"));
        }
        let degraded = attachments.iter().filter_map(|attachment| {
            let said = condition(attachment.conditions(), "Degraded").filter(|said| said.status == "True")?;
            let about = format!("index {}", attachment.spec.index);
            let object = named("NetworkAttachment", &attachment.metadata);
            Some(Fact::of_condition(about, said, Level::Wrong, &object, self.now))
        });
        facts.extend(degraded.take(SHOWN));
        let waits = waits::of_network(self.lookup, self.network);
        let more = waits.len().saturating_sub(SHOWN);
        for (pod, wait) in waits.into_iter().take(SHOWN) {
            let mut fact = wait.fact;
            fact.text = format!("pod {pod}: {}", fact.text);
            facts.push(fact);
        }
        if more > 0 {
            facts.push(Fact::new("waits", format!("and {more} pods more"), "Pods").level(Level::Waits));
        }
        facts
    }
}
