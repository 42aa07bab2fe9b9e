//! What a network asks for and what its slice holds.

mod settled;

use std::{borrow::Borrow, collections::HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use railhead_crds::{
    Bandwidth, Fabric, LedgerEntry, LedgerInterval, LedgerTakes, NetworkSlice, NetworkSliceSpec, NodeNetwork, QosClass,
    Rail, SliceFabric, SliceNetwork, SlicePrefix, SliceQos, SliceRail, TrainingNetwork, names, reasons::Reason,
};
use thiserror::Error;

pub use self::settled::from_slice;
use crate::{
    slots::{SlotError, SlotSpace},
    tenant::{Offer, Tenant},
};

/// A network with everything that its spec refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The fabric.
    pub fabric: Fabric,
    /// The class.
    pub class: QosClass,
    /// The chosen rails, by ascending id.
    pub rails: Vec<Rail>,
    /// Guaranteed bandwidth per pod and rail.
    pub guaranteed: Bandwidth,
    /// Maximum per pod and rail, the class's; `None` is line rate.
    pub maximum: Option<Bandwidth>,
}

/// Why a network cannot be reserved: the reason and the message of its condition.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unresolved {
    /// No such fabric, or none is the default.
    #[error("{0}")]
    FabricNotFound(String),
    /// No such class, or none is the default.
    #[error("{0}")]
    ClassNotFound(String),
    /// The fabric is for other namespaces.
    #[error("{0}")]
    FabricNotAllowed(String),
    /// The class is for other namespaces.
    #[error("{0}")]
    ClassNotAllowed(String),
    /// A rail that the fabric does not have.
    #[error("{0}")]
    RailNotFound(String),
    /// More than any port has.
    #[error("{0}")]
    BandwidthUnavailable(String),
    /// More than the class lets a pod have.
    #[error("{0}")]
    BandwidthAboveClass(String),
    /// Less than the class is for.
    #[error("{0}")]
    BandwidthBelowClass(String),
}

impl Unresolved {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::FabricNotFound(_) => Reason::FabricNotFound,
            Self::ClassNotFound(_) => Reason::ClassNotFound,
            Self::FabricNotAllowed(_) => Reason::FabricNotAllowed,
            Self::ClassNotAllowed(_) => Reason::ClassNotAllowed,
            Self::RailNotFound(_) => Reason::RailNotFound,
            Self::BandwidthUnavailable(_) => Reason::BandwidthUnavailable,
            Self::BandwidthAboveClass(_) => Reason::BandwidthAboveClass,
            Self::BandwidthBelowClass(_) => Reason::BandwidthBelowClass,
        }
    }
}

/// Finds what `network` of `tenant` refers to. `nodes` are the NodeNetworks known so far; a fabric without any is not judged by speed.
pub fn resolve(
    network: &TrainingNetwork,
    tenant: &Tenant<'_>,
    fabrics: &[impl Borrow<Fabric>],
    classes: &[impl Borrow<QosClass>],
    nodes: &[impl Borrow<NodeNetwork>],
) -> Result<Resolved, Unresolved> {
    let fabric = choose(
        network.spec.fabric_name.as_deref(),
        fabrics,
        |f| f.metadata.name.as_deref().unwrap_or_default(),
        |f| f.spec.default,
        "Fabric",
        "spec.fabricName",
    )
    .map_err(Unresolved::FabricNotFound)?;
    check_tenant(tenant, fabric, fabrics, offered_fabric).map_err(Unresolved::FabricNotAllowed)?;
    let class = choose(
        network.spec.qos_class_name.as_deref(),
        classes,
        |c| c.metadata.name.as_deref().unwrap_or_default(),
        |c| c.spec.default,
        "QosClass",
        "spec.qosClassName",
    )
    .map_err(Unresolved::ClassNotFound)?;
    check_tenant(tenant, class, classes, offered_class).map_err(Unresolved::ClassNotAllowed)?;
    let rails = choose_rails(network, fabric)?;
    let guaranteed = network
        .spec
        .bandwidth_per_rail
        .unwrap_or(class.spec.bandwidth.guaranteed);
    check_class(class, guaranteed, classes, tenant)?;
    check_speed(fabric, &rails, guaranteed, nodes)?;
    Ok(Resolved {
        fabric: fabric.clone(),
        class: class.clone(),
        rails,
        guaranteed,
        maximum: class.spec.bandwidth.maximum,
    })
}

fn choose<'a, T: 'a>(
    wanted: Option<&str>,
    all: &'a [impl Borrow<T>],
    name: impl Fn(&T) -> &str,
    is_default: impl Fn(&T) -> bool,
    kind: &str,
    field: &str,
) -> Result<&'a T, String> {
    let all = || all.iter().map(Borrow::borrow);
    let mut known: Vec<&str> = all().map(&name).collect();
    known.sort_unstable();
    let known = if known.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("there is {}", known.join(", "))
    };
    if let Some(wanted) = wanted {
        return all()
            .find(|item| name(item) == wanted)
            .ok_or_else(|| format!("{kind} {wanted:?} does not exist ({known}): correct {field} or create it"));
    }
    let mut defaults: Vec<&T> = all().filter(|item| is_default(item)).collect();
    match defaults.len() {
        1 => Ok(defaults.remove(0)),
        0 => Err(format!(
            "no {kind} says default: true ({known}): set {field}, or make one the default"
        )),
        _ => {
            let mut names: Vec<&str> = defaults.iter().map(|item| name(item)).collect();
            names.sort_unstable();
            Err(format!(
                "{} {kind} objects say default: true ({}): leave one, or set {field}",
                names.len(),
                names.join(", ")
            ))
        }
    }
}

