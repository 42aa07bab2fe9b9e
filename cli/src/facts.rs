//! Sentences with their origin: what is so, where that was read, and for how long it has been so.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use railhead_crds::reasons::Reason;
use schemars::JsonSchema;
use serde::Serialize;

use crate::output::{Cell, Page, age};

/// How a fact is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(crate) enum Level {
    /// As it should be, or neither good nor bad.
    #[default]
    Fine,
    /// Something waits, or is not as declared, and goes on by itself.
    Waits,
    /// Somebody has to do something.
    Wrong,
}

/// One fact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fact {
    /// What it is about, in a word: `network`, `index`, `rail0`.
    pub(crate) about: String,
    /// The sentence.
    pub(crate) text: String,
    /// How it is meant.
    pub(crate) level: Level,
    /// Why, in one word, where an object's condition or event has one. The troubleshooting page lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Where it was read: kind, namespace, name and field.
    pub(crate) source: String,
    /// Since when it has been so, as far as that is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// How long that is, as people write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) age: Option<String>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Fact {
    /// That something is so, as read there.
    pub(crate) fn new(about: impl Into<String>, text: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            text: text.into(),
            source: source.into(),
            ..Self::default()
        }
    }

    /// What a condition of an object says: `Reserved=False PoolExhausted: ...`.
    pub(crate) fn of_condition(
        about: impl Into<String>,
        condition: &Condition,
        level: Level,
        object: &str,
        now: Timestamp,
    ) -> Self {
        let Condition {
            type_,
            status,
            reason,
            message,
            ..
        } = condition;
        Self {
            reason: Some(reason.clone()),
            ..Self::new(about, format!("{type_}={status} {reason}: {message}"), object)
        }
        .level(level)
        .since(Some(condition.last_transition_time.0), now)
        .advised()
    }

    /// With what is listed as the next step of its reason, where something is to be done and nothing better is known.
    pub(crate) fn advised(self) -> Self {
        let listed = self.reason.as_deref().and_then(Reason::named);
        match listed.and_then(Reason::next) {
            Some(next) if self.level != Level::Fine && self.help.is_none() => self.help(next),
            _ => self,
        }
    }

    pub(crate) fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    pub(crate) fn since(mut self, since: Option<Timestamp>, now: Timestamp) -> Self {
        self.since = since.map(|since| since.to_string());
        self.age = since.map(|since| age(since, now));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// `text  <- source, age`, and what would help below it.
    pub(crate) fn show(&self, page: &mut Page) {
        let text = match self.level {
            Level::Fine => Cell::plain(&self.text),
            Level::Waits => Cell::waits(&self.text),
            Level::Wrong => Cell::bad(&self.text),
        };
        let age = self.age.as_ref().map_or_else(String::new, |age| format!(", {age}"));
        let origin = Cell::dim(format!("  <- {}{age}", self.source));
        page.row(0, [Cell::bold(&self.about), text.and(origin)]);
        if let Some(help) = &self.help {
            page.row(0, [Cell::plain(""), Cell::plain("help: ").and(Cell::plain(help))]);
        }
    }
}

/// The gravest of them.
pub(crate) fn gravest<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Level {
    facts.into_iter().map(|fact| fact.level).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_for_a_listed_reason_has_its_next_step_and_what_is_fine_has_none() {
        let next = Reason::PoolExhausted.next().expect("something is to be done");
        let fact = |level| Fact::new("a", "b", "c").reason("PoolExhausted").level(level).advised();
        assert_eq!(fact(Level::Wrong).help.as_deref(), Some(next));
        assert_eq!(fact(Level::Fine).help, None);
        let own = Fact::new("a", "b", "c")
            .reason("PoolExhausted")
            .level(Level::Waits)
            .help("d");
        assert_eq!(own.advised().help.as_deref(), Some("d"));
        let later = Fact::new("a", "b", "c").reason("OfALaterRelease").level(Level::Wrong);
        assert_eq!(later.advised().help, None);
    }
}
