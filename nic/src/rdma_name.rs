//! The name of an RDMA device, safe to use in a path.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// `IB_DEVICE_NAME_MAX` (rdma/ib_verbs.h), which counts the closing zero.
const NAME_MAX: usize = 64;

/// A name like `mlx5_10`: 1 to 63 letters, digits, `_`, `-` and `.`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RdmaName(String);

/// A text that cannot name an RDMA device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not the name of an RDMA device")]
pub struct InvalidRdmaName(String);

impl RdmaName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RdmaName {
    type Err = InvalidRdmaName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if (1..NAME_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRdmaName(text.chars().take(NAME_MAX).collect()))
        }
    }
}

impl TryFrom<String> for RdmaName {
    type Error = InvalidRdmaName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RdmaName> for String {
    fn from(name: RdmaName) -> Self {
        name.0
    }
}

impl fmt::Display for RdmaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers_and_of_udev_are_accepted_and_paths_are_not() {
        for name in ["mlx5_10", "rocep24s0f0v3", "rxe6f1c0000r0"] {
            assert!(name.parse::<RdmaName>().is_ok(), "{name:?} was refused");
        }
        for name in ["", ".", "..", ".x", "a/b", "a b", "a:b", &"a".repeat(64)] {
            assert!(name.parse::<RdmaName>().is_err(), "{name:?} was accepted");
        }
    }
}
