//! Slices and networks: each slice has its entry, its network, its fabric and its claim template, and lies where its pools are.

use ipnet::IpNet;
use k8s_openapi::jiff::SignedDuration;
use railhead_crds::{NetworkSlice, TrainingNetwork, names};
use railhead_planner::{
    claim,
    ledger::{self, Holding, Known},
    network::from_slice,
    pools::{self, Laid, Written},
};

use super::{
    finding::{self, Check, Finding, Remedy},
    repair::{Kind, Repair},
    seen::Seen,
};
use crate::{
    cluster::key,
    lookup::{Conditions as _, condition, is_true, named},
    output::age,
};

pub(super) fn check(seen: &Seen<'_>, idle: SignedDuration, found: &mut Vec<Finding>) {
    for fabric in seen.ledger_names() {
        let slices = seen.slices_on(fabric);
        let empty = ledger::empty();
        let spec = seen.ledger(fabric).unwrap_or(&empty);
        let is_known = ledger::check_version(spec).is_ok();
        let known = Known::of(spec);
        let laid = seen
            .fabric(fabric)
            .map(|of| pools::lay_out(&Written::of_fabric(of, Vec::new()), spec, &slices));
        for slice in slices {
            if is_known {
                entry(seen, fabric, &known, slice, found);
            }
            owners(seen, slice, found);
            if let Some(laid) = &laid {
                addresses(seen, fabric, laid, slice, found);
            }
            guard(slice, found);
            used(seen, idle, slice, found);
        }
    }
    for network in &seen.cluster.networks {
        check_network(seen, network, found);
    }
}

fn entry(seen: &Seen<'_>, fabric: &str, known: &Known<'_>, slice: &NetworkSlice, found: &mut Vec<Finding>) {
    let held = ledger::entry_of(slice);
    if slice.spec.rails.iter().any(|rail| rail.vlan != held.vlan) {
        found.push(Finding::new(
            Check::SliceOtherEntry,
            finding::slice(&slice.metadata),
            "its rails have different VLANs, and a network has one",
            "delete the pods of the network, then the network, and apply it anew",
            Remedy::by_hand("what its pods have on the wire cannot be told from it"),
        ));
    }
    // What somebody else has as well, or is said otherwise, is told as such.
    if known.has(&held) || seen.is_contested(&slice.spec.network.uid) {
        return;
    }
    found.push(Finding::new(
        Check::SliceWithoutEntry,
        finding::slice(&slice.metadata),
        format!(
            "it has {}, and FabricLedger {fabric} does not know that",
            Holding(&held)
        ),
        "nothing, while the operator runs: kubectl get pods -n railhead-system",
        Remedy::by_itself("the operator enters it again before it gives anybody anything new"),
    ));
}

fn owners(seen: &Seen<'_>, slice: &NetworkSlice, found: &mut Vec<Finding>) {
    let spec = &slice.spec;
    let uid_of = |fabric: &railhead_crds::Fabric| fabric.metadata.uid.clone().unwrap_or_default();
    if seen.fabric(&spec.fabric.name).map(uid_of).as_deref() != Some(&spec.fabric.uid) {
        found.push(Finding::new(
            Check::SliceWithoutFabric,
            finding::slice(&slice.metadata),
            format!(
                "its Fabric {} (UID {}) is gone, or was made anew",
                spec.fabric.name, spec.fabric.uid
            ),
            "delete its pods, then the network; apply it anew on a Fabric that is there",
            Remedy::by_hand("its pods go on, and somebody has to end them first"),
        ));
    }
    if seen.network(&spec.network.uid).is_some() || slice.metadata.deletion_timestamp.is_some() {
        return;
    }
    let holders = seen.holders(slice);
    let is_owned = slice
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == spec.network.uid);
    let remedy = if !holders.is_empty() {
        Remedy::by_hand(format!("pods still have its addresses: {}", some(&holders)))
    } else if is_owned {
        Remedy::by_itself("Kubernetes' garbage collector deletes it, within a minute")
    } else if !is_guarded(slice) {
        Remedy::by_hand("it has lost its finalizer too, which is put back first: run fsck again after that")
    } else {
        Remedy::Repair(Repair::delete(
            Kind::Slice,
            &slice.metadata,
            &spec.network.name,
            &spec.network.uid,
        ))
    };
    found.push(Finding::new(
        Check::SliceWithoutNetwork,
        finding::slice(&slice.metadata),
        format!(
            "its TrainingNetwork {} (UID {}) is gone, and it keeps {}",
            spec.network.name,
            spec.network.uid,
            Holding(&ledger::entry_of(slice))
        ),
        "delete its pods, if it has any; the operator gives back what it has when the last of them is gone",
        remedy,
    ));
}

