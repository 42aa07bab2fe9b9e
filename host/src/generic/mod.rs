//! Generic netlink: families that are known by name (`ethtool`, `devlink`). The wire format is a command, a version and flat
//! attributes (linux/genetlink.h).

mod message;
mod socket;

pub(crate) use message::GenericMessage;
pub(crate) use socket::GenericSocket;
