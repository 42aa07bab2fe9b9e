//! The pools as a Fabric lists them: a line is one pool of every rail, those with the same place in the lists.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use railhead_crds::{Pool, Rail};

use crate::slots::{Interval, SegmentPool, SlotError};

/// What a Fabric says of pools with the same place in the lists.
pub(super) struct Line<'a> {
    pub(super) number: usize,
    /// Those that can be read.
    pub(super) pools: Vec<LinePool<'a>>,
    /// The first thing that is wrong with them.
    pub(super) error: Option<SlotError>,
    pub(super) draining: bool,
}

pub(super) struct LinePool<'a> {
    pub(super) rail: &'a Rail,
    pub(super) written: &'a Pool,
    pub(super) net: Ipv4Net,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) excluded: Vec<Ipv4Net>,
}

impl LinePool<'_> {
    pub(super) fn segment(&self) -> SegmentPool {
        SegmentPool {
            net: self.net,
            gateway: self.gateway,
        }
    }

    /// The slots of a prefix within the pool, whose first address has the slot `first`.
    pub(super) fn slots_of(&self, first: u32, net: Ipv4Net) -> Interval {
        let start = first + (u32::from(net.network()) - u32::from(self.net.network()));
        Interval {
            start,
            end: start
                .saturating_add(u32::from(net.broadcast()) - u32::from(net.network()))
                .saturating_add(1),
        }
    }
}

impl Line<'_> {
    /// Slots that a row of it has; none if that is more than there are.
    pub(super) fn size(&self) -> Option<u32> {
        let net = self.pools.first()?.net;
        1_u32.checked_shl(u32::from(32 - net.prefix_len()))
    }

    /// What nobody gets of a row that begins at `place`.
    pub(super) fn excluded(&self, place: Interval) -> Vec<Interval> {
        let of_pool = |pool: &LinePool<'_>| {
            let gateway = pool.gateway.map(Ipv4Net::from);
            let all = gateway.into_iter().chain(pool.excluded.iter().copied());
            all.map(|net| pool.slots_of(place.start, net)).collect::<Vec<_>>()
        };
        self.pools.iter().flat_map(of_pool).collect()
    }

    pub(super) fn too_large(&self) -> SlotError {
        let first = self.pools.first();
        SlotError::TooLarge {
            rail: first.map(|pool| pool.rail.name.clone()).unwrap_or_default(),
            cidr: first.map(|pool| pool.net).unwrap_or_default(),
        }
    }
}

/// Reads the pools of a Fabric's rails.
pub(super) fn read(rails: &[Rail]) -> Vec<Line<'_>> {
    let count = rails.iter().map(|rail| rail.pools.len()).max().unwrap_or(0);
    (0..count).map(|number| line(rails, number)).collect()
}

fn line(rails: &[Rail], number: usize) -> Line<'_> {
    let mut line = Line {
        number,
        pools: Vec::with_capacity(rails.len()),
        error: None,
        draining: false,
    };
    for rail in rails {
        let Some(written) = rail.pools.get(number) else {
            line.error.get_or_insert(shape(rail, rails));
            continue;
        };
        line.draining |= written.draining;
        match pool(rail, written) {
            Ok(pool) => {
                if line
                    .pools
                    .first()
                    .is_some_and(|first| first.net.prefix_len() != pool.net.prefix_len())
                {
                    line.error.get_or_insert(shape(rail, rails));
                }
                line.pools.push(pool);
            }
            Err(error) => {
                line.error.get_or_insert(error);
            }
        }
    }
    line
}

fn shape(rail: &Rail, rails: &[Rail]) -> SlotError {
    SlotError::Shape {
        rail: rail.name.clone(),
        other: rails.first().map(|first| first.name.clone()).unwrap_or_default(),
    }
}

fn pool<'a>(rail: &'a Rail, written: &'a Pool) -> Result<LinePool<'a>, SlotError> {
    let net = prefix(rail, &written.cidr)?;
    let gateway = match &written.gateway {
        None => None,
        Some(text) => {
            let address = text.parse().ok().filter(|address| net.contains(address));
            Some(address.ok_or_else(|| SlotError::BadGateway {
                rail: rail.name.clone(),
                gateway: text.clone(),
                cidr: written.cidr.clone(),
            })?)
        }
    };
    let mut excluded = Vec::with_capacity(written.exclude.len());
    for text in &written.exclude {
        let inner = prefix(rail, text)?;
        if !net.contains(&inner) {
            return Err(SlotError::BadPrefix {
                rail: rail.name.clone(),
                cidr: text.clone(),
            });
        }
        excluded.push(inner);
    }
    Ok(LinePool {
        rail,
        written,
        net,
        gateway,
        excluded,
    })
}

fn prefix(rail: &Rail, cidr: &str) -> Result<Ipv4Net, SlotError> {
    let bad = || SlotError::BadPrefix {
        rail: rail.name.clone(),
        cidr: cidr.to_owned(),
    };
    let net: Ipv4Net = cidr.parse().map_err(|_| bad())?;
    // A row of more slots than there are numbers could not even be counted.
    (net.trunc() == net && net.prefix_len() >= 8)
        .then_some(net)
        .ok_or_else(bad)
}
