//! `env`: `KEY=value` lines for whatever reads its environment. A shell (`. file`), `env_file` readers and `docker --env-file`
//! take the same lines, so values are words that none of them changes.

use railhead_plan::{GidIndex, PEERS_FILE, POD_FOLDER};

use super::{Facts, OF_DEVICES, OF_GIDS, Setting, lines::Lines, ucx};

/// More than any list of devices needs.
const LONGEST: usize = 4095;
/// Interfaces of the pod that are none of its rails.
const CLUSTER_NETWORK: [&str; 2] = ["lo", "eth0"];

/// The content of the file.
pub(super) fn file(facts: &Facts) -> String {
    let mut lines = Lines::for_shells(LONGEST);
    lines.comment(&format!(
        "{} For programs that read their environment: `set -a; . {POD_FOLDER}/env; set +a`; what is set after that wins.",
        facts.place()
    ));
    section(&mut lines, "the pod's place in its network", &place(facts));
    section(&mut lines, "Gloo and Horovod", &gloo(facts));
    section(&mut lines, "UCX (Open MPI, NIXL)", &ucx::settings(facts));
    section(&mut lines, "libfabric", &libfabric(facts));
    if !facts.devices.is_empty() {
        section(&mut lines, "NVSHMEM", &nvshmem(facts));
        section(&mut lines, "Mooncake", &mooncake(facts));
        section(&mut lines, "UCCL", &uccl(facts));
    }
    if let GidIndex::Differs(each) = &facts.gid_index {
        lines.blank();
        lines.comment(&format!(
            "GID indices are left out, since they are one number for all rails, and the GIDs have index {each}"
        ));
    }
    lines.finish()
}

fn section(lines: &mut Lines, title: &str, settings: &[Setting]) {
    if settings.is_empty() {
        return;
    }
    lines.blank();
    lines.comment(&format!("== {title}"));
    for setting in settings {
        lines.set(&setting.origin, setting.name, &setting.value);
    }
}

/// For programs that are started without the container's environment, as by sshd.
fn place(facts: &Facts) -> Vec<Setting> {
    let plan = facts.plan;
    vec![
        Setting::new("RAILHEAD_NETWORK", &plan.network.name, "the TrainingNetwork"),
        Setting::new("RAILHEAD_INDEX", &plan.index, "the index of this pod"),
        Setting::new("RAILHEAD_PODS", &plan.pods, "spec.pods when this pod was prepared"),
        Setting::new(
            "RAILHEAD_PEERS",
            &format!("{POD_FOLDER}/{PEERS_FILE}"),
            "the addresses of all pods by index and rail",
        ),
    ]
}

/// PyTorch's Gloo takes turns with several interfaces, of which all processes must have as many (pytorch/pytorch,
/// docs/source/distributed.md); Horovod's takes one (horovod/horovod, horovod/common/utils/env_parser.cc).
fn gloo(facts: &Facts) -> Vec<Setting> {
    let interfaces = facts.interfaces();
    let mut settings = vec![Setting::new(
        "GLOO_SOCKET_IFNAME",
        &interfaces.join(","),
        "the rails, the same on all pods; the rendezvous stays on the cluster network",
    )];
    if let Some(first) = interfaces.first() {
        settings.push(Setting::new(
            "HOROVOD_GLOO_IFACE",
            first,
            "the first rail: Horovod takes one interface",
        ));
    }
    settings
}

/// The verbs provider looks for interfaces that begin with `ib` unless it is told otherwise, and takes GID 0 for datagrams
/// (ofiwg/libfabric, man/fi_verbs.7.md); up to 2.3 it takes one name or what names begin with, and no list. The TCP provider takes
/// one interface (man/fi_tcp.7.md).
fn libfabric(facts: &Facts) -> Vec<Setting> {
    let interfaces = facts.interfaces();
    let Some(first) = interfaces.first() else {
        return Vec::new();
    };
    if facts.devices.is_empty() {
        let origin = "the first rail: libfabric's TCP provider takes one interface";
        return vec![Setting::new("FI_TCP_IFACE", first, origin)];
    }
    let interface = match common_beginning(&interfaces) {
        Some(beginning) => Setting::new(
            "FI_VERBS_IFACE",
            &beginning,
            "what the names of this pod's rails begin with",
        ),
        None => Setting::new(
            "FI_VERBS_IFACE",
            first,
            "the first rail: libfabric up to 2.3 takes one name, and the rails' names have no beginning in common",
        ),
    };
    let mut settings = vec![interface];
    settings.extend(gid_index(facts, "FI_VERBS_GID_IDX"));
    settings
}

/// NVIDIA/nvshmem, src/modules/transport/common/env_defs.h; releases that do not look for a GID themselves take index 0.
fn nvshmem(facts: &Facts) -> Vec<Setting> {
    let mut settings: Vec<Setting> = gid_index(facts, "NVSHMEM_IB_GID_INDEX").into_iter().collect();
    settings.extend(traffic_class(facts, "NVSHMEM_IB_TRAFFIC_CLASS"));
    settings
}

/// kvcache-ai/Mooncake, docs/source/design/transfer-engine/index.md (the index is 3 if nobody says another), and
/// docs/source/api-reference/python/mooncake-store.md for the store's list of devices.
fn mooncake(facts: &Facts) -> Vec<Setting> {
    let devices = facts.devices.join(",");
    let mut settings: Vec<Setting> = gid_index(facts, "MC_GID_INDEX").into_iter().collect();
    settings.extend(traffic_class(facts, "MC_IB_TC"));
    settings.push(Setting::new("MC_TE_FILTERS", &devices, OF_DEVICES));
    settings.push(Setting::new("MC_MS_FILTERS", &devices, OF_DEVICES));
    settings
}