fn choose_rails(network: &TrainingNetwork, fabric: &Fabric) -> Result<Vec<Rail>, Unresolved> {
    let mut rails = fabric.spec.rails.clone();
    rails.sort_by_key(|rail| rail.id);
    let fabric_name = fabric.metadata.name.as_deref().unwrap_or_default();
    let Some(wanted) = &network.spec.rails else {
        return Ok(rails);
    };
    if let Some(count) = wanted.count {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > rails.len() {
            return Err(Unresolved::RailNotFound(format!(
                "rails.count is {count}, fabric {fabric_name} has {} rails: ask for at most that many",
                rails.len()
            )));
        }
        rails.truncate(count);
        return Ok(rails);
    }
    let names = wanted.names.as_deref().unwrap_or_default();
    if let Some(unknown) = names.iter().find(|name| rails.iter().all(|rail| rail.name != **name)) {
        let known: Vec<&str> = rails.iter().map(|rail| rail.name.as_str()).collect();
        return Err(Unresolved::RailNotFound(format!(
            "fabric {fabric_name} has no rail {unknown:?} (it has {}): correct spec.rails.names",
            known.join(", ")
        )));
    }
    rails.retain(|rail| names.contains(&rail.name));
    Ok(rails)
}

fn offered_fabric(fabric: &Fabric) -> Offer<'_> {
    Offer {
        kind: "Fabric",
        field: "spec.fabricName",
        name: fabric.metadata.name.as_deref().unwrap_or_default(),
        allowed: fabric.spec.allowed_namespaces.as_ref(),
    }
}

fn offered_class(class: &QosClass) -> Offer<'_> {
    Offer {
        kind: "QosClass",
        field: "spec.qosClassName",
        name: class.metadata.name.as_deref().unwrap_or_default(),
        allowed: class.spec.allowed_namespaces.as_ref(),
    }
}

