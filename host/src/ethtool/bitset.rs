//! Sets of named bits on the wire (Documentation/networking/ethtool-netlink.rst, "Bit sets").

use std::collections::BTreeSet;

use crate::netlink::Attributes;

/// `ETHTOOL_A_BITSET_*`, `ETHTOOL_A_BITSET_BITS_BIT`, `ETHTOOL_A_BITSET_BIT_*` (linux/ethtool_netlink.h).
const NO_MASK: u16 = 1;
const BITS: u16 = 3;
const BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// The names of the bits that are set.
pub(super) fn names(bitset: &Attributes) -> BTreeSet<String> {
    // Without a mask the list holds what is set; with one, it holds what is known, and says which is set.
    let only_set = bitset.has(NO_MASK);
    let bits = bitset.nested(BITS).unwrap_or_default();
    bits.all_nested(BIT)
        .filter(|bit| only_set || bit.has(BIT_VALUE))
        .filter_map(|bit| bit.text(BIT_NAME))
        .collect()
}

/// The request that makes a set `wanted` out of `found`.
pub(super) fn change(found: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Attributes {
    let mut bits = Attributes::default();
    for name in found.symmetric_difference(wanted) {
        let mut bit = Attributes::default().with_text(BIT_NAME, name);
        if wanted.contains(name) {
            bit = bit.with_bytes(BIT_VALUE, &[]);
        }
        bits = bits.with_nested(BIT, &bit);
    }
    Attributes::default().with_nested(BITS, &bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bits_that_differ_are_sent_and_those_that_are_set_are_read() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let sent = change(&of(&["a", "b"]), &of(&["b", "c"]));
        assert_eq!(names(&sent), of(&["c"]));
        let bits = sent.nested(BITS).unwrap();
        let bits: Vec<_> = bits.all_nested(BIT).filter_map(|bit| bit.text(BIT_NAME)).collect();
        assert_eq!(bits, ["a", "c"]);
    }

    #[test]
    fn a_list_without_mask_holds_what_is_set() {
        let bit = Attributes::default().with_text(BIT_NAME, "rx-gro");
        let bits = Attributes::default().with_nested(BIT, &bit);
        let list = Attributes::default().with_bytes(NO_MASK, &[]).with_nested(BITS, &bits);
        assert_eq!(names(&list), BTreeSet::from(["rx-gro".to_owned()]));
        assert_eq!(names(&Attributes::default()), BTreeSet::new());
    }
}
