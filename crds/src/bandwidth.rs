//! Bandwidth as users write it: decimal bits per second.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bits per second with a decimal suffix: `200M`, `10G`, `1T`.
///
/// The unit of admission is 1M; binary suffixes are refused because `100Gi` is 107.4 Gbit/s and fits no 100G port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bandwidth {
    mbps: u64,
}

/// Why a text is not a bandwidth.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a bandwidth: write decimal bits per second such as 200M, 10G or 1T (100Gi would be 107.4 Gbit/s and fit no 100G port)"
)]
pub struct BandwidthError(String);

impl Bandwidth {
    /// From Mbit/s.
    pub const fn from_mbps(mbps: u64) -> Self {
        Self { mbps }
    }

    /// Mbit/s.
    pub const fn mbps(self) -> u64 {
        self.mbps
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.mbps * 1_000_000
    }

    /// Reads a Kubernetes quantity as the API server or the scheduler writes it back: `200M`, `1G`, `1500M`, `1000000000`, `2e9`.
    /// The scheduler writes what a claim consumes with a binary suffix where that is shorter: 400M comes back as `390625Ki`.
    /// Whole Mbit/s only; anything else is `None`.
    pub fn from_quantity(quantity: &str) -> Option<Self> {
        let split = quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len());
        let (digits, suffix) = quantity.split_at(split);
        let value: u64 = digits.parse().ok()?;
        let factor: u64 = match suffix {
            "" => 1,
            "k" | "e3" | "E3" => 1_000,
            "M" | "e6" | "E6" => 1_000_000,
            "G" | "e9" | "E9" => 1_000_000_000,
            "T" | "e12" | "E12" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        let bits = value.checked_mul(factor)?;
        (bits % 1_000_000 == 0).then_some(Self { mbps: bits / 1_000_000 })
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mbps {
            m if m > 0 && m % 1_000_000 == 0 => write!(f, "{}T", m / 1_000_000),
            m if m > 0 && m % 1_000 == 0 => write!(f, "{}G", m / 1_000),
            m => write!(f, "{m}M"),
        }
    }
}

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || BandwidthError(text.to_owned());
        let factor = match text.as_bytes().last() {
            Some(b'M') => 1,
            Some(b'G') => 1_000,
            Some(b'T') => 1_000_000,
            _ => return Err(error()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty()
            || digits.len() > 6
            || digits.starts_with('0')
            || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(error());
        }
        let value: u64 = digits.parse().map_err(|_| error())?;
        Ok(Self { mbps: value * factor })
    }
}

impl TryFrom<String> for Bandwidth {
    type Error = BandwidthError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Bandwidth> for String {
    fn from(bandwidth: Bandwidth) -> Self {
        bandwidth.to_string()
    }
}

impl JsonSchema for Bandwidth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bandwidth".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 8,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^[1-9][0-9]{0,5}[MGT]$')",
                "message": "write decimal bits per second such as 200M, 10G or 1T; binary suffixes are refused: 100Gi is 107.4 Gbit/s and fits no 100G port",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["1M", "200M", "10G", "400G", "1T", "1500M"] {
            assert_eq!(text.parse::<Bandwidth>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn binary_suffixes_zero_and_bare_numbers_are_refused() {
        for text in ["100Gi", "0G", "", "G", "100", "1.5G", "-1G", "10 G", "1234567M"] {
            assert!(text.parse::<Bandwidth>().is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_read_as_the_api_server_writes_them() {
        assert_eq!(Bandwidth::from_quantity("1G"), Some(Bandwidth::from_mbps(1000)));
        assert_eq!(Bandwidth::from_quantity("1000000000"), Some(Bandwidth::from_mbps(1000)));
        assert_eq!(Bandwidth::from_quantity("200M"), Some(Bandwidth::from_mbps(200)));
        assert_eq!(Bandwidth::from_quantity("390625Ki"), Some(Bandwidth::from_mbps(400)));
        assert_eq!(
            Bandwidth::from_quantity("9765625Ki"),
            Some(Bandwidth::from_mbps(10_000))
        );
        assert_eq!(Bandwidth::from_quantity("500k"), None);
        assert_eq!(Bandwidth::from_quantity("100Gi"), None);
    }
}
