//! What pods on the node hold of their networks' blocks, as the plans say: the one record that outlives an API server that was
//! restored from a backup.

use std::collections::BTreeSet;

use railhead_crds::{NodeHolding, NodeNetwork};
use railhead_plan::{AttachmentPlan, Vlan};

use crate::{agent::Agent, claims::plans};

/// What is held now; nothing while a plan cannot be read, which may hold anything.
pub(super) fn held(agent: &Agent, network: &NodeNetwork) -> Option<Vec<NodeHolding>> {
    let read = plans::damaged(&agent.layout).and_then(|damaged| Ok((damaged, plans::all(&agent.layout)?)));
    match read {
        Ok((damaged, plans)) if damaged.is_empty() => Some(of(&plans, &agent.boot_id)),
        Ok((damaged, _)) => {
            let answered = network.status.as_ref().and_then(|status| status.recount.as_ref());
            if network.spec.recount.is_some() && network.spec.recount.as_ref() != answered {
                tracing::warn!(
                    pods = damaged.join(" "),
                    "the fabric waits for this node to say what its pods hold, which their damaged plans do not tell: delete these pods"
                );
            }
            None
        }
        Err(error) => {
            tracing::warn!(%error, "it cannot be told what pods hold");
            None
        }
    }
}

/// One entry per network, of plans of this boot. Those of releases that did not write down the block are not told.
fn of(plans: &[AttachmentPlan], boot_id: &str) -> Vec<NodeHolding> {
    let of_boot = plans.iter().filter(|plan| plan.boot_id == boot_id);
    let held: BTreeSet<NodeHolding> = of_boot
        .filter_map(|plan| {
            let block = plan.block.as_ref()?;
            Some(NodeHolding {
                fabric: block.fabric.clone(),
                namespace: plan.pod.namespace.clone(),
                name: plan.network.name.clone(),
                uid: plan.network.uid.clone(),
                base: block.base,
                size: block.size,
                vlan: plan.rails.first().and_then(|rail| rail.vf.vlan).map(Vlan::id),
                ledger_sequence: block.ledger_sequence,
            })
        })
        .collect();
    held.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use railhead_plan::BlockRef;

    use super::*;
    use crate::claims::plans::tests::plan;

    #[test]
    fn each_network_of_which_a_pod_of_this_boot_has_a_plan_is_told_once() {
        let block = |base| BlockRef {
            fabric: "backend".to_owned(),
            base,
            size: 32,
            ledger_sequence: 7,
        };
        let mut plans = [
            plan("uid-1", "now", ["0000:18:00.3", "0000:19:00.3"]),
            plan("uid-2", "now", ["0000:18:00.4", "0000:19:00.4"]),
            plan("uid-3", "before", ["0000:18:00.5", "0000:19:00.5"]),
            plan("uid-4", "now", ["0000:18:00.6", "0000:19:00.6"]),
        ];
        for (plan, base) in plans.iter_mut().zip([64, 64, 96]) {
            plan.block = Some(block(base));
        }
        let held = of(&plans, "now");
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(
            (&*held[0].uid, held[0].base, held[0].vlan, held[0].ledger_sequence),
            ("7f3a9c21", 64, Some(1012), 7)
        );
    }
}
