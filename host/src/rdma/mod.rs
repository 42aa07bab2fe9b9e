//! RDMA devices over netlink: which exist, on which link, in which namespace; making and removing soft-RoCE devices.

mod contexts;
mod message;
mod socket;

#[cfg(feature = "testing")]
pub(crate) use message::RdmaMessage;
pub use socket::{NetnsMode, RdmaDevice, RdmaError, RdmaPort, RdmaSocket};

/// What an RDMA answer is read as.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub(crate) struct RdmaAnswer {
    pub(crate) device: Option<RdmaDevice>,
    pub(crate) port: Option<RdmaPort>,
    pub(crate) mode: NetnsMode,
    pub(crate) contexts: u64,
    pub(crate) holders: std::collections::BTreeSet<u32>,
}

#[cfg(feature = "testing")]
impl RdmaAnswer {
    pub(crate) fn of(answer: &RdmaMessage) -> Self {
        Self {
            device: RdmaDevice::of(answer),
            port: RdmaPort::of(answer),
            mode: NetnsMode::of(answer),
            contexts: contexts::open_contexts(answer),
            holders: contexts::context_holders(answer),
        }
    }
}
