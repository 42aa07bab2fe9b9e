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
    ///
    /// Nodes are not looked at where neither somebody else has written the ledger nor they have said anything new since, and nothing
    /// is awaited of them: what is written here makes no ledger older than they are.
    pub(super) fn compare(&self, fabric: &str, ledger: &mut FabricLedger) -> (bool, Option<Vec<String>>) {
        let version = self.world.words.version();
        let is_as_before = self.is_written_here(fabric, ledger) && self.is_compared(fabric, version);
        if is_as_before && !restored::awaits(&ledger.spec) {
            self.counted(ledger);
            return (false, None);
        }
        let nodes = recount::nodes(&self.world, fabric, recount::asked(&ledger.spec));
        let highest = self.counted(ledger);
        let next = restored::look(&ledger.spec, &nodes, highest, Timestamp::now(), self.rest);
        let changed = next.is_some();
        if let Some(next) = next {
            match (restored::asks(&ledger.spec), restored::asks(&next)) {
                (false, true) => warn!(
                    fabric,
                    why = next.recount.as_ref().map(|recount| &*recount.why),
                    "the ledger is older than what nodes have: nothing new is given until all have said what they have"
                ),
                (true, false) => warn!(fabric, "every node has said what it has: the ledger gives again"),
                _ => {}
            }
            ledger.spec = next;
        } else {
            let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
            compared.insert(fabric.to_owned(), version);
        }
        let asked = recount::asked(&ledger.spec).filter(|_| restored::asks(&ledger.spec));
        let waiting = asked.map(|_| recount::waiting(&self.world, fabric, asked));
        (changed, waiting)
    }

    /// Whether a ledger of the fabric was found to be as new as all that nodes had said by then.
    fn is_compared(&self, fabric: &str, version: u64) -> bool {
        let compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.get(fabric) == Some(&version)
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use k8s_openapi::jiff::SignedDuration;
    use kube::{
        Api,
        runtime::{reflector::store, watcher::Event},
    };
    use railhead_crds::{FabricLedger, NodeNetwork};
    use serde_json::json;

    use super::*;
    use crate::{
        metrics::Metrics,
        recount::tests::{node, node_network},
        test_api,
        world::{World, tests::empty},
    };

    fn ledger(version: &str) -> FabricLedger {
        serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger",
            "metadata": {"name": "backend", "uid": "ledger", "resourceVersion": version},
            "spec": {"version": 1, "sequence": 3, "entries": []},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn nodes_are_looked_at_when_they_say_something_else_or_somebody_else_writes_the_ledger() {
        let (nodes, mut nodes_in) = store();
        let (node_networks, mut says) = store::<NodeNetwork>();
        nodes_in.apply_watcher_event(&Event::Apply(node("node1", &[])));
        let world = World {
            node_networks,
            nodes,
            ..empty()
        };
        let (client, _) = test_api::client(|_, _| None);
        let worker = Worker {
            ledgers: Api::all(client.clone()),
            client,
            world: world.clone(),
            metrics: Arc::new(Metrics::new()),
            rest: SignedDuration::from_secs(300),
            checked: Mutex::default(),
            counted: Mutex::default(),
            compared: Mutex::default(),
            line: Mutex::default(),
        };
        let mut written_here = ledger("7");
        worker.note("backend", &written_here, Vec::new());
        let compare = |ledger: &mut FabricLedger| worker.compare("backend", ledger).0;
        assert!(!compare(&mut written_here), "nobody says anything");
        says.apply_watcher_event(&Event::Apply(node_network("node1", "backend", &[(4, 9)], None)));
        assert!(!compare(&mut written_here), "the router has not counted it yet");
        assert!(compare(&mut ledger("8")), "somebody else has written it");
        world.words.count();
        assert!(compare(&mut ledger("7")), "the node has said something else");
        // What awaits an answer is looked at each time.
        let mut asks = ledger("7");
        assert!(compare(&mut asks));
        assert!(!compare(&mut asks), "the node has not answered");
        let id = asks.spec.recount.as_ref().map(|recount| recount.id.clone());
        let answer = node_network("node1", "backend", &[(4, 9)], id.as_deref());
        says.apply_watcher_event(&Event::Apply(answer));
        assert!(compare(&mut asks), "it has");
    }
}
