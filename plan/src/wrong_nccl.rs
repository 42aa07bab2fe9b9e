//! NCCL settings of people that do not fit what was wired. They win all the same: the file says so, and so does the agent.

use std::fmt;

use crate::{attachment_plan::AttachmentPlan, attachment_record::RailRecord, gid_index::GidIndex, layout::POD_FOLDER};

/// Which entry of a device's GID table NCCL uses.
pub const NCCL_IB_GID_INDEX: &str = "NCCL_IB_GID_INDEX";
/// Which RDMA devices NCCL uses.
pub const NCCL_IB_HCA: &str = "NCCL_IB_HCA";

/// Which file NCCL reads before `/etc/nccl.conf`, from 2.23 on.
pub const NCCL_CONF_FILE: &str = "NCCL_CONF_FILE";

/// The port of a rail's RDMA device: a function has one.
const PORT: &str = "1";

/// A setting that is wrong in this pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongNccl {
    /// Who wrote it.
    pub whose: String,
    /// Variable.
    pub name: String,
    /// Value, where it is known.
    pub value: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for WrongNccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            whose,
            name,
            value,
            why,
        } = self;
        let value = value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
        write!(
            f,
            "{whose} sets {name}{value}, which is wrong here: {why}; take it away"
        )
    }
}

/// The settings of the network and of the pod's own containers that are wrong with these rails, as far as that can be known.
/// None where the network leaves NCCL alone.
pub fn wrong_nccl(plan: &AttachmentPlan, rails: &[RailRecord]) -> Vec<WrongNccl> {
    if !plan.nccl_file {
        return Vec::new();
    }
    // The agent derives neither of the two, so whoever has one in the plan's list is the network.
    let network = plan.nccl.iter().map(|setting| {
        let whose = format!("spec.nccl.settings of TrainingNetwork {}", plan.network.name);
        (whose, &setting.name, Some(&setting.value))
    });
    let containers = plan.nccl_environment.iter().map(|variable| {
        let whose = format!("the environment of container {}", variable.container);
        (whose, &variable.name, variable.value.as_ref())
    });
    network
        .chain(containers)
        .filter_map(|(whose, name, value)| {
            let why = match name.as_str() {
                NCCL_IB_GID_INDEX => value.and_then(|value| gid_index(value, rails)),
                NCCL_IB_HCA => value.and_then(|value| devices(value, rails)),
                NCCL_CONF_FILE => conf_file(plan),
                _ => None,
            }?;
            Some(WrongNccl {
                whose,
                name: name.clone(),
                value: value.cloned(),
                why,
            })
        })
        .collect()
}

/// Why another file does not fit: NCCL then reads it and `/etc/nccl.conf`, where Railhead's is not.
fn conf_file(plan: &AttachmentPlan) -> Option<String> {
    plan.nccl_by_variable.then(|| {
        format!("NCCL does not read {POD_FOLDER}/nccl.conf, which spec.nccl.inject: FileAndEnv wants to be read by this variable")
    })
}

/// Why a GID index does not fit. One below 0 has NCCL look itself, from 2.21 on.
fn gid_index(value: &str, rails: &[RailRecord]) -> Option<String> {
    let wanted: i64 = value.trim().parse().ok().filter(|wanted| *wanted >= 0)?;
    match GidIndex::of(rails) {
        GidIndex::Same(proven) if i64::from(proven) != wanted => {
            Some(format!("the GIDs of this pod's rails have index {proven}"))
        }
        GidIndex::Differs(each) => Some(format!(
            "the GIDs of this pod's rails have different ones ({each}), which NCCL finds by itself from 2.21 on"
        )),
        GidIndex::Same(_) | GidIndex::None => None,
    }
}

