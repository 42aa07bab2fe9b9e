//! The files that tell programs in the pod of its rails, each line with its origin in a comment above it.

mod lines;
mod nccl;

use railhead_plan::RailRecord;

pub(crate) use nccl::nccl_conf;

#[cfg(test)]
mod samples;

/// The pod's RDMA devices, by ascending rail.
fn device_names(rails: &[RailRecord]) -> Vec<&str> {
    rails
        .iter()
        .filter_map(|rail| Some(rail.rdma.as_ref()?.device.as_str()))
        .collect()
}
