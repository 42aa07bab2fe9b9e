//! The rule by which every file on a node that has a version is read: one version back and one forth.

use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

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
pub fn is_readable(found: u32, current: u32) -> bool {
    found != 0 && found.abs_diff(current) <= 1
}

/// What the parser met, to be read in a message: its own words quote a text that it did not expect, whatever its length.
pub fn parser_says(error: &serde_json::Error) -> String {
    error.to_string().chars().take(256).collect()
}

/// Parses `bytes` when their `version` is `current` or one beside it.
///
/// Fields that this release does not know are ignored; fields that it needs and a neighbour lacks must carry a serde default.
pub fn parse<T: DeserializeOwned>(what: &'static str, current: u32, bytes: &[u8]) -> Result<T, FormatError> {
    let damaged = |error| FormatError::Damaged {
        what,
        detail: parser_says(&error),
    };
    let header: Header = serde_json::from_slice(bytes).map_err(damaged)?;
    if !is_readable(header.version, current) {
        return Err(FormatError::Version {
            what,
            found: header.version,
            current,
        });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_text_has_no_end_is_told_in_a_few_words() {
        let file = format!(r#"{{"version":"{}"}}"#, "v".repeat(20_000));
        let text = parse::<u32>("the attachment plan", 1, file.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with("the attachment plan is damaged") && text.len() < 512,
            "{text}"
        );
    }
}