/// Why a choice of devices does not fit: `^` in front excludes, `=` asks for whole names and not for what they begin with, and a
/// port may follow each. NCCL passes over an entry that fits no device.
fn devices(value: &str, rails: &[RailRecord]) -> Option<String> {
    let (excludes, list) = strip(value.trim(), '^');
    let (exact, list) = strip(list, '=');
    let entries: Vec<(&str, Option<&str>)> = list
        .split(',')
        .map(|entry| {
            entry
                .split_once(':')
                .map_or((entry, None), |(name, port)| (name, Some(port)))
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let devices: Vec<&str> = rails
        .iter()
        .filter_map(|rail| Some(rail.rdma.as_ref()?.device.as_str()))
        .collect();
    let chosen = |device: &str| {
        entries.iter().any(|(name, port)| {
            let named = if exact {
                device == *name
            } else {
                device.starts_with(name)
            };
            named && port.is_none_or(|port| port.trim() == PORT)
        })
    };
    if entries.is_empty() {
        return None;
    }
    if devices.is_empty() {
        return Some("this pod has no RDMA device".to_owned());
    }
    if excludes {
        let all = devices.iter().all(|device| chosen(device));
        return all.then(|| format!("it excludes all of this pod's RDMA devices ({})", devices.join(", ")));
    }
    let none = !devices.iter().any(|device| chosen(device));
    none.then(|| format!("it names none of this pod's RDMA devices ({})", devices.join(", ")))
}

fn strip(text: &str, mark: char) -> (bool, &str) {
    text.strip_prefix(mark).map_or((false, text), |rest| (true, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rails(devices: &[(&str, u32)]) -> Vec<RailRecord> {
        devices
            .iter()
            .enumerate()
            .map(|(rail, (device, gid_index))| {
                serde_json::from_value(json!({
                    "rail": rail, "name": format!("rail{rail}"), "vf": "0000:18:00.3", "mac": "02:00:00:00:00:01",
                    "mtu": 9000, "addresses": [], "maxRateMbps": 0, "minRateMbps": 0, "spoofCheck": true,
                    "rdma": {"device": device, "uverbs": "/dev/infiniband/uverbs0", "gidIndex": gid_index, "gid": ""},
                }))
                .unwrap()
            })
            .collect()
    }

    fn plan(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> AttachmentPlan {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value, "origin": "o"}))
            .collect();
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| json!({"container": "train", "name": name, "value": value}))
            .collect();
        serde_json::from_value(json!({
            "version": 1, "bootId": "b", "pod": {"namespace": "ml", "name": "train-0", "uid": "6f1c"}, "claimUid": "77aa",
            "network": {"name": "llama", "uid": "u"}, "sliceName": "train-0", "index": 0, "pods": 2, "rails": [],
            "ncclFile": true, "nccl": settings, "ncclEnvironment": environment,
        }))
        .unwrap()
    }

    #[test]
    fn a_gid_index_is_compared_with_the_proven_one() {
        let rails_of = |value: &str, indices: [u32; 2]| {
            let rails = rails(&[("mlx5_10", indices[0]), ("mlx5_11", indices[1])]);
            wrong_nccl(&plan(&[(NCCL_IB_GID_INDEX, value)], &[]), &rails)
        };
        for (value, indices) in [
            ("3", [3, 3]),
            ("-1", [3, 3]),
            ("-1", [1, 3]),
            ("", [3, 3]),
            ("x", [3, 3]),
        ] {
            assert_eq!(rails_of(value, indices), [], "{value:?} {indices:?}");
        }
        assert_eq!(
            rails_of("0", [3, 3])[0].to_string(),
            "spec.nccl.settings of TrainingNetwork llama sets NCCL_IB_GID_INDEX=0, which is wrong here: \
             the GIDs of this pod's rails have index 3; take it away"
        );
        let differ = rails_of("3", [1, 3])[0].to_string();
        assert!(differ.contains("(1 on rail0, 3 on rail1)"), "{differ}");
        let nothing = plan(&[(NCCL_IB_GID_INDEX, "0")], &[]);
        assert_eq!(wrong_nccl(&nothing, &[]), [], "without RDMA it means nothing");
    }

    #[test]
    fn devices_are_read_as_nccl_reads_them() {
        let of = |value: &str| {
            let rails = rails(&[("mlx5_1", 3), ("mlx5_10", 3)]);
            let wrong = wrong_nccl(&plan(&[(NCCL_IB_HCA, value)], &[]), &rails);
            wrong.into_iter().map(|wrong| wrong.why).next()
        };
        for right in [
            "mlx5",
            "mlx5_1",
            "=mlx5_1,mlx5_10",
            "=mlx5_10:1",
            "^mlx5_10",
            "^=mlx5_1",
            "",
            "^",
            "^mlx5_2",
            "=mlx5_0,mlx5_1,mlx5_2",
            "mlx5_3:1,mlx5_10:1",
            "^mlx5_1:2",
            "^=mlx5_1,mlx5_2",
        ] {
            assert_eq!(of(right), None, "{right:?}");
        }
        let none = "it names none of this pod's RDMA devices (mlx5_1, mlx5_10)";
        for (wrong, why) in [
            ("mlx5_2", none),
            ("=mlx5_3:1", none),
            ("=mlx5,mlx5_2", none),
            ("mlx5_1:2", none),
            (
                "^mlx5_0,mlx5_1:1",
                "it excludes all of this pod's RDMA devices (mlx5_1, mlx5_10)",
            ),
            (
                "^mlx5_1",
                "it excludes all of this pod's RDMA devices (mlx5_1, mlx5_10)",
            ),
        ] {
            assert_eq!(of(wrong).as_deref(), Some(why), "{wrong:?}");
        }
        let without = wrong_nccl(&plan(&[(NCCL_IB_HCA, "mlx5")], &[]), &[]);
        assert_eq!(without[0].why, "this pod has no RDMA device");
    }

    #[test]
    fn the_pods_own_environment_is_looked_at_and_nothing_where_nccl_is_left_alone() {
        let rails = rails(&[("mlx5_1", 3)]);
        let mut plan = plan(&[], &[(NCCL_IB_GID_INDEX, "0"), ("NCCL_DEBUG", "INFO")]);
        let wrong = wrong_nccl(&plan, &rails);
        assert_eq!(wrong.len(), 1);
        assert_eq!(wrong[0].whose, "the environment of container train");
        plan.nccl_file = false;
        assert_eq!(wrong_nccl(&plan, &rails), []);
    }

    #[test]
    fn a_file_of_the_pods_own_is_only_wrong_where_ours_is_to_be_read_by_the_same_variable() {
        let mut plan = plan(&[], &[(NCCL_CONF_FILE, "/home/me/nccl.conf")]);
        assert_eq!(wrong_nccl(&plan, &[]), []);
        plan.nccl_by_variable = true;
        let wrong = wrong_nccl(&plan, &[]);
        assert!(wrong[0].why.contains("/run/railhead/nccl.conf"), "{}", wrong[0]);
        plan.nccl_environment[0].value = None;
        let wrong = wrong_nccl(&plan, &[])[0].to_string();
        assert!(wrong.contains("train sets NCCL_CONF_FILE, which is wrong"), "{wrong}");
        plan.nccl_environment[0].name = NCCL_IB_HCA.to_owned();
        assert_eq!(wrong_nccl(&plan, &[]), [], "what it is set to is not known");
    }
}
