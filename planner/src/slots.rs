//! The slot space of a fabric: one number per pod address, the same on every rail.
//!
//! Slot `s` is the `s`-th address of a rail's pools, which are laid one after the other, each at a multiple of its own size,
//! so that an aligned block of slots is one prefix on every rail. Appending a pool moves nothing.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use railhead_crds::Rail;
use thiserror::Error;

/// Slots fit the 24 bits that a MAC address has for them.
const MAX_SLOTS: u64 = 1 << 24;

/// Why a fabric's rails do not make a slot space.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotError {
    /// A pool is not a masked IPv4 prefix.
    #[error("rail {rail}: {cidr:?} is not an IPv4 prefix without host bits; write for example 10.0.0.0/16")]
    BadPrefix {
        /// Rail name.
        rail: String,
        /// As written.
        cidr: String,
    },
    /// A gateway is not an address of its pool.
    #[error("rail {rail}: gateway {gateway:?} is not an address of {cidr}")]
    BadGateway {
        /// Rail name.
        rail: String,
        /// As written.
        gateway: String,
        /// Its pool.
        cidr: String,
    },
    /// Two pools share addresses.
    #[error("pools {first} of {first_rail} and {second} of {second_rail} overlap; give every rail prefixes of its own")]
    Overlap {
        /// One pool.
        first: Ipv4Net,
        /// Its rail.
        first_rail: String,
        /// The other pool.
        second: Ipv4Net,
        /// Its rail.
        second_rail: String,
    },
    /// Rails differ in number or length of their pools.
    #[error(
        "rail {rail} needs pools of the same prefix lengths in the same order as rail {other}: index i has one offset on all rails"
    )]
    Shape {
        /// Rail name.
        rail: String,
        /// The first rail.
        other: String,
    },
    /// More addresses than Railhead numbers.
    #[error("the pools hold {slots} addresses per rail, at most {MAX_SLOTS} are supported (a /8)")]
    TooLarge {
        /// Addresses per rail.
        slots: u64,
    },
    /// A ledger entry that a later release made.
    #[error(
        "the ledger gives the network {intervals} intervals of slots, of which this release of Railhead makes no slice: run the later one that reserved them"
    )]
    Several {
        /// How many.
        intervals: usize,
    },
    /// A slice or ledger entry that does not lie in the fabric's pools.
    #[error("slots {base}..+{size} do not lie in one pool of rail {rail}; were pools removed from the fabric?")]
    OutsidePools {
        /// First slot.
        base: u32,
        /// Number of slots.
        size: u32,
        /// Rail name or id.
        rail: String,
    },
}

/// One pool of one rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentPool {
    /// The segment's prefix.
    pub net: Ipv4Net,
    /// Its router.
    pub gateway: Option<Ipv4Addr>,
}

