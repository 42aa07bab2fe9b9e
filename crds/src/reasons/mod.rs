//! The reasons of conditions and events: each stands here once, with what it means and what to do.
//!
//! Whoever sets a condition or sends an event takes a [`Reason`], and only this module makes one: what is not listed here does
//! not compile. Whoever reads an object finds what a reason in it means by its name:
//!
//! ```
//! use railhead_crds::reasons::Reason;
//!
//! let held = Reason::named("IndexHeld").expect("it is listed");
//! assert_eq!(held.means(), "another pod still holds this index");
//! assert!(held.next().is_some(), "there is something to do");
//! assert!(Reason::named("SomethingOfALaterRelease").is_none());
//! ```
//!
//! One that is not listed:
//!
//! ```compile_fail
//! let mistyped = railhead_crds::reasons::Reason::IndexHold;
//! ```
//!
//! [`markdown`] is the page `docs/reasons.md`.

mod fabric;
mod network;
mod node;
mod page;
mod place;
mod pod;
mod records;

use std::fmt;

pub use self::{
    page::markdown,
    place::{Kind, Place},
};

/// Why a condition is as it is, or why an event was sent: a word to search for, in UpperCamelCase as users see it.
///
/// The constants are the list. Reasons are compared with each other, and with texts that were read from the API server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(&'static Entry);

/// What is known of one.
#[derive(PartialEq, Eq)]
struct Entry {
    name: &'static str,
    places: &'static [Place],
    means: &'static str,
    next: Option<&'static str>,
}

impl Reason {
    /// All of them: by the kind of object at which each arises.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            network::LISTED,
            pod::LISTED,
            fabric::LISTED,
            node::LISTED,
            records::LISTED,
        ]
        .into_iter()
        .flatten()
        .copied()
    }

    /// The one of this name, as it was read from a condition or event. An object may have been written by a release that knows
    /// others.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|reason| reason.name() == name)
    }

    /// The word.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// In one sentence, that begins with a small letter and ends without a full stop.
    pub fn means(self) -> &'static str {
        self.0.means
    }

    /// What to do about it, in the same form. `None` where it says that all is well, or that something is under way.
    pub fn next(self) -> Option<&'static str> {
        self.0.next
    }

    /// Of which conditions and events it is the reason.
    pub fn places(self) -> &'static [Place] {
        self.0.places
    }

    /// Whether it is the reason of a condition of this type.
    pub fn is_of_condition(self, type_: &str) -> bool {
        self.places().iter().any(|place| place.condition() == Some(type_))
    }

    /// Whether it is the reason of an event about an object of this kind.
    pub fn is_of_event(self, kind: &str) -> bool {
        let of_kind = |place: &Place| matches!(place, Place::Event(of) if of.name() == kind);
        self.places().iter().any(of_kind)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.name().to_owned()
    }
}

impl PartialEq<str> for Reason {
    fn eq(&self, read: &str) -> bool {
        self.name() == read
    }
}

impl PartialEq<&str> for Reason {
    fn eq(&self, read: &&str) -> bool {
        self.name() == *read
    }
}

impl PartialEq<Reason> for &str {
    fn eq(&self, reason: &Reason) -> bool {
        *self == reason.name()
    }
}

impl PartialEq<Reason> for String {
    fn eq(&self, reason: &Reason) -> bool {
        self == reason.name()
    }
}

/// One constant for each: `Name on PLACES, means "...", next "...";`.
macro_rules! reasons {
    ($($name:ident on $places:expr, means $means:literal $(, next $next:literal)?;)*) => {
        #[allow(non_upper_case_globals)]
        impl $crate::reasons::Reason {
            $(
                #[doc = $means]
                pub const $name: Self = Self(&$crate::reasons::Entry {
                    name: stringify!($name),
                    places: $places,
                    means: $means,
                    next: $crate::reasons::next!($($next)?),
                });
            )*
        }

        /// Those of this file.
        pub(super) const LISTED: &[$crate::reasons::Reason] = &[$($crate::reasons::Reason::$name),*];
    };
}

macro_rules! next {
    () => {
        None
    };
    ($next:literal) => {
        Some($next)
    };
}

use {next, reasons};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_is_found_by_its_name_and_stands_once() {
        let names: BTreeSet<&str> = Reason::all().map(Reason::name).collect();
        assert_eq!(names.len(), Reason::all().count());
        for reason in Reason::all() {
            assert_eq!(Reason::named(reason.name()), Some(reason));
            let name = reason.name();
            // What the API server takes for a condition's reason.
            assert!(name.starts_with(|first: char| first.is_ascii_uppercase()), "{name}");
            assert!(name.chars().all(|each| each.is_ascii_alphanumeric()), "{name}");
        }
        assert_eq!(Reason::named("Indexheld"), None);
        assert_eq!(Reason::named(""), None);
    }

    #[test]
    fn each_reason_stands_somewhere_and_is_explained_in_one_sentence() {
        for reason in Reason::all() {
            assert!(!reason.places().is_empty(), "{reason}: of no condition and no event");
            let places: BTreeSet<String> = reason.places().iter().map(ToString::to_string).collect();
            assert_eq!(places.len(), reason.places().len(), "{reason}: {places:?}");
            for text in [Some(reason.means()), reason.next()].into_iter().flatten() {
                assert!(!text.is_empty() && !text.ends_with(['.', ' ']), "{reason}: {text:?}");
                assert!(!text.contains(['\n', '|']), "{reason}: it stands in a table: {text:?}");
            }
        }
    }

    #[test]
    fn a_reason_is_of_the_conditions_and_events_of_its_list() {
        let refused = Reason::PoolExhausted;
        assert!(refused.is_of_condition("Reserved") && !refused.is_of_condition("Attached"));
        assert!(refused.is_of_event("TrainingNetwork") && !refused.is_of_event("Pod"));
        assert_eq!(refused, "PoolExhausted");
        assert_eq!(String::from(refused), refused);
        assert_ne!(refused, Reason::VlanExhausted);
    }
}