/// The first few of them.
pub(super) fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn addresses(seen: &Seen<'_>, fabric: &str, laid: &Laid, slice: &NetworkSlice, found: &mut Vec<Finding>) {
    let spec = &slice.spec;
    let recorded = seen.ledger(fabric).map_or(&[][..], |ledger| &ledger.pools);
    let recorded = recorded
        .iter()
        .flat_map(|pool| &pool.rails)
        .map(|rail| (rail.id, rail.cidr.as_str()));
    let written = seen.fabric(fabric).into_iter().flat_map(|fabric| &fabric.spec.rails);
    let written = written.flat_map(|rail| rail.pools.iter().map(|pool| (rail.id, pool.cidr.as_str())));
    let pools: Vec<(u32, &str)> = recorded.chain(written).collect();
    for rail in &spec.rails {
        for block in &rail.prefixes {
            let pool = block.pool.to_string();
            let is_pool = pools.contains(&(rail.id, pool.as_str()));
            let is_place = laid.space.prefix(rail.id, spec.base, spec.capacity).map(IpNet::V4) == Some(block.prefix);
            if is_pool && is_place {
                continue;
            }
            let why = if is_pool {
                format!(
                    "slots {} to {} are other addresses there",
                    spec.base,
                    u64::from(spec.base) + u64::from(spec.capacity) - 1
                )
            } else {
                format!("neither the Fabric nor its ledger has the pool {pool}")
            };
            found.push(Finding::new(
                Check::SliceOutsidePool,
                finding::slice(&slice.metadata),
                format!("{} of {} is not where its block lies: {why}", block.prefix, rail.name),
                "delete the pods of the network, then the network, and apply it anew; meanwhile nobody else may get these addresses",
                Remedy::by_hand("its pods have these addresses, whoever else has them too"),
            ));
            return;
        }
    }
}

fn is_guarded(slice: &NetworkSlice) -> bool {
    let mut finalizers = slice.metadata.finalizers.iter().flatten();
    finalizers.any(|finalizer| finalizer == names::SLICE_FINALIZER)
}

fn guard(slice: &NetworkSlice, found: &mut Vec<Finding>) {
    if is_guarded(slice) || slice.metadata.deletion_timestamp.is_some() {
        return;
    }
    found.push(Finding::new(
        Check::SliceUnguarded,
        finding::slice(&slice.metadata),
        format!(
            "the finalizer {} is not on it: deleted now, its addresses could be another's while its pods run",
            names::SLICE_FINALIZER
        ),
        "kubectl railhead fsck --repair",
        Remedy::Repair(Repair::guard(Kind::Slice, &slice.metadata, names::SLICE_FINALIZER)),
    ));
}

/// Reserved, and nobody attached for long.
fn used(seen: &Seen<'_>, idle: SignedDuration, slice: &NetworkSlice, found: &mut Vec<Finding>) {
    let Some(network) = seen.network(&slice.spec.network.uid) else {
        return;
    };
    if network.metadata.deletion_timestamp.is_some() || !seen.holders(slice).is_empty() {
        return;
    }
    let since = condition(slice.conditions(), "InUse").map(|in_use| in_use.last_transition_time.0);
    let made = slice.metadata.creation_timestamp.as_ref().map(|made| made.0);
    let Some(since) = since.or(made) else { return };
    if seen.cluster.read_at.duration_since(since) < idle {
        return;
    }
    let (namespace, name) = key(&network.metadata);
    found.push(Finding::new(
        Check::ReservedIdle,
        named("TrainingNetwork", &network.metadata),
        format!(
            "it has {} and no pod has been attached for {}",
            Holding(&ledger::entry_of(slice)),
            age(since, seen.cluster.read_at)
        ),
        format!("if nobody needs it: kubectl delete trainingnetwork -n {namespace} {name}"),
        Remedy::by_hand("its owner may be about to use it"),
    ));
}

fn check_network(seen: &Seen<'_>, network: &TrainingNetwork, found: &mut Vec<Finding>) {
    if network.metadata.deletion_timestamp.is_some() {
        return;
    }
    let uid = network.metadata.uid.as_deref().unwrap_or_default();
    let Some(slice) = seen.slice_of(uid) else {
        if is_true(network.conditions(), "Reserved") {
            found.push(Finding::new(
                Check::NetworkWithoutSlice,
                named("TrainingNetwork", &network.metadata),
                "it says that it is reserved, and its NetworkSlice is gone",
                "nothing, while the operator runs: kubectl get pods -n railhead-system",
                Remedy::by_itself("the operator makes it again of what the ledger holds for the network"),
            ));
        }
        return;
    };
    // A network in quarantine offers no template.
    if seen.is_contested(uid) || slice.metadata.deletion_timestamp.is_some() {
        return;
    }
    let (namespace, name) = key(&network.metadata);
    let wanted = claim::template(network, &from_slice(slice, seen.fabric(&slice.spec.fabric.name)));
    let template_name = names::claim_template(name);
    let stored = seen.template(namespace, &template_name);
    let (check, object, text) = match stored {
        None => (
            Check::TemplateMissing,
            named("TrainingNetwork", &network.metadata),
            format!("its ResourceClaimTemplate {template_name} is not there: new pods wait"),
        ),
        Some(stored) if !claim::same_template(stored, &wanted) => (
            Check::TemplateOther,
            named("ResourceClaimTemplate", &stored.metadata),
            format!(
                "it does not ask for what TrainingNetwork {namespace}/{name} has (its rails, its guarantee, its UID): pods that get claims from it are refused"
            ),
        ),
        Some(_) => return,
    };
    let is_others = stored.is_some_and(|stored| claim::network_of_template(stored).is_none());
    let remedy = if is_others {
        Remedy::by_hand("it is none of Railhead's: somebody else made it under that name")
    } else {
        Remedy::by_itself("the operator makes it as it should be when it looks at the network next, within minutes")
    };
    found.push(Finding::new(
        check,
        object,
        text,
        "nothing, while the operator runs; the condition Ready of the network says what is in its way",
        remedy,
    ));
}
