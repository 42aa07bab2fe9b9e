//! Conditions: what is said about an object, and since when.

use std::borrow::Cow;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use railhead_crds::reasons::Reason;

/// The API server takes at most this many bytes for a condition's message.
const MAX_MESSAGE: usize = 32_768;

/// Why, in one word: one of ours, or what another object's condition says, which a later release may have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(Cow<'static, str>);

impl Word {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Reason> for Word {
    fn from(reason: Reason) -> Self {
        Self(Cow::Borrowed(reason.name()))
    }
}

/// As it was read.
impl From<&Condition> for Word {
    fn from(condition: &Condition) -> Self {
        Self(Cow::Owned(condition.reason.clone()))
    }
}

impl PartialEq<Reason> for Word {
    fn eq(&self, reason: &Reason) -> bool {
        *reason == *self.0
    }
}

/// What one condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) type_: &'static str,
    pub(crate) status: bool,
    pub(crate) reason: Word,
    pub(crate) message: String,
}

impl Said {
    /// The condition holds.
    pub(crate) fn yes(type_: &'static str, reason: impl Into<Word>, message: impl Into<String>) -> Self {
        Self {
            type_,
            status: true,
            reason: reason.into(),
            message: message.into(),
        }
    }

    /// The condition does not hold.
    pub(crate) fn no(type_: &'static str, reason: impl Into<Word>, message: impl Into<String>) -> Self {
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
            debug_assert!(
                Reason::named(said.reason.as_str()).is_none_or(|reason| reason.is_of_condition(said.type_)),
                "{} is not listed for conditions {}: add the place to railhead_crds::reasons",
                said.reason.as_str(),
                said.type_,
            );
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
                reason: said.reason.0.into_owned(),
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
        let first = merge(
            &[],
            vec![Said::no("Ready", Reason::NoNodes, "a")],
            Some(1),
            Timestamp::UNIX_EPOCH,
        );
        let later = Timestamp::from_second(60).unwrap();
        let same = merge(&first, vec![Said::no("Ready", Reason::PortDown, "b")], Some(2), later);
        assert_eq!(same[0].last_transition_time.0, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (same[0].reason.as_str(), same[0].observed_generation),
            ("PortDown", Some(2))
        );
        let changed = merge(&same, vec![Said::yes("Ready", Reason::AllReady, "c")], Some(2), later);
        assert_eq!(changed[0].last_transition_time.0, later);
        assert!(is_true(&changed, "Ready") && !is_true(&same, "Ready"));
    }

    #[test]
    fn a_message_longer_than_the_api_server_takes_is_cut_at_a_character() {
        let said = Said::no("Ready", Reason::NoNodes, "ä".repeat(MAX_MESSAGE));
        let merged = merge(&[], vec![said], None, Timestamp::UNIX_EPOCH);
        assert!(merged[0].message.len() <= MAX_MESSAGE);
    }
}
