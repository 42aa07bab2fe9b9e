//! The name of a network interface, safe to use in a path.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    str::FromStr,
};

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::PciAddress;

/// `IFNAMSIZ` less the closing zero (linux/if.h).
const MAX_BYTES: usize = 15;

/// A name that the kernel's `dev_valid_name` accepts: 1 to 15 bytes, not `.` or `..`, no `/`, `:` or white space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(ArrayString<MAX_BYTES>);

/// A text that cannot name an interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an interface name: 1 to 15 printable bytes without '/', ':' or white space")]
pub struct InvalidInterfaceName(String);

impl InterfaceName {
    /// A name that no other function of the node has: made of the PCI address, whose longest form just fits.
    pub fn temporary(function: &PciAddress) -> Self {
        let digits = function.as_str().chars().filter(char::is_ascii_hexdigit);
        let mut name = ArrayString::new();
        for character in "rh".chars().chain(digits) {
            // 2 and 13 bytes at the most.
            name.push(character);
        }
        Self(name)
    }

    /// A name that nobody can have taken on purpose: the standard library seeds its hashers from the kernel's random source.
    pub fn random() -> Self {
        let number = RandomState::new().build_hasher().finish();
        let mut name = ArrayString::new();
        for character in format!("rh{:012x}", number >> 16).chars() {
            // 14 bytes.
            name.push(character);
        }
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidInterfaceName(text.chars().take(64).collect());
        let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        if (1..=MAX_BYTES).contains(&text.len()) && text != "." && text != ".." && text.bytes().all(printable) {
            ArrayString::from(text).map(Self).map_err(|_| invalid())
        } else {
            Err(invalid())
        }
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InvalidInterfaceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_kernel_are_accepted_and_paths_are_not() {
        for name in ["rail0", "enp1s0f0v3", "eth0.100", "abcdefghijklmno"] {
            assert!(name.parse::<InterfaceName>().is_ok(), "{name:?} was refused");
        }
        for name in ["", ".", "..", "a/b", "a:1", "a b", "abcdefghijklmnop", "rail\u{e9}"] {
            assert!(name.parse::<InterfaceName>().is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn a_temporary_name_is_a_name_whatever_the_domain() {
        for (address, name) in [("0000:18:00.3", "rh000018003"), ("10000000:e1:1f.7", "rh10000000e11f7")] {
            let temporary = InterfaceName::temporary(&address.parse().unwrap());
            assert_eq!(temporary.as_str(), name);
            assert_eq!(temporary.as_str().parse(), Ok(temporary));
        }
    }
}
