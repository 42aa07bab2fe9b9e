//! Conditions: what a status says, and since when.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use railhead_crds::reasons::Reason;

/// A condition to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Type, for example Ready.
    pub kind: &'static str,
    /// True or False.
    pub holds: bool,
    /// Reason, CamelCase.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Finding {
    /// The condition holds.
    pub fn yes(kind: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            holds: true,
            reason,
            message: message.into(),
        }
    }

    /// The condition does not hold.
    pub fn no(kind: &'static str, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds: false,
            ..Self::yes(kind, reason, message)
        }
    }
}

/// The conditions for a status; the time of the last transition is kept where the status did not change.
pub fn merge(
    previous: &[Condition],
    findings: Vec<Finding>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .into_iter()
        .map(|finding| {
            debug_assert!(
                finding.reason.is_of_condition(finding.kind),
                "{} is not listed for conditions {}: add the place to railhead_crds::reasons",
                finding.reason,
                finding.kind,
            );
            let status = if finding.holds { "True" } else { "False" };
            let since = previous
                .iter()
                .find(|condition| condition.type_ == finding.kind && condition.status == status)
                .map_or(Time(now), |condition| condition.last_transition_time.clone());
            Condition {
                type_: finding.kind.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.into(),
                message: finding.message,
                last_transition_time: since,
                observed_generation: generation,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_changes_with_the_status_and_not_with_the_reason() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::now());
        let first = merge(&[], vec![Finding::no("Ready", Reason::PortDown, "a")], None, early);
        let other_reason = vec![Finding::no("Ready", Reason::PortSlow, "b")];
        let second = merge(&first, other_reason, Some(2), late);
        assert_eq!(second[0].last_transition_time.0, early);
        assert_eq!(second[0].reason, "PortSlow");
        let third = merge(&second, vec![Finding::yes("Ready", Reason::Ready, "")], None, late);
        assert_eq!(third[0].last_transition_time.0, late);
    }
}
