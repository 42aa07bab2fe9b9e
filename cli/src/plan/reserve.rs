//! Whether a network would be reserved, and where: the operator's planner, on ledgers as they were read.

use std::{collections::HashMap, sync::Arc};

use railhead_crds::{FabricLedgerSpec, NetworkSlice, TrainingNetwork, reasons::Reason};
use railhead_planner::{
    growth,
    ledger::{self, Known, Request, Wanted, restored, usage},
    network::{self, Resolved},
    pools::{self, Written},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Refused, bounds};
use crate::{
    cluster::{Cluster, key},
    output::Page,
};

/// Ledgers and slices, with what was planned so far.
pub(super) struct Books<'a> {
    ledgers: HashMap<&'a str, &'a FabricLedgerSpec>,
    planned: HashMap<String, FabricLedgerSpec>,
    slices: Vec<NetworkSlice>,
}

/// A reservation that is not entered yet.
pub(super) struct Reserved {
    fabric: String,
    ledger: FabricLedgerSpec,
    slice: NetworkSlice,
    block: Block,
}

/// What a network would get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    /// Whether it has that already.
    has_it: bool,
    /// Its pods.
    pods: u32,
    /// Addresses on every rail: the block.
    addresses: u32,
    /// By rail.
    prefixes: Vec<Prefix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u16>,
    /// VLANs that are free then, of those of the fabric.
    vlans_free: u32,
    vlans: u32,
    /// The share of the fabric's slots that networks hold then, in percent.
    used_percent: u32,
    /// For how many pods the largest network would be that fits then.
    largest_free: u32,
}

/// The addresses on a rail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Prefix {
    rail: String,
    prefix: String,
}

