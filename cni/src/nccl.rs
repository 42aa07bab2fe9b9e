//! `nccl.conf`: the class's settings and the devices that ADD found, each with its origin.

use std::fmt::Write;

use railhead_plan::{AttachmentPlan, RailRecord};

/// The content of the file. `NCCL_IB_HCA` names exactly the pod's devices: in shared mode a pod sees those of others too.
pub(crate) fn nccl_conf(plan: &AttachmentPlan, rails: &[RailRecord]) -> String {
    let mut text = format!(
        "# Network {} of {}, index {} of {}.\n",
        plan.network.name, plan.pod.namespace, plan.index, plan.pods
    );
    let mut line = |origin: &str, name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = write!(text, "# {}\n{}={}\n", one_line(origin), one_line(name), one_line(value));
    };
    for setting in &plan.nccl {
        line(&setting.origin, &setting.name, &setting.value);
    }
    let devices: Vec<&str> = rails
        .iter()
        .filter_map(|rail| rail.rdma.as_ref())
        .map(|rdma| rdma.device.as_str())
        .collect();
    if !devices.is_empty() {
        // The second '=' asks NCCL for exact names; without it rxe1 would match rxe10 as well.
        line(
            "the RDMA devices of this pod's rails",
            "NCCL_IB_HCA",
            &format!("={}", devices.join(",")),
        );
    }
    text
}

/// A value never starts a line of its own.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
