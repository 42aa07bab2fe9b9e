mod blocks;
mod formats;
mod promises;
mod slices;

use proptest::prelude::*;

use railhead_crds::{Bandwidth, Rail, VlanRange};

use super::*;
use crate::slots::{SlotSpace, tests::rail};

const NO_SLICES: &[NetworkSlice] = &[];

/// Without a rest.
pub(crate) fn release_now(ledger: &FabricLedgerSpec, uid: &str) -> Result<Option<FabricLedgerSpec>, Kept> {
    release(ledger, uid, Timestamp::UNIX_EPOCH, SignedDuration::ZERO)
}

const VLANS: VlanRange = VlanRange { min: 1000, max: 1003 };

/// A network of some pods, with what its slice has.
#[derive(Clone)]
struct Asked {
    owner: LedgerOwner,
    pods: u32,
    held: Option<LedgerEntry>,
}

fn request(uid: &str, pods: u32) -> Asked {
    Asked {
        owner: LedgerOwner::new("team", uid, uid),
        pods,
        held: None,
    }
}

/// What a network of that many pods takes.
pub(crate) fn takes(pods: u32) -> LedgerTakes {
    LedgerTakes::new(pods, 1, Bandwidth::from_mbps(1000))
}

fn request_in(rails: &[Rail], vlans: VlanRange, asked: &Asked) -> Request {
    let wanted = match &asked.held {
        Some(held) => Wanted::Held(Box::new(held.clone())),
        None => Wanted::Block {
            pods: asked.pods,
            takes: takes(asked.pods),
            written: Arc::new(Written {
                vlans,
                ..Written::of(rails)
            }),
        },
    };
    Request {
        owner: asked.owner.clone(),
        wanted,
    }
}

/// Asks for all in one fabric.
fn reserve(ledger: &FabricLedgerSpec, rails: &[Rail], vlans: VlanRange, asked: &[Asked]) -> Outcome {
    let requests: Vec<Request> = asked.iter().map(|asked| request_in(rails, vlans, asked)).collect();
    super::reserve(ledger, NO_SLICES, &requests, &Bounds::default())
}

fn block(entry: &LedgerEntry) -> (u32, u32) {
    let [only] = &entry.intervals[..] else {
        panic!("several intervals: {entry:?}")
    };
    (only.base, only.size)
}

fn base(entry: &LedgerEntry) -> u32 {
    block(entry).0
}

fn space(cidr: &str) -> [Rail; 1] {
    [rail(0, &[cidr])]
}

/// A network whose slice holds 4 slots, as its slice says it.
fn holder(uid: &str, base: u32, vlan: u16) -> Asked {
    let mut holder = request(uid, 4);
    holder.held = Some(entry(uid, &[(base, 4)], Some(vlan)));
    holder
}

pub(crate) fn entry(uid: &str, intervals: &[(u32, u32)], vlan: Option<u16>) -> LedgerEntry {
    LedgerEntry {
        intervals: intervals
            .iter()
            .map(|(base, size)| LedgerInterval::new(*base, *size))
            .collect(),
        vlan,
        owner: request(uid, 1).owner,
        takes: None,
        sequence: 7,
        state: LedgerState::Held,
        rests_until: None,
        node: None,
        unknown: BTreeMap::new(),
    }
}