impl<'a> Books<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        Self {
            ledgers: cluster
                .ledgers
                .iter()
                .map(|ledger| (key(&ledger.metadata).1, &ledger.spec))
                .collect(),
            planned: HashMap::new(),
            slices: cluster.slices.clone(),
        }
    }

    /// The slice of a network that has one.
    pub(super) fn slice_of(&self, network: &TrainingNetwork) -> Option<&NetworkSlice> {
        let uid = network.metadata.uid.as_deref()?;
        self.slices.iter().find(|slice| slice.spec.network.uid == uid)
    }

    fn ledger(&self, fabric: &str) -> FabricLedgerSpec {
        let known = self.planned.get(fabric).or_else(|| self.ledgers.get(fabric).copied());
        known.cloned().unwrap_or_else(ledger::empty)
    }

    /// What a network would get as it is; with a slice, whether it may have as many pods as it asks for.
    pub(super) fn reserve(
        &self,
        cluster: &Cluster,
        network: &TrainingNetwork,
        resolved: &Resolved,
        slice: Option<&NetworkSlice>,
    ) -> Result<Reserved, Refused> {
        let fabric = key(&resolved.fabric.metadata).1.to_owned();
        let before = self.ledger(&fabric);
        let of_fabric: Vec<&NetworkSlice> = self
            .slices
            .iter()
            .filter(|slice| slice.spec.fabric.name == fabric)
            .collect();
        let written = Arc::new(written(self, cluster, resolved));
        let takes = network::takes(network, resolved);
        let grows = slice.is_some_and(|slice| network.spec.pods > slice.spec.pods);
        if slice.is_none() && restored::asks(&before) {
            let waiting = Vec::new();
            return Err(refused(&ledger::Refusal::Restored { waiting }));
        }
        let wanted = match slice {
            Some(slice) if grows => {
                let laid = pools::lay_out(&written, &before, &of_fabric);
                if let Err(why) = growth::check(slice, &laid.space, network.spec.pods) {
                    let (has, asked) = (slice.spec.pods, network.spec.pods);
                    return Err(Refused {
                        reason: Reason::CannotGrow.to_string(),
                        message: format!("it has {has} pods and would have {asked}: {why}"),
                    });
                }
                Wanted::More { takes }
            }
            Some(slice) => Wanted::Held(Box::new(ledger::entry_of(slice))),
            None => Wanted::Block {
                pods: network.spec.room(),
                takes,
                written: Arc::clone(&written),
            },
        };
        let owner = bounds::owner(network);
        let known = Known::of(&before);
        let lost = of_fabric.iter().filter(|slice| !known.has(&ledger::entry_of(slice)));
        let mut requests = vec![Request { owner, wanted }];
        requests.extend(lost.map(|slice| Request::of_slice(slice)));
        let bounds = bounds::bounds(cluster, network, resolved);
        let mut outcome = ledger::reserve(&before, &of_fabric, &requests, &bounds);
        let entry = outcome.results.swap_remove(0).map_err(|why| refused(&why))?;
        let laid = pools::lay_out(&written, &outcome.ledger, &of_fabric);
        let made = match slice {
            Some(slice) => {
                let mut slice = slice.clone();
                slice.spec.pods = slice.spec.pods.max(network.spec.pods);
                slice
            }
            None => network::slice(network, resolved, &laid.space, &entry).map_err(|error| Refused {
                reason: Reason::FabricInvalid.to_string(),
                message: error.to_string(),
            })?,
        };
        let vlans = written.vlans;
        let usage = usage(&outcome.ledger, &laid.space, vlans);
        let block = Block {
            has_it: slice.is_some(),
            pods: network.spec.pods,
            addresses: made.spec.capacity,
            prefixes: made
                .spec
                .rails
                .iter()
                .map(|rail| Prefix {
                    rail: rail.name.clone(),
                    prefix: rail
                        .prefixes
                        .first()
                        .map_or_else(String::new, |block| block.prefix.to_string()),
                })
                .collect(),
            vlan: entry.vlan,
            vlans_free: usage.vlans_free,
            vlans: u32::from(vlans.max.saturating_sub(vlans.min)) + 1,
            used_percent: usage.used_percent,
            largest_free: usage.largest_free.unwrap_or(0),
        };
        Ok(Reserved {
            fabric,
            ledger: outcome.ledger,
            slice: made,
            block,
        })
    }

    /// From here on it is as if that were so.
    pub(super) fn enter(&mut self, reserved: Reserved) -> Block {
        let uid = reserved.slice.spec.network.uid.clone();
        self.slices.retain(|slice| slice.spec.network.uid != uid);
        self.slices.push(reserved.slice);
        self.planned.insert(reserved.fabric, reserved.ledger);
        reserved.block
    }
}

fn refused(why: &ledger::Refusal) -> Refused {
    Refused {
        reason: why.reason().to_string(),
        message: why.to_string(),
    }
}

/// What the Fabric says of its pools, and which of them other Fabrics have too.
fn written(books: &Books<'_>, cluster: &Cluster, resolved: &Resolved) -> Written {
    let outside = pools::overlaps(&resolved.fabric, &cluster.fabrics, |fabric, cidr| {
        pools::is_recorded(&books.ledger(fabric), cidr)
            || books
                .slices
                .iter()
                .any(|slice| slice.spec.fabric.name == fabric && pools::has_some_of(slice, cidr))
    });
    Written::of_fabric(&resolved.fabric, outside)
}

impl Block {
    pub(super) fn show(&self, page: &mut Page) {
        let verb = if self.has_it { "has" } else { "would reserve" };
        let vlan = self
            .vlan
            .map_or_else(|| "no VLAN".to_owned(), |vlan| format!("VLAN {vlan}"));
        page.line(format!(
            "  {verb}: {} addresses on each of {} rails, {vlan} ({} of {} VLANs free then)",
            self.addresses,
            self.prefixes.len(),
            self.vlans_free,
            self.vlans
        ));
        let shown = if page.is_wide() { self.prefixes.len() } else { 1 };
        for prefix in self.prefixes.iter().take(shown) {
            page.line(format!("    {} {}", prefix.rail, prefix.prefix));
        }
        page.line(format!(
            "    pools {} % held then, the largest network that still fits has {} pods",
            self.used_percent, self.largest_free
        ));
    }
}
