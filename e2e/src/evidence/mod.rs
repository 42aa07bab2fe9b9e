//! What pods, kernel, wire and API server say about an attachment. Nothing here is taken from what Railhead remembers.

mod functions;
mod nothing_left;
mod pod;
mod rdma;
mod wire;

pub use functions::{FunctionState, functions};
pub use nothing_left::nothing_left;
pub use pod::{RailInPod, guarantees, rails_in_pod, rails_seen_by};
pub use rdma::{Perftest, rdma_bandwidth};
pub use wire::{PING, ROCE, Tagged, on_the_wire};
