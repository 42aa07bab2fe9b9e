//! An 802.1Q tag.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A VLAN and the priority of its frames. Absence of a tag is `Option<Vlan>`, never VLAN 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Vlan {
    id: u16,
    pcp: u8,
}

/// Numbers that are no tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("VLAN {id} with priority {pcp} does not exist: VLANs are 1 to 4094, priorities 0 to 7")]
pub struct InvalidVlan {
    id: u16,
    pcp: u8,
}

#[derive(Deserialize)]
struct Unchecked {
    id: u16,
    pcp: u8,
}

impl Vlan {
    /// VLAN `id`, 1 to 4094, with priority code point `pcp`, 0 to 7.
    pub const fn new(id: u16, pcp: u8) -> Result<Self, InvalidVlan> {
        if 1 <= id && id <= 4094 && pcp <= 7 {
            Ok(Self { id, pcp })
        } else {
            Err(InvalidVlan { id, pcp })
        }
    }

    /// 1 to 4094.
    pub const fn id(self) -> u16 {
        self.id
    }

    /// Priority code point, 0 to 7.
    pub const fn pcp(self) -> u8 {
        self.pcp
    }
}

impl TryFrom<Unchecked> for Vlan {
    type Error = InvalidVlan;

    fn try_from(tag: Unchecked) -> Result<Self, Self::Error> {
        Self::new(tag.id, tag.pcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_as_it_was_written_and_one_that_cannot_be_is_refused() {
        let tag: Vlan = serde_json::from_str(r#"{"id":1012,"pcp":3}"#).unwrap();
        assert_eq!((tag.id(), tag.pcp()), (1012, 3));
        assert_eq!(serde_json::to_string(&tag).unwrap(), r#"{"id":1012,"pcp":3}"#);
        for text in [r#"{"id":0,"pcp":0}"#, r#"{"id":4095,"pcp":0}"#, r#"{"id":1,"pcp":8}"#] {
            assert!(serde_json::from_str::<Vlan>(text).is_err(), "{text}");
        }
    }
}
