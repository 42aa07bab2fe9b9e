//! One blocking netlink socket for every family: sequence numbers, acknowledgements, dumps, the kernel's error text.

mod attributes;
mod error;
mod socket;

pub(crate) use attributes::Attributes;
pub use error::NetlinkError;
pub(crate) use socket::Socket;
