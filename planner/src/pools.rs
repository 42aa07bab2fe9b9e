//! Which slots a fabric's pools have, and what a Fabric may say of pools that are in use.
//!
//! Pools of the same place in the rails' lists are a *row*: one of every rail, all of one length, with one interval of slots.
//! Rows of which somebody holds a part are in the ledger, and keep their slots whatever becomes of the Fabric's lists. All
//! others are nobody's: they are laid where there is room, and may change and go. So no edit moves a live network, and no two
//! rows share an address or a slot. What is written against a row in use has no effect, and is told as an [`EditConflict`].

mod holders;
mod in_use;
mod lines;
mod live;
mod others;
#[cfg(test)]
mod tests;

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::Ipv4Net;
use railhead_crds::{Fabric, FabricLedgerSpec, LedgerEntry, LedgerPool, LedgerPoolRail, NetworkSlice, Rail, VlanRange};

pub use self::others::{has_some_of, is_recorded, overlaps};
use self::{
    holders::{Holder, holders},
    in_use::{InUse, Known},
    lines::{Line, LinePool},
};
use crate::slots::{Interval, MAX_SLOTS, Row, SegmentPool, SlotError, SlotSpace};

/// What a Fabric says of pools and VLANs.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its rails.
    pub rails: Vec<Rail>,
    /// Its VLANs.
    pub vlans: VlanRange,
    /// Pools that overlap with something outside the fabric: nothing new is cut from them.
    pub outside: Vec<Outside>,
}

/// A pool that overlaps with something outside its fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The pool, as it is written.
    pub cidr: String,
    /// With what.
    pub other: String,
    /// What to do.
    pub advice: &'static str,
}

impl Written {
    /// What a Fabric says, and which of its pools overlap with something else.
    pub fn of_fabric(fabric: &Fabric, outside: Vec<Outside>) -> Self {
        Self {
            rails: fabric.spec.rails.clone(),
            vlans: fabric.spec.vlan.range,
            outside,
        }
    }

    /// These rails, every VLAN, and nothing outside.
    pub(crate) fn of(rails: &[Rail]) -> Self {
        Self {
            rails: rails.to_vec(),
            vlans: VlanRange { min: 1, max: 4094 },
            outside: Vec::new(),
        }
    }
}

/// What a Fabric says that cannot be so while the named networks live.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EditConflict {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
    /// The networks, as `namespace/name`.
    pub networks: Vec<String>,
}

impl fmt::Display for EditConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let shown = &self.networks[..self.networks.len().min(SHOWN)];
        write!(f, "{}: {} ({}", self.field, self.what, shown.join(", "))?;
        match self.networks.len() - shown.len() {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

/// A pool from which nothing new is cut because the Fabric says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// The pool of the first rail.
    pub cidr: Ipv4Net,
    /// The networks that have some of it, as `namespace/name`.
    pub networks: Vec<String>,
}

/// A fabric's pools, laid out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Laid {
    /// Their slots.
    pub space: SlotSpace,
    /// What is wrong with some of them: nothing new is cut from those.
    pub invalid: Vec<SlotError>,
    /// What has no effect, or only for new networks, because of live ones.
    pub conflicts: Vec<EditConflict>,
    /// Those that are being drained.
    pub draining: Vec<Draining>,
}

impl Laid {
    /// Whether anything can be cut from any pool.
    pub fn is_usable(&self) -> bool {
        !self.space.layout().is_empty()
    }

    /// The rows of these places, as a ledger records them.
    pub(crate) fn rows_of(&self, wanted: impl Fn(Interval) -> bool) -> Vec<LedgerPool> {
        let recorded = |(id, pool): &(u32, SegmentPool)| LedgerPoolRail {
            id: *id,
            cidr: pool.net.to_string(),
        };
        let rows = self.space.rows().iter().filter(|row| wanted(row.place));
        rows.map(|row| LedgerPool {
            base: row.place.start,
            rails: row.pools.iter().map(recorded).collect(),
        })
        .collect()
    }
}

/// The rows in which the blocks of an entry lie, as its ledger has them.
pub fn of_entry(ledger: &FabricLedgerSpec, entry: &LedgerEntry) -> Vec<LedgerPool> {
    let slots = |place: Interval| {
        let mut intervals = entry.intervals.iter();
        intervals.any(|one| Interval::of(one.base, one.size).meets(place))
    };
    let recorded = ledger.pools.iter().filter(|pool| {
        let rows = in_use::recorded(std::slice::from_ref(pool));
        rows.iter().any(|row| slots(row.place))
    });
    recorded.cloned().collect()
}

/// The slots of rows that a ledger has: a network's block lies where it was when it was given, whatever the Fabric says by now.
/// Gateways are those of the Fabric.
pub fn recorded(rails: &[Rail], pools: &[LedgerPool]) -> SlotSpace {
    let lines = lines::read(rails);
    let known = in_use::recorded(pools);
    let written: Vec<&LinePool<'_>> = lines.iter().flat_map(|line| &line.pools).collect();
    let rows = known.iter().map(|known| row(known, &written));
    SlotSpace::of(rows.collect(), Vec::new(), Vec::new(), Vec::new())
}

