//! The PCI address of a function: the one name of a VF that never changes while it exists.

use std::{fmt, str::FromStr};

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest, with a domain of 8 digits.
const MAX_BYTES: usize = 16;

/// `0000:18:00.3`: domain, bus, device, function; lower case, safe to use as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress(ArrayString<MAX_BYTES>);

/// A text that is not a PCI address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a PCI address of the form 0000:18:00.3")]
pub struct InvalidPciAddress(String);

impl PciAddress {
    /// The address as sysfs and netlink write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PciAddress {
    type Err = InvalidPciAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPciAddress(text.chars().take(64).collect());
        let hex = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let (rest, function) = text.rsplit_once('.').ok_or_else(invalid)?;
        let mut parts = rest.split(':');
        let (Some(domain), Some(bus), Some(device), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        // Domains above ffff exist (Intel VMD starts at 10000).
        let valid = hex(domain, 4..=8)
            && hex(bus, 2..=2)
            && hex(device, 2..=2)
            && function.len() == 1
            && matches!(function.as_bytes(), [b'0'..=b'7']);
        if !valid {
            return Err(invalid());
        }
        let mut address = ArrayString::from(text).map_err(|_| invalid())?;
        address.make_ascii_lowercase();
        Ok(Self(address))
    }
}

impl TryFrom<String> for PciAddress {
    type Error = InvalidPciAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.as_str().to_owned()
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_as_sysfs_writes_them_are_accepted() {
        for text in ["0000:18:00.3", "0000:01:10.2", "10000:e1:00.0", "0000:FF:1f.7"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().as_str(), text.to_ascii_lowercase());
        }
    }

    #[test]
    fn anything_that_could_leave_a_folder_is_refused() {
        for text in [
            "",
            "18:00.3",
            "../../etc/passwd",
            "0000:18:00.8",
            "0000:18:00.33",
            "0000:18:00",
            "0000:18:0/.3",
            "0000:18:00:00.3",
            "zzzz:18:00.3",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            if let Ok(address) = text.parse::<PciAddress>() {
                prop_assert!(!address.as_str().contains('/'));
            }
        }
    }
}