/// A half-open interval of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Interval {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Interval {
    pub(crate) fn of(base: u32, size: u32) -> Self {
        Self {
            start: base,
            end: base.saturating_add(size),
        }
    }

    pub(crate) fn meets(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The slots of a fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSpace {
    /// Where each pool lies, the same for all rails.
    layout: Vec<Interval>,
    /// Slots that are never given away, because they are excluded or a gateway on some rail; sorted.
    excluded: Vec<Interval>,
    rails: Vec<RailPools>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RailPools {
    id: u32,
    pools: Vec<SegmentPool>,
}

impl SlotSpace {
    /// Reads the pools of a fabric's rails.
    pub fn new(rails: &[Rail]) -> Result<Self, SlotError> {
        let mut parsed = Vec::with_capacity(rails.len());
        for rail in rails {
            parsed.push(RailPools {
                id: rail.id,
                pools: parse_pools(rail)?,
            });
        }
        check_overlap(rails, &parsed)?;
        check_shape(rails, &parsed)?;
        let layout = lay_out(parsed.first().map_or(&[][..], |rail| &rail.pools))?;
        let excluded = excluded(rails, &parsed, &layout)?;
        Ok(Self {
            layout,
            excluded,
            rails: parsed,
        })
    }

    /// Number of slots in pools.
    pub fn slots(&self) -> u32 {
        self.layout.iter().map(|pool| pool.end - pool.start).sum()
    }

    /// The pool of `rail` in which `slot` lies.
    pub fn pool(&self, rail: u32, slot: u32) -> Option<&SegmentPool> {
        let place = self
            .layout
            .iter()
            .position(|pool| pool.start <= slot && slot < pool.end)?;
        self.rails.iter().find(|r| r.id == rail)?.pools.get(place)
    }

    /// The address of `slot` on `rail`.
    pub fn address(&self, rail: u32, slot: u32) -> Option<Ipv4Addr> {
        let place = self
            .layout
            .iter()
            .position(|pool| pool.start <= slot && slot < pool.end)?;
        let pool = self.rails.iter().find(|r| r.id == rail)?.pools.get(place)?;
        Some(Ipv4Addr::from(
            u32::from(pool.net.network()) + (slot - self.layout[place].start),
        ))
    }

    /// The prefix of the block `base..base + size` on `rail`; `None` if the block is not aligned or not inside one pool.
    pub fn prefix(&self, rail: u32, base: u32, size: u32) -> Option<Ipv4Net> {
        if !size.is_power_of_two() || !base.is_multiple_of(size) {
            return None;
        }
        let pool = self.pool(rail, base)?;
        let length = 32 - u8::try_from(size.trailing_zeros()).ok()?;
        if length < pool.net.prefix_len() {
            return None;
        }
        Ipv4Net::new(self.address(rail, base)?, length).ok()
    }

    pub(crate) fn layout(&self) -> &[Interval] {
        &self.layout
    }

    pub(crate) fn excluded(&self) -> &[Interval] {
        &self.excluded
    }
}

fn parse_prefix(rail: &Rail, cidr: &str) -> Result<Ipv4Net, SlotError> {
    let bad = || SlotError::BadPrefix {
        rail: rail.name.clone(),
        cidr: cidr.to_owned(),
    };
    let net: Ipv4Net = cidr.parse().map_err(|_| bad())?;
    (net.trunc() == net).then_some(net).ok_or_else(bad)
}

fn parse_pools(rail: &Rail) -> Result<Vec<SegmentPool>, SlotError> {
    rail.pools
        .iter()
        .map(|pool| {
            let net = parse_prefix(rail, &pool.cidr)?;
            let gateway = match &pool.gateway {
                None => None,
                Some(text) => {
                    let address = text.parse().ok().filter(|address| net.contains(address));
                    Some(address.ok_or_else(|| SlotError::BadGateway {
                        rail: rail.name.clone(),
                        gateway: text.clone(),
                        cidr: pool.cidr.clone(),
                    })?)
                }
            };
            Ok(SegmentPool { net, gateway })
        })
        .collect()
}

fn check_overlap(rails: &[Rail], parsed: &[RailPools]) -> Result<(), SlotError> {
    let all: Vec<(&Rail, Ipv4Net)> = rails
        .iter()
        .zip(parsed)
        .flat_map(|(rail, pools)| pools.pools.iter().map(move |p| (rail, p.net)))
        .collect();
    for (position, (first_rail, first)) in all.iter().enumerate() {
        for (second_rail, second) in &all[position + 1..] {
            if first.contains(second) || second.contains(first) {
                return Err(SlotError::Overlap {
                    first: *first,
                    first_rail: first_rail.name.clone(),
                    second: *second,
                    second_rail: second_rail.name.clone(),
                });
            }
        }
    }
    Ok(())
}

fn check_shape(rails: &[Rail], parsed: &[RailPools]) -> Result<(), SlotError> {
    let shape = |pools: &RailPools| pools.pools.iter().map(|p| p.net.prefix_len()).collect::<Vec<_>>();
    for (rail, pools) in rails.iter().zip(parsed).skip(1) {
        if shape(pools) != shape(&parsed[0]) {
            return Err(SlotError::Shape {
                rail: rail.name.clone(),
                other: rails[0].name.clone(),
            });
        }
    }
    Ok(())
}

fn lay_out(pools: &[SegmentPool]) -> Result<Vec<Interval>, SlotError> {
    let mut layout = Vec::with_capacity(pools.len());
    let mut next: u64 = 0;
    for pool in pools {
        let size = 1u64 << (32 - pool.net.prefix_len());
        let start = next.next_multiple_of(size);
        next = start + size;
        let fits = |slot: u64| u32::try_from(slot).ok().filter(|_| slot <= MAX_SLOTS);
        match (fits(start), fits(next)) {
            (Some(start), Some(end)) => layout.push(Interval { start, end }),
            _ => return Err(SlotError::TooLarge { slots: next }),
        }
    }
    Ok(layout)
}

fn excluded(rails: &[Rail], parsed: &[RailPools], layout: &[Interval]) -> Result<Vec<Interval>, SlotError> {
    let mut excluded = Vec::new();
    for (rail, pools) in rails.iter().zip(parsed) {
        for ((written, pool), place) in rail.pools.iter().zip(&pools.pools).zip(layout) {
            let offset = |address: Ipv4Addr| place.start + (u32::from(address) - u32::from(pool.net.network()));
            if let Some(gateway) = pool.gateway {
                excluded.push(Interval::of(offset(gateway), 1));
            }
            for text in &written.exclude {
                let net = parse_prefix(rail, text)?;
                if !pool.net.contains(&net) {
                    return Err(SlotError::BadPrefix {
                        rail: rail.name.clone(),
                        cidr: text.clone(),
                    });
                }
                excluded.push(Interval {
                    start: offset(net.network()),
                    end: offset(net.broadcast()) + 1,
                });
            }
        }
    }
    excluded.sort_unstable();
    Ok(excluded)
}

#[cfg(test)]
pub(crate) mod tests {
    use railhead_crds::{Pool, Port};

    use super::*;

    pub(crate) fn rail(id: u32, pools: &[&str]) -> Rail {
        Rail {
            id,
            name: format!("rail{id}"),
            speed: None,
            ports: vec![Port {
                pci_address: None,
                netdev: Some(format!("eth{id}")),
                node_selector: None,
            }],
            pools: pools
                .iter()
                .map(|cidr| Pool {
                    cidr: (*cidr).to_owned(),
                    gateway: None,
                    exclude: Vec::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_slot_has_the_same_offset_on_every_rail() {
        let space = SlotSpace::new(&[rail(0, &["10.0.0.0/16"]), rail(1, &["10.1.0.0/16"])]).unwrap();
        assert_eq!(space.slots(), 65536);
        assert_eq!(space.address(0, 300), Some(Ipv4Addr::new(10, 0, 1, 44)));
        assert_eq!(space.address(1, 300), Some(Ipv4Addr::new(10, 1, 1, 44)));
        assert_eq!(space.prefix(1, 256, 64), Some("10.1.1.0/26".parse().unwrap()));
        assert_eq!(space.prefix(1, 32, 64), None, "not aligned");
    }

    #[test]
    fn appending_a_pool_moves_no_slot() {
        let before = SlotSpace::new(&[rail(0, &["10.0.0.0/24"])]).unwrap();
        let after = SlotSpace::new(&[rail(0, &["10.0.0.0/24", "10.9.0.0/22"])]).unwrap();
        for slot in 0..256 {
            assert_eq!(before.address(0, slot), after.address(0, slot));
        }
        assert_eq!(after.slots(), 256 + 1024);
        assert_eq!(
            after.prefix(0, 1024, 1024),
            Some("10.9.0.0/22".parse().unwrap()),
            "aligned in slot space"
        );
        assert_eq!(after.pool(0, 512), None, "the gap belongs to no pool");
    }

    #[test]
    fn overlapping_unmasked_and_unequal_pools_are_named() {
        let overlap = SlotSpace::new(&[rail(0, &["10.0.0.0/16"]), rail(1, &["10.0.8.0/24"])]).unwrap_err();
        assert!(
            overlap.to_string().contains("10.0.8.0/24 of rail1 overlap"),
            "{overlap}"
        );
        let unmasked = SlotSpace::new(&[rail(0, &["10.0.0.1/16"])]).unwrap_err();
        assert!(matches!(unmasked, SlotError::BadPrefix { .. }));
        let shape = SlotSpace::new(&[rail(0, &["10.0.0.0/16"]), rail(1, &["10.1.0.0/24"])]).unwrap_err();
        assert!(matches!(shape, SlotError::Shape { .. }));
    }
}
