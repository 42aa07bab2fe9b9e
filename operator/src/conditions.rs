//! Conditions: what is said about an object, and since when.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

/// The API server takes at most this many bytes for a condition's message.
const MAX_MESSAGE: usize = 32_768;

/// What one condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) type_: &'static str,
    pub(crate) status: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Said {
    /// The condition holds.
    pub(crate) fn yes(type_: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: true,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// The condition does not hold.
    pub(crate) fn no(type_: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: false,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The conditions to write: the time of a condition that says the same as `before` stays.
pub(crate) fn merge(before: &[Condition], said: Vec<Said>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    said.into_iter()
        .map(|said| {
            let status = if said.status { "True" } else { "False" };
            let since = before
                .iter()
                .find(|old| old.type_ == said.type_ && old.status == status)
                .map_or(Time(now), |old| old.last_transition_time.clone());
            let mut message = said.message;
            if message.len() > MAX_MESSAGE {
                let end = (0..=MAX_MESSAGE).rev().find(|end| message.is_char_boundary(*end));
                message.truncate(end.unwrap_or(0));
            }
            Condition {
                last_transition_time: since,
                message,
                observed_generation: generation,
                reason: said.reason,
                status: status.to_owned(),
                type_: said.type_.to_owned(),
            }
        })
        .collect()
}

/// The condition of that type.
pub(crate) fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of that type is True.
pub(crate) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let first = merge(&[], vec![Said::no("Ready", "A", "a")], Some(1), Timestamp::UNIX_EPOCH);
        let later = Timestamp::from_second(60).unwrap();
        let same = merge(&first, vec![Said::no("Ready", "B", "b")], Some(2), later);
        assert_eq!(same[0].last_transition_time.0, Timestamp::UNIX_EPOCH);
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("B", Some(2)));
        let changed = merge(&same, vec![Said::yes("Ready", "C", "c")], Some(2), later);
        assert_eq!(changed[0].last_transition_time.0, later);
        assert!(is_true(&changed, "Ready") && !is_true(&same, "Ready"));
    }

    #[test]
    fn a_message_longer_than_the_api_server_takes_is_cut_at_a_character() {
        let said = Said::no("Ready", "A", "ä".repeat(MAX_MESSAGE));
        let merged = merge(&[], vec![said], None, Timestamp::UNIX_EPOCH);
        assert!(merged[0].message.len() <= MAX_MESSAGE);
    }
}
