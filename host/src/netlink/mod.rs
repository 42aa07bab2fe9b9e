//! One blocking netlink socket for every family: sequence numbers, acknowledgements, dumps, the kernel's error text.

mod error;
mod socket;

pub use error::NetlinkError;
pub(crate) use socket::Socket;
