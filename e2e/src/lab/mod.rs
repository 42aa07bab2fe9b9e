//! The lab: a real Kubernetes with real SR-IOV nodes on one machine.

pub mod cache;
pub mod pins;
pub mod prepare;
pub mod progress;
pub mod run;
