//! A ledger beside what nodes say of it: whether it is older than they are.

use std::sync::PoisonError;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use railhead_crds::FabricLedger;
use railhead_planner::ledger::restored;
use tracing::warn;

use super::Worker;
use crate::recount;

impl Worker {
    /// Brings a ledger that was read to what nodes say; tells whether that changed it, and while nodes are asked, who has not
    /// answered: until then nothing new is given.
    pub(super) fn compare(&self, fabric: &str, ledger: &mut FabricLedger) -> (bool, Option<Vec<String>>) {
        let nodes = recount::nodes(&self.world, fabric, recount::asked(&ledger.spec));
        let highest = self.counted(ledger);
        let next = restored::look(&ledger.spec, &nodes, highest, Timestamp::now(), self.rest);
        let changed = next.is_some();
        if let Some(next) = next {
            match (&ledger.spec.recount, &next.recount) {
                (None, Some(recount)) => warn!(
                    fabric,
                    why = recount.why,
                    "the ledger is older than what nodes have: nothing new is given until all have said what they have"
                ),
                (Some(_), None) => warn!(fabric, "every node has said what it has: the ledger gives again"),
                _ => {}
            }
            ledger.spec = next;
        }
        let asked = recount::asked(&ledger.spec);
        let waiting = asked.map(|_| recount::waiting(&self.world, fabric, asked));
        (changed, waiting)
    }

    /// How far the ledger was seen to have counted before; from now on as far as it says.
    pub(super) fn counted(&self, ledger: &FabricLedger) -> Option<u64> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = ledger.spec.sequence;
        let before = counted.get(&ledger.uid()?).copied();
        if before.is_none_or(|before| before < sequence) {
            counted.insert(ledger.uid()?, sequence);
        }
        before
    }
}