/// A row with the gateways that are written for its pools.
fn row(known: &Known, written: &[&LinePool<'_>]) -> Row {
    let gateway = |id: u32, net: Ipv4Net| {
        let mut same = written.iter().filter(|pool| pool.rail.id == id && pool.net == net);
        same.find_map(|pool| pool.gateway)
    };
    let pool = |(id, net): (&u32, &Ipv4Net)| {
        let gateway = gateway(*id, *net);
        (*id, SegmentPool { net: *net, gateway })
    };
    Row {
        place: known.place,
        pools: known.pools.iter().map(pool).collect(),
    }
}

/// Lays out what a Fabric says of its pools. `ledger` is its ledger, `slices` are those of its networks.
pub fn lay_out<S: Borrow<NetworkSlice>>(written: &Written, ledger: &FabricLedgerSpec, slices: &[S]) -> Laid {
    let lines = lines::read(&written.rails);
    let holders = holders(ledger, slices);
    let in_use = in_use::find(ledger, &holders, &lines);
    let mut work = Work::new(written, &holders, &in_use);
    let mut used = vec![false; lines.len()];
    for known in &in_use.rows {
        let line = best(known, &lines);
        if let Some(line) = line {
            used[line.number] = true;
        }
        work.keep(known, line);
    }
    for line in lines.iter().filter(|line| !used[line.number]) {
        work.place(line);
    }
    work.told(live::rails(written, &holders));
    work.told(live::vlans(written, &holders));
    work.done()
}

/// The line that speaks of a row: the one with most of its pools.
fn best<'a, 'b>(known: &Known, lines: &'b [Line<'a>]) -> Option<&'b Line<'a>> {
    let common = |line: &Line<'_>| {
        let same = |pool: &&LinePool<'_>| known.pools.get(&pool.rail.id) == Some(&pool.net);
        line.pools.iter().filter(same).count()
    };
    lines
        .iter()
        .rev()
        .max_by_key(|line| common(line))
        .filter(|line| common(line) > 0)
}

/// A layout that is being made.
struct Work<'a> {
    written: &'a Written,
    holders: &'a [Holder<'a>],
    /// All pools so far, with their rails.
    nets: Vec<(Ipv4Net, String)>,
    /// Slots that no new row may have.
    taken: Vec<Interval>,
    rows: Vec<Row>,
    open: Vec<Interval>,
    excluded: Vec<Interval>,
    invalid: Vec<SlotError>,
    closed: Vec<String>,
    conflicts: BTreeMap<(String, String), BTreeSet<String>>,
    draining: Vec<Draining>,
}

