//! Railhead on stand-in ports: network namespaces and veth pairs in the place of pods, VFs and cables.
//!
//! Kernel, namespaces, netlink and processes are real, so what is measured and broken here is the path that every pod takes; what is
//! missing is the hardware. Judgements are by `ip -j`, never by Railhead's own records.

pub mod bench;
pub mod call;
pub mod claim;
pub mod faults;
pub mod floor;
pub mod namespace;
pub mod node;
pub mod observe;
pub mod pf;
pub mod soak;
mod times;
mod trace;
