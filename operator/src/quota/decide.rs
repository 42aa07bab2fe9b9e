//! What a quota's status says. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use railhead_crds::{NetworkQuota, NetworkQuotaStatus, QuotaSummary, QuotaUse, reasons::Reason};
use railhead_planner::quota::{Measure, Use};

use crate::conditions::{self, Said};

/// Type of the condition.
pub(super) const EXCEEDED: &str = "Exceeded";

/// The status of a quota of which so much is used, by fabric.
pub(super) fn status(quota: &NetworkQuota, used: &BTreeMap<String, Use>, now: Timestamp) -> NetworkQuotaStatus {
    let before = quota.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = quota.metadata.generation;
    NetworkQuotaStatus {
        observed_generation: generation,
        summary: summary(quota, used),
        used: used.iter().map(|(fabric, used)| of_fabric(fabric, used)).collect(),
        conditions: conditions::merge(before, vec![exceeded(quota, used)], generation, now),
    }
}

fn of_fabric(fabric: &str, used: &Use) -> QuotaUse {
    let count = |amount| u32::try_from(amount).unwrap_or(u32::MAX);
    QuotaUse {
        fabric_name: fabric.to_owned(),
        networks: count(used.networks),
        pods: count(used.pods),
        bandwidth: Measure::Bandwidth.text(used.mbps),
        vlans: count(used.vlans),
    }
}

/// The fabric of which the largest share of a limit is used.
fn summary(quota: &NetworkQuota, used: &BTreeMap<String, Use>) -> Option<QuotaSummary> {
    let hard = &quota.spec.hard;
    let share = |used: &Use| -> u128 {
        let shares = Measure::ALL.into_iter().filter_map(|measure| {
            let limit = measure.limit(hard)?;
            Some(u128::from(measure.of(used)) * 1_000_000 / u128::from(limit.max(1)))
        });
        shares.max().unwrap_or(0)
    };
    let (fabric, used) = used.iter().rev().max_by_key(|(_, used)| share(used))?;
    let of = |measure: Measure| {
        let amount = measure.text(measure.of(used));
        match measure.limit(hard) {
            Some(limit) => format!("{amount}/{}", measure.text(limit)),
            None => amount,
        }
    };
    Some(QuotaSummary {
        fabric: fabric.clone(),
        networks: of(Measure::Networks),
        pods: of(Measure::Pods),
        bandwidth: of(Measure::Bandwidth),
        vlans: of(Measure::Vlans),
    })
}

fn exceeded(quota: &NetworkQuota, used: &BTreeMap<String, Use>) -> Said {
    let beyond = |(fabric, used): (&String, &Use)| {
        let each = Measure::ALL.into_iter().filter_map(|measure| {
            let limit = measure.limit(&quota.spec.hard)?;
            let amount = measure.of(used);
            (amount > limit).then(|| {
                format!(
                    "{} {} used, {} allowed",
                    measure.field(),
                    measure.text(amount),
                    measure.text(limit)
                )
            })
        });
        let each: Vec<String> = each.collect();
        (!each.is_empty()).then(|| format!("Fabric {fabric}: {}", each.join(", ")))
    };
    let beyond: Vec<String> = used.iter().filter_map(beyond).collect();
    if beyond.is_empty() {
        return Said::no(EXCEEDED, Reason::WithinLimits, "no more is used than the limits allow");
    }
    let message = format!(
        "{}; the networks that have it keep it, and nothing new is reserved before less is used: delete networks that are not needed, or \
         raise spec.hard",
        beyond.join("; ")
    );
    Said::yes(EXCEEDED, Reason::UsedAboveHard, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(hard: &serde_json::Value) -> NetworkQuota {
        serde_json::from_value(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkQuota",
            "metadata": {"name": "rails", "namespace": "team-a", "generation": 3}, "spec": {"hard": hard},
        }))
        .unwrap()
    }

    fn used(networks: u64, pods: u64, mbps: u64) -> Use {
        Use {
            networks,
            pods,
            mbps,
            vlans: networks,
        }
    }

    #[test]
    fn the_tightest_fabric_is_summed_up_and_what_is_not_limited_stands_alone() {
        let quota = quota(&json!({"networks": 4, "bandwidth": "20T"}));
        let used = BTreeMap::from([
            ("backend".to_owned(), used(1, 64, 15_000_000)),
            ("storage".to_owned(), used(2, 8, 100)),
        ]);
        let status = status(&quota, &used, Timestamp::UNIX_EPOCH);
        let summary = status.summary.unwrap();
        assert_eq!(
            (
                summary.fabric.as_str(),
                summary.networks.as_str(),
                summary.bandwidth.as_str()
            ),
            ("backend", "1/4", "15T/20T")
        );
        assert_eq!((summary.pods.as_str(), summary.vlans.as_str()), ("64", "1"));
        assert_eq!(status.used.len(), 2);
        assert_eq!(status.used[1].bandwidth, "100M");
        assert!(!conditions::is_true(&status.conditions, EXCEEDED));
        assert_eq!(status.observed_generation, Some(3));
    }

    #[test]
    fn a_quota_below_use_says_what_is_beyond_and_that_nobody_loses_anything() {
        let quota = quota(&json!({"networks": 0, "pods": 100, "bandwidth": "1T"}));
        let used = BTreeMap::from([("backend".to_owned(), used(2, 100, 1_280_000))]);
        let status = status(&quota, &used, Timestamp::UNIX_EPOCH);
        let exceeded = conditions::find(&status.conditions, EXCEEDED).unwrap();
        assert_eq!(
            (exceeded.status.as_str(), exceeded.reason.as_str()),
            ("True", "UsedAboveHard")
        );
        assert!(
            exceeded
                .message
                .starts_with("Fabric backend: networks 2 used, 0 allowed, bandwidth 1280G used, 1T allowed; the networks that have it keep it"),
            "{}",
            exceeded.message
        );
        assert!(
            super::status(&quota, &BTreeMap::new(), Timestamp::UNIX_EPOCH)
                .summary
                .is_none()
        );
    }
}
