//! A 48-bit Ethernet address.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Written `02:00:00:00:00:01`, lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// A text or a byte string that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is not a MAC address of the form 02:00:00:00:00:01")]
pub struct InvalidMacAddress(String);

impl MacAddress {
    /// From its six bytes.
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Its six bytes.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Whether it is `00:00:00:00:00:00`, which is what a driver reports for a VF that has no address of its own.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl TryFrom<&[u8]> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| InvalidMacAddress(format!("a value of {} bytes", bytes.len())))
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMacAddress(format!("{:?}", text.chars().take(64).collect::<String>()));
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(invalid)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(invalid()),
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&digits.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_survives_text_and_back() {
        let address: MacAddress = "02:Ab:00:00:00:01".parse().unwrap();
        assert_eq!(address.to_string(), "02:ab:00:00:00:01");
        assert_eq!(address.to_string().parse(), Ok(address));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "+2:00:00:00:00:01",
            "2:0:0:0:0:1",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?} was accepted");
        }
    }
}