impl<'a> Work<'a> {
    fn new(written: &'a Written, holders: &'a [Holder<'a>], in_use: &InUse) -> Self {
        let rail = |id: u32| {
            let rail = written.rails.iter().find(|rail| rail.id == id);
            rail.map_or_else(|| format!("rail {id}"), |rail| rail.name.clone())
        };
        let of_rows = in_use.rows.iter().flat_map(|row| &row.pools);
        let of_rows = of_rows.map(|(id, net)| (*net, rail(*id)));
        let strays = in_use.strays.iter().map(|(id, net)| (*net, rail(*id)));
        let places = in_use.rows.iter().map(|row| row.place);
        Self {
            written,
            holders,
            nets: of_rows.chain(strays).collect(),
            taken: places
                .chain(holders.iter().flat_map(|holder| holder.slots.clone()))
                .collect(),
            rows: Vec::new(),
            open: Vec::new(),
            excluded: Vec::new(),
            invalid: Vec::new(),
            closed: Vec::new(),
            conflicts: BTreeMap::new(),
            draining: Vec::new(),
        }
    }

    /// A row in use keeps its slots and its pools. It takes new networks if its line says what it is.
    fn keep(&mut self, known: &Known, line: Option<&Line<'_>>) {
        let written: Vec<&LinePool<'_>> = line.iter().flat_map(|line| &line.pools).collect();
        let mut row = row(known, &written);
        let of_row: Vec<&Holder<'_>> = self.holders.iter().filter(|holder| holder.meets(known.place)).collect();
        let (conflicts, stands) = match line {
            None => (live::gone(self.written, known, &of_row), false),
            Some(line) => live::changed(self.written, known, line, &of_row),
        };
        let mut closed = (!stands).then(|| edited_against(known));
        self.told(conflicts);
        if let Some(line) = line.filter(|_| stands) {
            closed = match self.extend(&mut row, line) {
                Err(error) => Some(self.refuse(error)),
                Ok(()) => self.check(line),
            };
            let networks = of_row.iter().map(|holder| holder.name.clone());
            self.excluded.extend(line.excluded(row.place));
            if line.draining {
                self.drain(line, networks.collect());
            } else if closed.is_none() {
                self.open.push(row.place);
            }
        }
        self.closed.extend(closed);
        self.rows.push(row);
    }

    /// Adds the pools of rails that are new in the Fabric.
    fn extend(&mut self, row: &mut Row, line: &Line<'_>) -> Result<(), SlotError> {
        if let Some(error) = &line.error {
            return Err(error.clone());
        }
        let news: Vec<&LinePool<'_>> = line
            .pools
            .iter()
            .filter(|pool| row.pools.iter().all(|(id, _)| *id != pool.rail.id))
            .collect();
        let before = self.nets.len();
        for pool in news {
            if let Err(error) = self.enter(pool) {
                self.nets.truncate(before);
                return Err(error);
            }
            row.pools.push((pool.rail.id, pool.segment()));
        }
        row.pools.sort_by_key(|(id, _)| *id);
        Ok(())
    }

    /// A line of which nobody holds anything is laid where there is room.
    fn place(&mut self, line: &Line<'_>) {
        if line.draining {
            return self.drain(line, Vec::new());
        }
        let before = self.nets.len();
        let placed = self.try_place(line);
        let closed = match placed {
            Err(error) => Some(self.refuse(error)),
            Ok(row) => {
                let closed = self.check(line);
                if closed.is_none() {
                    self.taken.push(row.place);
                    self.open.push(row.place);
                    self.excluded.extend(line.excluded(row.place));
                    self.rows.push(row);
                }
                closed
            }
        };
        if closed.is_some() {
            self.nets.truncate(before);
        }
        self.closed.extend(closed);
    }

    fn try_place(&mut self, line: &Line<'_>) -> Result<Row, SlotError> {
        if let Some(error) = &line.error {
            return Err(error.clone());
        }
        for pool in &line.pools {
            self.enter(pool)?;
        }
        let place = line.size().and_then(|size| room(&self.taken, size));
        let Some(place) = place else {
            return Err(line.too_large());
        };
        let pools = line.pools.iter().map(|pool| (pool.rail.id, pool.segment()));
        let pools = pools.collect();
        Ok(Row { place, pools })
    }

    /// No two pools of a fabric share addresses.
    fn enter(&mut self, pool: &LinePool<'_>) -> Result<(), SlotError> {
        let meets = |(net, _): &&(Ipv4Net, String)| net.contains(&pool.net) || pool.net.contains(net);
        if let Some((first, first_rail)) = self.nets.iter().find(meets) {
            return Err(SlotError::Overlap {
                first: *first,
                first_rail: first_rail.clone(),
                second: pool.net,
                second_rail: pool.rail.name.clone(),
            });
        }
        self.nets.push((pool.net, pool.rail.name.clone()));
        Ok(())
    }

    /// Whether a line has a pool that something outside the fabric has too.
    fn check(&mut self, line: &Line<'_>) -> Option<String> {
        let mut said = None;
        for pool in &line.pools {
            let outside = self
                .written
                .outside
                .iter()
                .find(|outside| outside.cidr == pool.written.cidr);
            if let Some(outside) = outside.cloned() {
                let error = SlotError::Outside {
                    rail: pool.rail.name.clone(),
                    cidr: pool.net,
                    other: outside.other,
                    advice: outside.advice,
                };
                said = Some(self.refuse(error));
            }
        }
        said
    }

    fn refuse(&mut self, error: SlotError) -> String {
        let said = error.to_string();
        self.invalid.push(error);
        said
    }

    fn drain(&mut self, line: &Line<'_>, mut networks: Vec<String>) {
        networks.sort_unstable();
        if let Some(first) = line.pools.first() {
            self.closed.push(format!("pool {} is draining", first.net));
            self.draining.push(Draining {
                cidr: first.net,
                networks,
            });
        }
    }

    fn told(&mut self, conflicts: impl IntoIterator<Item = (String, String, String)>) {
        for (field, what, network) in conflicts {
            self.conflicts.entry((field, what)).or_default().insert(network);
        }
    }

    fn done(self) -> Laid {
        let conflicts = self
            .conflicts
            .into_iter()
            .map(|((field, what), networks)| EditConflict {
                field,
                what,
                networks: networks.into_iter().collect(),
            });
        Laid {
            space: SlotSpace::of(self.rows, self.open, self.excluded, self.closed),
            invalid: self.invalid,
            conflicts: conflicts.collect(),
            draining: self.draining,
        }
    }
}

/// What is said of a row against which the Fabric was edited.
fn edited_against(known: &Known) -> String {
    let net = known.pools.values().next();
    let net = net.map_or_else(|| "a pool".to_owned(), |net| format!("pool {net}"));
    format!("{net} is in use and the Fabric was edited against it (EditConflict)")
}

/// The lowest interval of that size, aligned to it, that meets none of these.
fn room(taken: &[Interval], size: u32) -> Option<Interval> {
    let mut base = 0_u32;
    loop {
        let wanted = Interval::of(base, size);
        if wanted.end > MAX_SLOTS {
            return None;
        }
        let meets = taken.iter().filter(|interval| interval.meets(wanted));
        match meets.map(|interval| interval.end).max() {
            None => return Some(wanted),
            Some(end) => base = end.checked_next_multiple_of(size)?,
        }
    }
}
