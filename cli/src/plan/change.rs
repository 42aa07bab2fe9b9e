//! What would have to be otherwise so that a network fits: one change at a time, as small as it can be.

use railhead_crds::{Bandwidth, NetworkSlice, TrainingNetwork};
use railhead_planner::network::Resolved;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    reserve::Books,
    supply::{Supply, ids},
};
use crate::cluster::{Cluster, key};

/// A change with which a network fits.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    /// What is changed: `pods`, `bandwidthPerRail`, `rails` or `nodes`.
    what: &'static str,
    /// To what.
    to: String,
    /// In a sentence.
    pub(super) text: String,
    /// How much of what was asked, or is there, that is.
    #[serde(skip)]
    #[schemars(skip)]
    share: f64,
}

/// A network that does not fit.
pub(super) struct Case<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) network: &'a TrainingNetwork,
    pub(super) resolved: &'a Resolved,
    pub(super) slice: Option<&'a NetworkSlice>,
    pub(super) supply: &'a Supply,
    pub(super) books: &'a Books<'a>,
    /// Pods that have ports already.
    pub(super) attached: u32,
    pub(super) per_node: Option<u32>,
}

/// All of them, the smallest first.
pub(super) fn changes(case: &Case<'_>) -> Vec<Change> {
    let mut changes: Vec<Change> = [pods(case), bandwidth(case), rails(case), nodes(case)]
        .into_iter()
        .flatten()
        .collect();
    changes.sort_by(|a, b| a.share.total_cmp(&b.share));
    changes
}

impl Case<'_> {
    fn asked(&self) -> u64 {
        u64::from(self.network.spec.pods.saturating_sub(self.attached))
    }

    fn is_reserved(&self, network: &TrainingNetwork, resolved: &Resolved) -> bool {
        self.books.reserve(self.cluster, network, resolved, self.slice).is_ok()
    }
}

/// The part of something that goes.
#[allow(clippy::cast_precision_loss)] // It is compared with others of its kind.
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The largest number that holds, where it holds for the smaller ones too.
fn largest(most: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut yes, mut no) = (0, most.checked_add(1)?);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if holds(middle) { yes = middle } else { no = middle }
    }
    (yes > 0).then_some(yes)
}

/// Fewer pods. `maxPods` goes with them where it is what is too much; groups stay whole.
fn pods(case: &Case<'_>) -> Option<Change> {
    let spec = &case.network.spec;
    let room = case
        .supply
        .fits(&ids(case.resolved), case.resolved.guaranteed, case.per_node);
    let room = room.saturating_add(case.attached.into()).min(u64::from(spec.pods));
    let group = u64::from(spec.pods / spec.groups.unwrap_or(1).max(1));
    let group = if spec.groups.is_some_and(|groups| groups > 1) {
        group
    } else {
        1
    };
    let with = |pods: u64| {
        let mut network = case.network.clone();
        network.spec.pods = u32::try_from(pods).unwrap_or(u32::MAX);
        network.spec.max_pods = network.spec.max_pods.map(|most| most.min(network.spec.pods));
        network
    };
    let most = largest(room / group, |groups| {
        case.is_reserved(&with(groups * group), case.resolved)
    })? * group;
    (most < u64::from(spec.pods)).then(|| Change {
        what: "pods",
        to: most.to_string(),
        text: format!("{most} pods instead of {}", spec.pods),
        share: share(u64::from(spec.pods) - most, spec.pods.into()),
    })
}

/// Less bandwidth, as far as the class allows. A slice keeps what it has.
fn bandwidth(case: &Case<'_>) -> Option<Change> {
    let asked = case.resolved.guaranteed.mbps();
    if case.slice.is_some() || asked < 2 {
        return None;
    }
    let least = case
        .resolved
        .class
        .spec
        .bandwidth
        .smallest_guarantee
        .map_or(1, Bandwidth::mbps);
    let rails = ids(case.resolved);
    let has_room = |mbps: u64| case.supply.fits(&rails, Bandwidth::from_mbps(mbps), case.per_node) >= case.asked();
    let most = largest(asked - 1, has_room).filter(|mbps| *mbps >= least)?;
    let mut resolved = case.resolved.clone();
    resolved.guaranteed = Bandwidth::from_mbps(most);
    case.is_reserved(case.network, &resolved).then(|| Change {
        what: "bandwidthPerRail",
        to: resolved.guaranteed.to_string(),
        text: format!(
            "bandwidthPerRail {} instead of {}",
            resolved.guaranteed, case.resolved.guaranteed
        ),
        share: share(asked - most, asked),
    })
}

/// Fewer rails: those on which most pods have room.
fn rails(case: &Case<'_>) -> Option<Change> {
    let all = case.resolved.rails.len();
    if case.slice.is_some() || all < 2 {
        return None;
    }
    let fits = |rails: &[u32]| case.supply.fits(rails, case.resolved.guaranteed, case.per_node);
    let mut resolved = case.resolved.clone();
    resolved.rails.sort_by_key(|rail| std::cmp::Reverse(fits(&[rail.id])));
    while resolved.rails.len() > 1 {
        resolved.rails.pop();
        if fits(&ids(&resolved)) < case.asked() {
            continue;
        }
        resolved.rails.sort_by_key(|rail| rail.id);
        let names: Vec<&str> = resolved.rails.iter().map(|rail| rail.name.as_str()).collect();
        let left = u64::try_from(all - names.len()).unwrap_or(u64::MAX);
        return case.is_reserved(case.network, &resolved).then(|| Change {
            what: "rails",
            to: names.join(", "),
            text: format!("{} of its {all} rails: names: [{}]", names.len(), names.join(", ")),
            share: share(left, u64::try_from(all).unwrap_or(u64::MAX)),
        });
    }
    None
}

/// More nodes, such as most are.
fn nodes(case: &Case<'_>) -> Option<Change> {
    if !case.is_reserved(case.network, case.resolved) {
        return None;
    }
    let fabric = key(&case.resolved.fabric.metadata).1;
    let rails = ids(case.resolved);
    let fits = |supply: &Supply| supply.fits(&rails, case.resolved.guaranteed, case.per_node);
    let here = fits(case.supply);
    let of_one = fits(&case.supply.with_more(fabric, 1)).saturating_sub(here);
    let count = case
        .asked()
        .checked_sub(here)?
        .checked_add(of_one)?
        .checked_sub(1)?
        .checked_div(of_one)?;
    let nodes = u64::try_from(case.supply.nodes()).unwrap_or(u64::MAX);
    (count > 0).then(|| Change {
        what: "nodes",
        to: format!("+{count}"),
        text: format!("{count} nodes more, as most of its {nodes} are"),
        share: share(count, nodes),
    })
}
