//! The rule by which every file on a node that has a version is read: one version back and one forth.

use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

/// A kind of file that has a version.
pub trait Versioned: DeserializeOwned {
    /// What messages call it, for example `the attachment plan`.
    const WHAT: &'static str;
    /// The version that this release writes.
    const VERSION: u32;

    /// Reads a file's content when its `version` is [`Self::VERSION`] or one beside it.
    ///
    /// Fields that this release does not know are ignored; fields that it needs and a neighbour lacks must carry a serde default.
    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let damaged = |error| FormatError::Damaged {
            what: Self::WHAT,
            detail: parser_says(&error),
        };
        let header: Header = serde_json::from_slice(bytes).map_err(damaged)?;
        if !is_readable(header.version, Self::VERSION) {
            return Err(FormatError::Version {
                what: Self::WHAT,
                found: header.version,
                current: Self::VERSION,
            });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }
}

/// Why a file's content was refused. Nothing has been changed when this is returned.
#[derive(Debug, Error)]
pub enum FormatError {
    /// Not JSON of the expected shape, for example a file that was cut off.
    #[error("{what} is damaged ({detail}); delete the pod so that it is prepared again")]
    Damaged {
        /// Which kind of file.
        what: &'static str,
        /// What the parser met, cut off.
        detail: String,
    },
    /// Written by a release that is more than one version away.
    #[error(
        "{what} has format version {found}, this release reads {current} and its neighbours; finish the upgrade of agent and CNI binary on this node"
    )]
    Version {
        /// Which kind of file.
        what: &'static str,
        /// The version in the file.
        found: u32,
        /// The version that this release writes.
        current: u32,
    },
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Whether a release that writes version `current` reads a file of version `found`: its own, one back and one forth.
fn is_readable(found: u32, current: u32) -> bool {
    found != 0 && found.abs_diff(current) <= 1
}

/// What the parser met, to be read in a message: its own words quote a text that it did not expect, whatever its length.
pub fn parser_says(error: &serde_json::Error) -> String {
    error.to_string().chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Empty {}

    impl Versioned for Empty {
        const WHAT: &'static str = "the attachment plan";
        const VERSION: u32 = 2;
    }

    #[test]
    fn neighbouring_versions_are_read_and_others_are_refused() {
        for (version, readable) in [(0, false), (1, true), (2, true), (3, true), (4, false)] {
            let file = format!(r#"{{"version":{version},"fieldOfTheFuture":1}}"#);
            let parsed = Empty::parse(file.as_bytes());
            assert_eq!(parsed.is_ok(), readable, "version {version}: {parsed:?}");
        }
    }

    #[test]
    fn a_file_whose_text_has_no_end_is_told_in_a_few_words() {
        let file = format!(r#"{{"version":"{}"}}"#, "v".repeat(20_000));
        let text = Empty::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(
            text.starts_with("the attachment plan is damaged") && text.len() < 512,
            "{text}"
        );
    }
}