/// For whom something is, is the platform team's word.
fn check_tenant<'a, T: 'a>(
    tenant: &Tenant<'_>,
    chosen: &'a T,
    all: &'a [impl Borrow<T>],
    offer: fn(&'a T) -> Offer<'a>,
) -> Result<(), String> {
    let offers = all.iter().map(|item| offer(item.borrow()));
    let mut others: Vec<&str> = offers
        .filter(|offer| tenant.is_among(offer.allowed))
        .map(|offer| offer.name)
        .collect();
    others.sort_unstable();
    tenant.check(&offer(chosen), &others)
}

/// What a class allows at most and at least is the platform team's word; a network does not lift it.
fn check_class(
    class: &QosClass,
    guaranteed: Bandwidth,
    classes: &[impl Borrow<QosClass>],
    tenant: &Tenant<'_>,
) -> Result<(), Unresolved> {
    let at_most = |class: &QosClass| {
        let bandwidth = &class.spec.bandwidth;
        [bandwidth.maximum, bandwidth.largest_guarantee]
            .into_iter()
            .flatten()
            .min()
    };
    let at_least = |class: &QosClass| class.spec.bandwidth.smallest_guarantee;
    let is_above = |class: &QosClass| at_most(class).filter(|at_most| *at_most < guaranteed);
    let is_below = |class: &QosClass| at_least(class).filter(|at_least| *at_least > guaranteed);
    let others = || {
        let mut others: Vec<&str> = classes
            .iter()
            .map(Borrow::borrow)
            .filter(|class| is_above(class).is_none() && is_below(class).is_none())
            .filter(|class| tenant.is_among(class.spec.allowed_namespaces.as_ref()))
            .filter_map(|class| class.metadata.name.as_deref())
            .collect();
        others.sort_unstable();
        if others.is_empty() {
            String::new()
        } else {
            format!(
                " or name a class that allows it in spec.qosClassName ({})",
                others.join(", ")
            )
        }
    };
    let name = class.metadata.name.as_deref().unwrap_or_default();
    if let Some(at_most) = is_above(class) {
        return Err(Unresolved::BandwidthAboveClass(format!(
            "{guaranteed} per pod is more than QosClass {name} lets a network guarantee ({at_most}): lower spec.bandwidthPerRail{}",
            others()
        )));
    }
    if let Some(at_least) = is_below(class) {
        return Err(Unresolved::BandwidthBelowClass(format!(
            "{guaranteed} per pod is less than QosClass {name} lets a network guarantee ({at_least}): raise spec.bandwidthPerRail, leave it out for the class's {}{}",
            class.spec.bandwidth.guaranteed,
            others().replacen(" or", ", or", 1)
        )));
    }
    Ok(())
}

fn check_speed(
    fabric: &Fabric,
    rails: &[Rail],
    guaranteed: Bandwidth,
    nodes: &[impl Borrow<NodeNetwork>],
) -> Result<(), Unresolved> {
    let fabric_name = fabric.metadata.name.as_deref().unwrap_or_default();
    let ports = nodes
        .iter()
        .map(Borrow::borrow)
        .filter(|node: &&NodeNetwork| node.spec.fabric_name == fabric_name)
        .filter_map(|node| node.status.as_ref())
        .flat_map(|status| &status.ports);
    // The ports of one node are mostly enough to know.
    let mut slow: HashMap<u32, Option<Bandwidth>> = rails.iter().map(|rail| (rail.id, None)).collect();
    for port in ports {
        let Some(speed) = port.speed else { continue };
        if speed >= guaranteed {
            slow.remove(&port.rail);
            if slow.is_empty() {
                return Ok(());
            }
        } else if let Some(fastest) = slow.get_mut(&port.rail) {
            *fastest = (*fastest).max(Some(speed));
        }
    }
    let too_slow = rails
        .iter()
        .find_map(|rail| Some((rail, slow.get(&rail.id).copied().flatten()?)));
    if let Some((rail, fastest)) = too_slow {
        return Err(Unresolved::BandwidthUnavailable(format!(
            "{guaranteed} per pod is more than any port of {} has (fastest {fastest}): lower spec.bandwidthPerRail or choose another class",
            rail.name
        )));
    }
    Ok(())
}

/// What a network takes of the limits of its namespace.
pub fn takes(network: &TrainingNetwork, resolved: &Resolved) -> LedgerTakes {
    let rails = u32::try_from(resolved.rails.len()).unwrap_or(u32::MAX);
    LedgerTakes::new(network.spec.pods, rails, resolved.guaranteed)
}

/// The NetworkSlice of a reserved network, owned by it.
pub fn slice(
    network: &TrainingNetwork,
    resolved: &Resolved,
    space: &SlotSpace,
    entry: &LedgerEntry,
) -> Result<NetworkSlice, SlotError> {
    let name = network.metadata.name.clone().unwrap_or_default();
    let uid = network.metadata.uid.clone().unwrap_or_default();
    let fabric = &resolved.fabric;
    let [LedgerInterval { base, size, .. }] = entry.intervals[..] else {
        return Err(SlotError::Several {
            intervals: entry.intervals.len(),
        });
    };
    let rails = resolved
        .rails
        .iter()
        .map(|rail| {
            let outside = || SlotError::OutsidePools {
                base,
                size,
                rail: rail.name.clone(),
            };
            let prefix = space.prefix(rail.id, base, size).ok_or_else(outside)?;
            let pool = space.pool(rail.id, base).ok_or_else(outside)?;
            Ok(SliceRail {
                id: rail.id,
                name: rail.name.clone(),
                vlan: entry.vlan,
                prefixes: vec![SlicePrefix {
                    prefix: prefix.into(),
                    pool: pool.net.into(),
                    gateway: pool.gateway.map(Into::into),
                }],
            })
        })
        .collect::<Result<_, _>>()?;
    let mut slice = NetworkSlice::new(
        &names::slice(&name, &uid),
        NetworkSliceSpec {
            network: SliceNetwork {
                name: name.clone(),
                uid: uid.clone(),
            },
            fabric: SliceFabric {
                name: fabric.metadata.name.clone().unwrap_or_default(),
                uid: fabric.metadata.uid.clone().unwrap_or_default(),
                mtu: fabric.spec.mtu,
                link_type: fabric.spec.link_type,
                soft_roce: fabric.spec.soft_roce,
            },
            // As many as were counted when it was reserved, it grows when more are; an entry of a release that did not know maxPods has
            // room for fewer.
            pods: entry
                .takes
                .as_ref()
                .map_or(network.spec.pods, |takes| takes.pods.min(network.spec.pods))
                .min(size),
            base,
            capacity: size,
            ledger_sequence: entry.sequence,
            qos: SliceQos {
                class_name: resolved.class.metadata.name.clone().unwrap_or_default(),
                dscp: resolved.class.spec.dscp,
                priority: resolved.class.spec.priority,
                guaranteed: resolved.guaranteed,
                maximum: resolved.maximum,
                trust: resolved.class.spec.vf.trust,
                spoof_check: resolved.class.spec.vf.spoof_check,
            },
            rails,
        },
    );
    slice.metadata.namespace.clone_from(&network.metadata.namespace);
    slice.metadata.labels = Some([(names::NETWORK_LABEL.to_owned(), name.clone())].into());
    slice.metadata.finalizers = Some(vec![names::SLICE_FINALIZER.to_owned()]);
    slice.metadata.owner_references = Some(vec![owner(network)]);
    Ok(slice)
}

/// The network as an owner that does not block the deletion of what it owns.
pub(crate) fn owner(network: &TrainingNetwork) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/{}", railhead_crds::GROUP, railhead_crds::VERSION),
        kind: "TrainingNetwork".to_owned(),
        name: network.metadata.name.clone().unwrap_or_default(),
        uid: network.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