/// uccl-project/uccl, ep/README.md, ep/src/rdma.cpp (the list of devices is as NCCL's) and p2p/README.md.
fn uccl(facts: &Facts) -> Vec<Setting> {
    let mut settings = vec![Setting::new(
        "UCCL_IB_HCA",
        &format!("={}", facts.devices.join(",")),
        OF_DEVICES,
    )];
    settings.extend(gid_index(facts, "UCCL_IB_GID_INDEX"));
    settings.extend(gid_index(facts, "UCCL_P2P_RDMA_GID_INDEX"));
    settings.extend(traffic_class(facts, "UCCL_IB_TC"));
    settings.extend(traffic_class(facts, "UCCL_P2P_RDMA_TC"));
    settings
}

fn gid_index(facts: &Facts, name: &'static str) -> Option<Setting> {
    match facts.gid_index {
        GidIndex::Same(index) => Some(Setting::new(name, &index, OF_GIDS)),
        GidIndex::Differs(_) | GidIndex::None => None,
    }
}

fn traffic_class(facts: &Facts, name: &'static str) -> Option<Setting> {
    let class = facts.plan.traffic_class.as_ref()?;
    Some(Setting::new(name, &class.value, &class.origin))
}

/// What all names begin with, if it is something that no interface of the cluster network begins with.
fn common_beginning<'a>(names: &[&'a str]) -> Option<&'a str> {
    let (first, others) = names.split_first()?;
    let length = others.iter().fold(first.len(), |length, other| {
        let same = first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        length.min(same)
    });
    let beginning = first.get(..length).filter(|beginning| !beginning.is_empty())?;
    let is_own = CLUSTER_NETWORK.iter().all(|other| !other.starts_with(beginning));
    is_own.then_some(beginning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::samples::{plan, rail};

    fn set(text: &str) -> Vec<&str> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }

    #[test]
    fn every_reader_of_the_environment_gets_the_proven_index_class_and_devices() {
        let plan = plan();
        let rails = [rail(0, Some(("mlx5_10", 3))), rail(1, Some(("mlx5_11", 3)))];
        let text = file(&Facts::of(&plan, &rails));
        assert_eq!(
            set(&text),
            [
                "RAILHEAD_NETWORK=train",
                "RAILHEAD_INDEX=1",
                "RAILHEAD_PODS=2",
                "RAILHEAD_PEERS=/run/railhead/hosts",
                "GLOO_SOCKET_IFNAME=rail0,rail1",
                "HOROVOD_GLOO_IFACE=rail0",
                "UCX_NET_DEVICES=mlx5_10:1,mlx5_11:1",
                "UCX_IB_GID_INDEX=3",
                "UCX_IB_TRAFFIC_CLASS=104",
                "FI_VERBS_IFACE=rail",
                "FI_VERBS_GID_IDX=3",
                "NVSHMEM_IB_GID_INDEX=3",
                "NVSHMEM_IB_TRAFFIC_CLASS=104",
                "MC_GID_INDEX=3",
                "MC_IB_TC=104",
                "MC_TE_FILTERS=mlx5_10,mlx5_11",
                "MC_MS_FILTERS=mlx5_10,mlx5_11",
                "UCCL_IB_HCA==mlx5_10,mlx5_11",
                "UCCL_IB_GID_INDEX=3",
                "UCCL_P2P_RDMA_GID_INDEX=3",
                "UCCL_IB_TC=104",
                "UCCL_P2P_RDMA_TC=104",
            ]
        );
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let is_setting = !line.is_empty() && !line.starts_with('#');
            assert!(!is_setting || lines[at - 1].starts_with("# "), "{line} has no origin");
        }
    }

    #[test]
    fn without_rdma_there_is_tcp_and_with_different_indices_there_is_none() {
        let mut plan = plan();
        plan.traffic_class = None;
        let tcp = file(&Facts::of(&plan, &[rail(0, None)]));
        assert_eq!(
            set(&tcp)[4..],
            [
                "GLOO_SOCKET_IFNAME=rail0",
                "HOROVOD_GLOO_IFACE=rail0",
                "UCX_NET_DEVICES=rail0",
                "FI_TCP_IFACE=rail0"
            ]
        );
        let rails = [rail(0, Some(("mlx5_10", 1))), rail(1, Some(("mlx5_11", 3)))];
        let differ = file(&Facts::of(&plan, &rails));
        assert!(!set(&differ).iter().any(|line| line.contains("GID")), "{differ}");
        assert!(differ.ends_with("have index 1 on rail0, 3 on rail1\n"), "{differ}");
    }

    #[test]
    fn no_value_is_anything_to_a_shell_but_a_word() {
        let mut plan = plan();
        plan.network.name = "$(reboot)".to_owned();
        plan.pod.namespace = "a\nreboot #".to_owned();
        let mut wired = rail(0, None);
        wired.name = "r;reboot".parse().unwrap();
        let text = file(&Facts::of(&plan, &[wired]));
        assert_eq!(
            set(&text),
            [
                "RAILHEAD_INDEX=1",
                "RAILHEAD_PODS=2",
                "RAILHEAD_PEERS=/run/railhead/hosts"
            ],
            "{text}"
        );
    }

    #[test]
    fn the_rails_names_stand_together_only_where_no_other_interface_begins_like_them() {
        assert_eq!(common_beginning(&["rail0", "rail1"]), Some("rail"));
        assert_eq!(common_beginning(&["rail1", "rail10"]), Some("rail1"));
        assert_eq!(common_beginning(&["rail0"]), Some("rail0"));
        for names in [&["a0", "b0"][..], &["e1", "e2"], &["eth1", "eth2"], &["l1", "lo2"], &[]] {
            assert_eq!(common_beginning(names), None, "{names:?}");
        }
    }
}
