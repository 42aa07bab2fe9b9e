//! One blocking netlink socket for every family: sequence numbers, acknowledgements, dumps, the kernel's error text.

mod attributes;
mod datagram;
mod error;
mod socket;

pub(crate) use attributes::Attributes;
#[cfg(feature = "testing")]
pub(crate) use datagram::Answers;
pub use error::NetlinkError;
pub(crate) use socket::Socket;
