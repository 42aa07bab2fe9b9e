//! The slot space of a fabric: one number per pod address, the same on every rail.
//!
//! Pools of the same place in the rails' lists share an interval of slots, which begins at a multiple of its own size; so an
//! aligned block of slots is one prefix on every rail. Which interval that is, [`crate::pools`] says.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use railhead_crds::{NetworkSlice, Rail};
use thiserror::Error;

use crate::{ledger, pools};

/// Slots fit the 24 bits that a MAC address has for them.
pub(crate) const MAX_SLOTS: u32 = 1 << 24;

/// Why a fabric's rails do not make a slot space.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
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
    #[error("there is no room for pool {cidr} of {rail}: at most {MAX_SLOTS} addresses per rail are supported (a /8)")]
    TooLarge {
        /// Rail name.
        rail: String,
        /// The pool that is too much.
        cidr: Ipv4Net,
    },
    /// A pool overlaps with something outside the fabric.
    #[error("pool {cidr} of {rail} overlaps with {other}: {advice}")]
    Outside {
        /// Rail name.
        rail: String,
        /// The pool.
        cidr: Ipv4Net,
        /// What it overlaps with.
        other: String,
        /// What to do.
        advice: &'static str,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSpace {
    rows: Vec<Row>,
    /// Where new networks are placed.
    open: Vec<Interval>,
    /// Slots that are never given away, because they are excluded or a gateway on some rail; sorted.
    excluded: Vec<Interval>,
    /// Why nothing new is cut from the other pools.
    closed: Vec<String>,
}

/// Pools of the same slots, one per rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) place: Interval,
    /// By rail id.
    pub(crate) pools: Vec<(u32, SegmentPool)>,
}

impl SlotSpace {
    /// The slots of a fabric of which nobody holds anything.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the pools.
    pub fn new(rails: &[Rail]) -> Result<Self, SlotError> {
        let nobody: [NetworkSlice; 0] = [];
        let laid = pools::lay_out(&pools::Written::of(rails), &ledger::empty(), &nobody);
        laid.invalid.into_iter().next().map_or(Ok(laid.space), Err)
    }

    pub(crate) fn of(
        mut rows: Vec<Row>,
        mut open: Vec<Interval>,
        mut excluded: Vec<Interval>,
        closed: Vec<String>,
    ) -> Self {
        rows.sort_unstable_by_key(|row| row.place);
        open.sort_unstable();
        excluded.sort_unstable();
        Self {
            rows,
            open,
            excluded,
            closed,
        }
    }

    /// Number of slots in pools.
    pub fn slots(&self) -> u32 {
        self.rows.iter().map(|row| row.place.end - row.place.start).sum()
    }

    fn find(&self, rail: u32, slot: u32) -> Option<(Interval, &SegmentPool)> {
        let row = self
            .rows
            .iter()
            .find(|row| row.place.start <= slot && slot < row.place.end)?;
        let (_, pool) = row.pools.iter().find(|(id, _)| *id == rail)?;
        Some((row.place, pool))
    }

    /// The pool of `rail` in which `slot` lies.
    pub fn pool(&self, rail: u32, slot: u32) -> Option<&SegmentPool> {
        self.find(rail, slot).map(|(_, pool)| pool)
    }

    /// The address of `slot` on `rail`.
    pub fn address(&self, rail: u32, slot: u32) -> Option<Ipv4Addr> {
        let (place, pool) = self.find(rail, slot)?;
        Some(Ipv4Addr::from(u32::from(pool.net.network()) + (slot - place.start)))
    }

    /// Whether all of these slots lie in one pool of every rail that has it.
    pub fn has(&self, base: u32, size: u32) -> bool {
        let wanted = Interval::of(base, size);
        let mut places = self.rows.iter().map(|row| row.place);
        places.any(|place| place.start <= wanted.start && wanted.end <= place.end)
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

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The pools from which new networks are cut.
    pub(crate) fn layout(&self) -> &[Interval] {
        &self.open
    }

    pub(crate) fn excluded(&self) -> &[Interval] {
        &self.excluded
    }

    /// Why nothing new is cut from the other pools.
    pub(crate) fn closed(&self) -> &[String] {
        &self.closed
    }
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
                    draining: false,
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
        assert!(after.has(0, 256) && after.has(1028, 4));
        assert!(!after.has(0, 512) && !after.has(512, 4) && !after.has(u32::MAX, 4));
    }

    #[test]
    fn overlapping_unmasked_and_unequal_pools_are_named() {
        let overlap = SlotSpace::new(&[rail(0, &["10.0.0.0/16"]), rail(1, &["10.0.0.0/16"])]).unwrap_err();
        assert!(
            overlap.to_string().contains("10.0.0.0/16 of rail1 overlap"),
            "{overlap}"
        );
        let unmasked = SlotSpace::new(&[rail(0, &["10.0.0.1/16"])]).unwrap_err();
        assert!(matches!(unmasked, SlotError::BadPrefix { .. }));
        let shape = SlotSpace::new(&[rail(0, &["10.0.0.0/16"]), rail(1, &["10.1.0.0/24"])]).unwrap_err();
        assert!(matches!(shape, SlotError::Shape { .. }));
    }
}
