//! RDMA devices over netlink: which exist, on which link, in which namespace; making and removing soft-RoCE devices.

mod contexts;
mod message;
mod socket;

pub use socket::{NetnsMode, RdmaDevice, RdmaError, RdmaPort, RdmaSocket};
