//! What `ethtool` shows and sets: offloads, queues, rings, interrupt moderation, filter rules.

mod bitset;
mod filters;
mod settings;
mod socket;

pub use filters::FilterError;
pub(crate) use filters::FilterSocket;
pub use settings::{Channels, EthtoolSettings, Rings};
pub use socket::EthtoolSocket;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::Attributes;

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = Attributes::parse(&payload);
            for kind in 0..8 {
                let _ = bitset::names(&answer.nested(kind).unwrap_or_default());
            }
            let _ = socket::four(&answer);
        }
    }
}
