//! What Railhead decides, as pure functions: the same input gives the same answer, on every replica and after every restart.
//!
//! ```text
//! Fabric ──> pools, slots ──> ledger ──> network (slice) ──> attachment (plan of one pod)
//!               \                    |                    ^
//!                node                claim, bandwidth      index
//! ```
//!
//! No Kubernetes client, no clock, no I/O: operator and agent observe, ask here, and do.

pub mod attachment;
pub mod bandwidth;
pub mod claim;
pub mod growth;
pub mod index;
pub mod ledger;
mod nccl;
pub mod network;
pub mod node;
pub mod pools;
pub mod quota;
pub mod slots;
pub mod tenant;
