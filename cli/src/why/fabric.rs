//! A fabric: how much of it is used and by whom, and what its conditions say. Pure.

use kube::ResourceExt as _;
use railhead_crds::Fabric;

use super::{WhyReport, conditions_of, ledger};
use crate::{
    cluster::{Cluster, key},
    facts::{Fact, Level},
    lookup::{Conditions as _, Lookup, condition, named},
    status::trouble,
};

/// How many nodes are shown that are not ready.
const SHOWN: usize = 16;

pub(super) fn report(cluster: &Cluster, fabric: &Fabric) -> WhyReport {
    let (object, name, now) = (named("Fabric", &fabric.metadata), fabric.name_any(), cluster.read_at);
    let mut facts = vec![spec(fabric, &object)];
    facts.extend(conditions_of(cluster, &object, "says", fabric.conditions()));
    facts.extend(rails(fabric, &object));
    let mut ledgers = cluster.ledgers.iter();
    match ledgers.find(|ledger| key(&ledger.metadata).1 == name) {
        Some(found) => {
            if let Some(recount) = &found.spec.recount {
                let text = format!(
                    "every node is asked what its pods hold, and until all have answered nothing new is given: {}",
                    recount.why
                );
                facts.push(Fact::new("recount", text, named("FabricLedger", &found.metadata)).level(Level::Wrong));
            }
            facts.extend(ledger::holders(found, now));
        }
        None => facts.push(Fact::new(
            "held",
            "no network holds anything",
            format!("FabricLedger {name}"),
        )),
    }
    facts.extend(nodes(cluster, &name));
    let verdict = match condition(fabric.conditions(), "Ready") {
        None => "the operator has not looked at it yet".to_owned(),
        Some(ready) if ready.status == "True" => format!("Ready: {}", ready.message),
        Some(ready) => format!("not Ready, {}: {}", ready.reason, ready.message),
    };
    WhyReport::new("Fabric", None, name, verdict, facts)
}

fn spec(fabric: &Fabric, object: &str) -> Fact {
    let spec = &fabric.spec;
    let default = if spec.default {
        ", for networks that name none"
    } else {
        ""
    };
    let text = format!(
        "{:?}, {} rails, MTU {}, VLANs {} to {}, VFs {:?}{default}",
        spec.link_type,
        spec.rails.len(),
        spec.mtu,
        spec.vlan.range.min,
        spec.vlan.range.max,
        spec.management.vfs
    );
    Fact::new("spec", text, format!("{object}, spec"))
}

fn rails(fabric: &Fabric, object: &str) -> Vec<Fact> {
    let used = fabric.status.as_ref().map_or(&[][..], |status| &status.pools);
    let fact = |rail: &railhead_crds::Rail| {
        let pools = rail.pools.iter().map(|pool| {
            let draining = if pool.draining { " (draining)" } else { "" };
            format!("{}{draining}", pool.cidr)
        });
        let pools: Vec<String> = pools.collect();
        let found = used.iter().find(|pool| pool.rail == rail.id);
        let used = found.map_or_else(|| "?".to_owned(), |pool| pool.used.clone());
        let largest = found.and_then(|pool| pool.largest_free.as_deref()).unwrap_or("none");
        let text = format!(
            "{}: {used} used, the largest prefix that a new network could get: {largest}",
            pools.join(", ")
        );
        Fact::new(&rail.name, text, format!("{object}, status.pools"))
    };
    fabric.spec.rails.iter().map(fact).collect()
}

fn nodes(cluster: &Cluster, fabric: &str) -> Vec<Fact> {
    let lookup = Lookup::new(cluster);
    let mut of_fabric: Vec<_> = cluster
        .node_networks
        .iter()
        .filter(|node| node.spec.fabric_name == fabric)
        .collect();
    of_fabric.sort_by_key(|node| &node.metadata.name);
    let troubles = of_fabric.iter().filter_map(|node| {
        let (reason, message, since) = trouble(&lookup, node)?;
        let object = named("NodeNetwork", &node.metadata);
        let fact = Fact::new("node", format!("{}: {message}", node.name_any()), object);
        Some(fact.reason(reason).level(Level::Wrong).since(since, cluster.read_at))
    });
    let mut facts: Vec<Fact> = troubles.collect();
    let more = facts.len().saturating_sub(SHOWN);
    facts.truncate(SHOWN);
    if more > 0 {
        let text = format!("and {more} nodes more: kubectl railhead status -o wide");
        facts.push(Fact::new("node", text, "NodeNetworks").level(Level::Wrong));
    }
    facts
}
