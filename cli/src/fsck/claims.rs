//! Claims, claim templates and ports: what the scheduler counts is what networks have.

use std::collections::{HashMap, HashSet};

use railhead_crds::names;
use railhead_planner::{bandwidth, claim};

use super::{
    finding::{Check, Finding, Remedy},
    repair::{Kind, Repair},
    seen::Seen,
};
use crate::{
    cluster::{Claim, key},
    lookup::named,
};

pub(super) fn check(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let by_pod: HashMap<&str, &str> = seen
        .cluster
        .attachments
        .iter()
        .map(|attachment| (attachment.spec.claim_uid.as_str(), attachment.spec.slice_name.as_str()))
        .collect();
    for claim in seen.cluster.claims.iter().filter(|claim| !claim.allocated.is_empty()) {
        without_network(seen, claim, found);
        if let Some(slice) = claim.metadata.uid.as_deref().and_then(|uid| by_pod.get(uid)) {
            other(seen, claim, slice, found);
        }
    }
    ports(seen, found);
    templates(seen, found);
}

fn without_network(seen: &Seen<'_>, claim: &Claim, found: &mut Vec<Finding>) {
    let Some((network, uid)) = &claim.network else { return };
    let namespace = key(&claim.metadata).0;
    let is_there = seen
        .network(uid)
        .is_some_and(|found| key(&found.metadata).0 == namespace);
    if is_there || claim.metadata.deletion_timestamp.is_some() {
        return;
    }
    let lives = |(_, uid): &&(String, String)| seen.pod(uid).is_some();
    let owner = claim.metadata.owner_references.iter().flatten().next();
    let remedy = if let Some((pod, _)) = claim.reserved_for.iter().find(lives) {
        Remedy::by_hand(format!("pod {pod} has it, and is not ended from here"))
    } else if let Some((pod, _)) = claim.reserved_for.first() {
        Remedy::by_hand(format!(
            "it is reserved for {pod}, which is no pod with the label: if that is gone, Kubernetes' claim controller frees the claim within minutes"
        ))
    } else if let Some(owner) = owner {
        Remedy::by_itself(format!(
            "it goes with its owner, {} {}; Kubernetes' garbage collector deletes it when that is gone",
            owner.kind, owner.name
        ))
    } else {
        Remedy::Repair(Repair::delete(Kind::Claim, &claim.metadata, network, uid))
    };
    found.push(Finding::new(
        Check::ClaimWithoutNetwork,
        named("ResourceClaim", &claim.metadata),
        format!(
            "it holds {} of {} for TrainingNetwork {network} (UID {uid}), which is gone",
            count(claim.allocated.len(), "port"),
            pools(claim).join(", ")
        ),
        "delete the pod that has it, if there is one",
        remedy,
    ));
}

/// `1 port`, `2 ports`.
pub(super) fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

fn pools(claim: &Claim) -> Vec<String> {
    let mut pools: Vec<String> = claim.allocated.iter().map(|(pool, ..)| pool.clone()).collect();
    pools.sort_unstable();
    pools.dedup();
    pools
}

/// An attached pod's claim has the rails of its slice with the guarantee.
fn other(seen: &Seen<'_>, claim: &Claim, slice: &str, found: &mut Vec<Finding>) {
    let Some(slice) = seen.slice(key(&claim.metadata).0, slice) else {
        return;
    };
    let guaranteed = slice.spec.qos.guaranteed;
    let mut lacks = Vec::new();
    let devices: HashSet<&str> = claim.allocated.iter().map(|(_, device, _)| device.as_str()).collect();
    for rail in &slice.spec.rails {
        if !devices.contains(names::rail_device(rail.id).as_str()) {
            lacks.push(format!("nothing on {}", rail.name));
        }
    }
    for (_, device, mbps) in &claim.allocated {
        if *mbps < guaranteed.mbps() {
            lacks.push(format!("{} on {device}", railhead_crds::Bandwidth::from_mbps(*mbps)));
        }
    }
    if claim.allocated.len() > slice.spec.rails.len() {
        lacks.push(count(claim.allocated.len(), "port"));
    }
    if lacks.is_empty() {
        return;
    }
    found.push(Finding::new(
        Check::ClaimOther,
        named("ResourceClaim", &claim.metadata),
        format!(
            "it holds {}; its network has {guaranteed} on each of {}",
            lacks.join(", "),
            count(slice.spec.rails.len(), "rail")
        ),
        "delete the pod; the one that is made in its place gets a new claim",
        Remedy::by_hand("what is allocated to a pod does not change while it runs"),
    ));
}

fn ports(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let nodes = seen.cluster.ports.iter().map(|ports| &ports.of_node);
    let held = seen.cluster.claims.iter().filter_map(|claim| claim.held.as_ref());
    for port in bandwidth::free(nodes, held) {
        if port.used <= port.capacity {
            continue;
        }
        found.push(Finding::new(
            Check::PortOversold,
            format!("Node {} rail {}", port.node, port.rail),
            format!("{} is guaranteed to pods on a port of {}", port.used, port.capacity),
            "see the node's NodeNetwork: the link may be slower than it was; delete pods until the rest fits",
            Remedy::by_hand("which pod has to go is not for Railhead to say"),
        ));
    }
}

fn templates(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    for template in &seen.cluster.templates {
        let Some((network, uid)) = claim::network_of_template(template) else {
            continue;
        };
        let (namespace, name) = key(&template.metadata);
        let is_there = seen
            .network(&uid)
            .is_some_and(|found| key(&found.metadata).0 == namespace);
        if is_there || template.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let remedy = if name == names::claim_template(&network) {
            Remedy::by_itself("the operator takes it away within seconds")
        } else {
            Remedy::by_hand("somebody made it by hand under another name")
        };
        found.push(Finding::new(
            Check::TemplateWithoutNetwork,
            named("ResourceClaimTemplate", &template.metadata),
            format!("it is for TrainingNetwork {network} (UID {uid}), which is gone: claims made from it hold ports for nobody"),
            format!("kubectl delete resourceclaimtemplate -n {namespace} {name}"),
            remedy,
        ));
    }
}
