//! Two Fabrics of one cluster. Their pools have no address in common, or one of them gives nothing new from its pool: the one that
//! has networks there keeps it, and where none has, the older one.

use std::borrow::Borrow;

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::jiff::Timestamp;
use railhead_crds::{Fabric, FabricLedgerSpec, NetworkSlice};

use super::Outside;

const ADVICE: &str = "two networks would have one address; choose others";

fn name(fabric: &Fabric) -> &str {
    fabric.metadata.name.as_deref().unwrap_or_default()
}

/// Whether a fabric was there before another.
fn is_older(one: &Fabric, other: &Fabric) -> bool {
    let age = |fabric: &Fabric| {
        let since = fabric.metadata.creation_timestamp.as_ref();
        (since.map_or(Timestamp::MAX, |at| at.0), name(fabric).to_owned())
    };
    age(one) < age(other)
}

/// Whether somebody has some of a pool, as its ledger records it.
pub fn is_recorded(ledger: &FabricLedgerSpec, cidr: &str) -> bool {
    let mut rails = ledger.pools.iter().flat_map(|row| &row.rails);
    rails.any(|rail| rail.cidr == cidr)
}

/// Whether a slice has some of a pool.
pub fn has_some_of(slice: &NetworkSlice, cidr: &str) -> bool {
    let pool: Option<IpNet> = cidr.parse().ok();
    let mut blocks = slice.spec.rails.iter().flat_map(|rail| &rail.prefixes);
    blocks.any(|block| Some(block.pool) == pool)
}

fn pools(fabric: &Fabric) -> impl Iterator<Item = (&str, Ipv4Net)> {
    let pools = fabric.spec.rails.iter().flat_map(|rail| &rail.pools);
    pools.filter_map(|pool| Some((pool.cidr.as_str(), pool.cidr.parse().ok()?)))
}

/// The pools of a fabric from which it gives nothing new, because another one has those addresses. `is_used` says of a fabric and a
/// pool whether networks have any of it.
pub fn overlaps(
    fabric: &Fabric,
    fabrics: &[impl Borrow<Fabric>],
    is_used: impl Fn(&str, &str) -> bool,
) -> Vec<Outside> {
    let own = name(fabric);
    let mut found = Vec::new();
    for other in fabrics.iter().map(Borrow::borrow) {
        let others = name(other);
        if others == own {
            continue;
        }
        for (cidr, mine) in pools(fabric) {
            for (theirs_cidr, theirs) in pools(other) {
                if !mine.contains(&theirs) && !theirs.contains(&mine) {
                    continue;
                }
                let (used, theirs_used) = (is_used(own, cidr), is_used(others, theirs_cidr));
                let why = match (used, theirs_used) {
                    (true, false) => continue,
                    (false, true) => "which has networks there",
                    (true, true) => "and both have networks there",
                    (false, false) if is_older(fabric, other) => continue,
                    (false, false) => "which is older",
                };
                found.push(Outside {
                    cidr: cidr.to_owned(),
                    other: format!("pool {theirs} of Fabric {others}, {why}"),
                    advice: ADVICE,
                });
            }
        }
    }
    found
}
