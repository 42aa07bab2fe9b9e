//! What `ethtool` shows and sets: offloads, queues, rings, interrupt moderation, filter rules.

mod bitset;
mod filters;
mod settings;
mod socket;

pub use filters::FilterError;
pub(crate) use filters::FilterSocket;
pub use settings::{Channels, EthtoolSettings, Rings};
pub use socket::EthtoolSocket;
#[cfg(feature = "testing")]
pub(crate) use socket::PARTS;
