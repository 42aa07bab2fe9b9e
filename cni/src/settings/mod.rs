//! The files that tell programs in the pod of its rails, each line with its origin in a comment above it.
//!
//! `nccl.conf` and `ucx.conf` are read by the libraries themselves; `env` is for all that read their environment, `hosts` for
//! whoever looks for the other pods. They say what ADD has found, and a network or a pod may say otherwise.

mod env;
mod hosts;
mod lines;
mod nccl;
mod ucx;

use std::fmt::Display;

use railhead_plan::{AttachmentPlan, GidIndex, PEERS_FILE, RailRecord, RdmaPlan};

#[cfg(test)]
mod samples;

/// A file of the pod's folder.
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) content: String,
}

/// All files of a pod with these rails.
pub(crate) fn files(plan: &AttachmentPlan, rails: &[RailRecord]) -> Vec<File> {
    let facts = Facts::of(plan, rails);
    let nccl = plan.nccl_file.then(|| File {
        name: "nccl.conf",
        content: nccl::file(&facts),
    });
    let others = [
        File {
            name: "ucx.conf",
            content: ucx::file(&facts),
        },
        File {
            name: "env",
            content: env::file(&facts),
        },
        File {
            name: PEERS_FILE,
            content: hosts::file(&facts),
        },
    ];
    nccl.into_iter().chain(others).collect()
}

/// What the files tell of.
struct Facts<'a> {
    plan: &'a AttachmentPlan,
    rails: &'a [RailRecord],
    /// The pod's RDMA devices, by ascending rail.
    devices: Vec<&'a str>,
    /// Where their GIDs are.
    gid_index: GidIndex,
    /// Whether one of them is a soft-RoCE device.
    soft_roce: bool,
}

impl<'a> Facts<'a> {
    fn of(plan: &'a AttachmentPlan, rails: &'a [RailRecord]) -> Self {
        Self {
            plan,
            rails,
            devices: rails
                .iter()
                .filter_map(|rail| Some(rail.rdma.as_ref()?.device.as_str()))
                .collect(),
            gid_index: GidIndex::of(rails),
            soft_roce: plan.rails.iter().any(|rail| matches!(rail.rdma, RdmaPlan::Soft { .. })),
        }
    }

    /// The interfaces of the pod's rails.
    fn interfaces(&self) -> Vec<&'a str> {
        self.rails.iter().map(|rail| rail.name.as_str()).collect()
    }

    /// `Network llama of team-a, index 0 of 2.`
    fn place(&self) -> String {
        let plan = self.plan;
        format!(
            "Network {} of {}, index {} of {}.",
            plan.network.name, plan.pod.namespace, plan.index, plan.pods
        )
    }
}

/// `NAME=value` and where it comes from.
struct Setting {
    origin: String,
    name: &'static str,
    value: String,
}

impl Setting {
    fn new(name: &'static str, value: &dyn Display, origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            name,
            value: value.to_string(),
        }
    }
}

/// The origin of a list of devices.
const OF_DEVICES: &str = "the RDMA devices of this pod's rails";
/// The origin of a GID index.
const OF_GIDS: &str = "where the GIDs of this pod's rails were found";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::samples::{plan, rail};

    #[test]
    fn a_network_that_leaves_nccl_alone_still_gets_the_others() {
        let names = |plan: &AttachmentPlan| -> Vec<&str> {
            let files = files(plan, &[rail(0, None)]);
            files.iter().map(|file| file.name).collect()
        };
        let mut plan = plan();
        assert_eq!(names(&plan), ["nccl.conf", "ucx.conf", "env", "hosts"]);
        plan.nccl_file = false;
        assert_eq!(names(&plan), ["ucx.conf", "env", "hosts"]);
    }
}
