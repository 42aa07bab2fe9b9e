//! The rows of which somebody holds a part.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net};
use railhead_crds::{FabricLedgerSpec, LedgerPool, SliceRail};

use super::{
    holders::Holder,
    lines::{Line, LinePool},
};
use crate::slots::Interval;

/// A row as it was when somebody got a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) place: Interval,
    /// By rail id.
    pub(super) pools: BTreeMap<u32, Ipv4Net>,
}

/// All of them.
pub(super) struct InUse {
    /// No two share a slot.
    pub(super) rows: Vec<Known>,
    /// What slices have, by rail id, of which ledger or other slices say otherwise.
    pub(super) strays: Vec<(u32, Ipv4Net)>,
}

/// What a ledger says; rows that cannot be are left out, and found again from the slices.
pub(super) fn recorded(pools: &[LedgerPool]) -> Vec<Known> {
    let mut rows: Vec<Known> = Vec::with_capacity(pools.len());
    for pool in pools {
        let members = pool
            .rails
            .iter()
            .filter_map(|rail| Some((rail.id, rail.cidr.parse().ok()?)));
        let members: BTreeMap<u32, Ipv4Net> = members.collect();
        let mut lengths = members.values().map(Ipv4Net::prefix_len);
        let Some(length) = lengths.next().filter(|length| lengths.all(|other| other == *length)) else {
            continue;
        };
        let Some(place) = place(pool.base, length) else {
            continue;
        };
        if rows.iter().all(|row| !row.place.meets(place)) {
            rows.push(Known { place, pools: members });
        }
    }
    rows
}

/// The slots of a pool of that length which begins there.
fn place(base: u32, length: u8) -> Option<Interval> {
    let size = 1_u32.checked_shl(32 - u32::from(length))?;
    base.is_multiple_of(size).then(|| Interval::of(base, size))
}

pub(super) fn find(ledger: &FabricLedgerSpec, holders: &[Holder<'_>], lines: &[Line<'_>]) -> InUse {
    let mut found = InUse {
        rows: recorded(&ledger.pools),
        strays: Vec::new(),
    };
    for holder in holders {
        if let Some(slice) = holder.slice {
            for rail in &slice.spec.rails {
                found.learn(slice.spec.base, rail);
            }
        }
    }
    // Entries of the first release, whose slices are not there yet: rows were laid one after the other.
    for holder in holders.iter().filter(|holder| holder.slice.is_none()) {
        for slots in &holder.slots {
            if found.rows.iter().all(|row| !row.place.meets(*slots)) {
                found
                    .rows
                    .extend(one_after_the_other(lines).find(|row| row.place.meets(*slots)));
            }
        }
    }
    found.prune(holders);
    found
}

fn one_after_the_other<'a>(lines: &'a [Line<'_>]) -> impl Iterator<Item = Known> + 'a {
    let mut next = 0_u32;
    lines.iter().map_while(move |line| {
        let size = line.size()?;
        let start = next.checked_next_multiple_of(size)?;
        next = start.checked_add(size)?;
        let pools = line.pools.iter().map(|pool: &LinePool<'_>| (pool.rail.id, pool.net));
        Some(Known {
            place: Interval::of(start, size),
            pools: pools.collect(),
        })
    })
}

impl InUse {
    /// What a slice with that first slot says of a rail's pool.
    fn learn(&mut self, base: u32, rail: &SliceRail) {
        let found = rail.prefixes.iter().find_map(|block| match (block.pool, block.prefix) {
            (IpNet::V4(pool), IpNet::V4(prefix)) => Some((pool, prefix)),
            _ => None,
        });
        let Some((pool, prefix)) = found else { return };
        let offset = u32::from(prefix.network()).checked_sub(u32::from(pool.network()));
        let start = offset.and_then(|offset| base.checked_sub(offset));
        let place = start.and_then(|start| place(start, pool.prefix_len()));
        let Some(place) = place else {
            self.strays.push((rail.id, prefix));
            return;
        };
        let known = self.rows.iter_mut().find(|row| row.place.meets(place));
        match known {
            None => self.rows.push(Known {
                place,
                pools: BTreeMap::from([(rail.id, pool)]),
            }),
            Some(row) if row.place == place => {
                if *row.pools.entry(rail.id).or_insert(pool) != pool {
                    self.strays.push((rail.id, prefix));
                }
            }
            Some(_) => self.strays.push((rail.id, prefix)),
        }
    }

    /// Leaves what somebody uses.
    fn prune(&mut self, holders: &[Holder<'_>]) {
        for row in &mut self.rows {
            let of_row: Vec<&Holder<'_>> = holders.iter().filter(|holder| holder.meets(row.place)).collect();
            row.pools
                .retain(|rail, _| of_row.iter().any(|holder| holder.uses(*rail)));
        }
        self.rows.retain(|row| !row.pools.is_empty());
    }
}
