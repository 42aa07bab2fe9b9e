//! What a fabric's status says of its pools. Pure.

use railhead_crds::reasons::Reason;
use railhead_planner::pools::{Draining, EditConflict, Laid};

use crate::{conditions::Said, network::listed};

/// Whether all pools can be used, and which of them are on their way out.
pub(super) fn healthy(laid: &Laid) -> Said {
    if !laid.invalid.is_empty() {
        let mut wrong: Vec<String> = laid.invalid.iter().map(ToString::to_string).collect();
        wrong.dedup();
        let message = format!("nothing new is cut from these pools: {}", wrong.join("; "));
        return Said::no("PoolsHealthy", Reason::PoolsInvalid, message);
    }
    if laid.draining.is_empty() {
        return Said::yes(
            "PoolsHealthy",
            Reason::Valid,
            "pools are disjoint and alike on all rails",
        );
    }
    let (used, free): (Vec<&Draining>, Vec<&Draining>) =
        laid.draining.iter().partition(|pool| !pool.networks.is_empty());
    let words = |pools: &[&Draining], said: fn(&Draining) -> String| -> Vec<String> {
        pools.iter().map(|pool| said(pool)).collect()
    };
    let mut said = words(&used, |pool| {
        format!("{} is in use by {}", pool.cidr, listed(&pool.networks))
    });
    said.extend(words(&free, |pool| {
        format!("{} is drained: no network has any of it, it may go", pool.cidr)
    }));
    let reason = if used.is_empty() {
        Reason::Drained
    } else {
        Reason::Draining
    };
    Said::yes("PoolsHealthy", reason, said.join("; "))
}

/// Whether the spec says what cannot be so while networks live.
pub(super) fn conflicts(conflicts: &[EditConflict]) -> Said {
    if conflicts.is_empty() {
        let message = "the spec says nothing against live networks";
        return Said::no("EditConflict", Reason::NoConflict, message);
    }
    let all: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    Said::yes("EditConflict", Reason::LiveNetworks, listed(&all))
}

#[cfg(test)]
pub(super) mod tests {
    use railhead_crds::{Fabric, NetworkSlice, Pool};
    use railhead_planner::{
        ledger,
        pools::{Written, lay_out},
    };

    use super::*;
    use crate::network::fixtures;

    /// The pools of a fabric of which nobody holds anything.
    pub(in crate::fabric) fn laid(fabric: &Fabric) -> Laid {
        let nobody: [NetworkSlice; 0] = [];
        lay_out(&Written::of_fabric(fabric, Vec::new()), &ledger::empty(), &nobody)
    }

    #[test]
    fn a_pool_that_is_drained_is_told_with_who_has_some_of_it() {
        let mut fabric = fixtures::fabric();
        for (rail, cidr) in fabric.spec.rails.iter_mut().zip(["10.2.0.0/24", "10.3.0.0/24"]) {
            rail.pools[0].draining = true;
            let pool = Pool {
                cidr: cidr.to_owned(),
                draining: false,
                ..rail.pools[0].clone()
            };
            rail.pools.push(pool);
        }
        let said = healthy(&laid(&fabric));
        assert_eq!((said.status, said.reason.as_str()), (true, "Drained"));
        let written = Written::of_fabric(&fabric, Vec::new());
        let said = healthy(&lay_out(&written, &ledger::empty(), &[fixtures::slice(2)]));
        assert_eq!((said.status, said.reason.as_str()), (true, "Draining"));
        assert!(
            said.message.contains("10.0.0.0/24 is in use by team-a/llama"),
            "{}",
            said.message
        );
    }

    #[test]
    fn an_edit_against_a_live_network_names_field_and_network() {
        let mut fabric = fixtures::fabric();
        fabric.spec.rails[1].pools[0].cidr = "10.9.0.0/24".to_owned();
        let written = Written::of_fabric(&fabric, Vec::new());
        let said = conflicts(&lay_out(&written, &ledger::empty(), &[fixtures::slice(2)]).conflicts);
        assert!(said.status);
        for words in ["spec.rails[rail1].pools[0].cidr", "10.1.0.0/24", "team-a/llama"] {
            assert!(said.message.contains(words), "{words:?} is missing in {}", said.message);
        }
        assert!(!conflicts(&laid(&fabric).conflicts).status, "nobody has any of it");
    }
}
