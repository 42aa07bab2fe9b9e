//! UCX, which Open MPI and NIXL use. Names and meanings: openucx/ucx, src/uct/ib/base/ib_md.c, ib_iface.c and
//! src/uct/ib/ud/base/ud_iface.c, the same from 1.12 to 1.22; docs/source/faq.md has NET_DEVICES.
//!
//! UCX reads `ucx.conf` of its own folder, of the home directory, of `$UCX_CONFIG_DIR` and of the working directory, later ones
//! over earlier ones (src/ucs/config/parser.c, from 1.12 on). Setting UCX_CONFIG_DIR for everybody would replace that of an image,
//! and has UCX warn of a variable that it does not use; so whoever wants the file names its folder.

use railhead_plan::{GidIndex, POD_FOLDER, RailRecord};

use super::{Facts, OF_DEVICES, OF_GIDS, Setting, lines::Lines};

/// UCX's parser reads 199 bytes of a line, its end among them, and takes the rest for another (src/ucs/config/ini.h, INI_MAX_LINE).
const LONGEST: usize = 198;

/// The content of `ucx.conf`.
pub(super) fn file(facts: &Facts) -> String {
    let mut lines = Lines::new(LONGEST);
    lines.comment(&facts.place());
    lines.comment(&format!(
        "UCX from 1.12 on reads this file with UCX_CONFIG_DIR={POD_FOLDER} in its environment, which wins over the file."
    ));
    for setting in settings(facts) {
        lines.set(&setting.origin, setting.name, &setting.value);
    }
    if let Some(why) = no_gid_index(facts) {
        lines.comment(&why);
    }
    lines.finish()
}

/// UCX's own settings. The priority of its packets (UCX_IB_SL) is not among them: the port sets it for all of the VF's.
pub(super) fn settings(facts: &Facts) -> Vec<Setting> {
    let devices: Vec<String> = facts.rails.iter().map(device).collect();
    let of_devices = if facts.devices.is_empty() {
        "this pod's rails, which have no RDMA device"
    } else {
        OF_DEVICES
    };
    let mut settings = vec![Setting::new("UCX_NET_DEVICES", &devices.join(","), of_devices)];
    if let GidIndex::Same(index) = facts.gid_index {
        settings.push(Setting::new("UCX_IB_GID_INDEX", &index, OF_GIDS));
    }
    if let Some(class) = facts.plan.traffic_class.as_ref().filter(|_| !facts.devices.is_empty()) {
        settings.push(Setting::new("UCX_IB_TRAFFIC_CLASS", &class.value, &class.origin));
    }
    if facts.soft_roce {
        settings.push(Setting::new(
            "UCX_UD_ETH_DGID_CHECK",
            &"n",
            "soft-RoCE: UCX's check of the destination GID drops all of its datagrams",
        ));
    }
    settings
}

/// UCX's name of a rail: the first port of its RDMA device, or its interface for TCP.
fn device(rail: &RailRecord) -> String {
    match &rail.rdma {
        Some(rdma) => format!("{}:1", rdma.device),
        None => rail.name.to_string(),
    }
}

fn no_gid_index(facts: &Facts) -> Option<String> {
    match &facts.gid_index {
        GidIndex::Differs(each) => Some(format!("UCX_IB_GID_INDEX is left out, since the rails differ: {each}")),
        GidIndex::Same(_) | GidIndex::None => None,
    }
}

#[cfg(test)]
mod tests {
    use railhead_plan::RailPlan;
    use serde_json::json;

    use super::*;
    use crate::settings::samples::{plan, rail, soft_rail_plan};

    #[test]
    fn hardware_gets_devices_index_and_traffic_class_and_keeps_ucxs_own_checks() {
        let plan = plan();
        let rails = [rail(0, Some(("mlx5_10", 3))), rail(1, Some(("mlx5_11", 3)))];
        assert_eq!(
            file(&Facts::of(&plan, &rails)),
            "# Network train of ml, index 1 of 2.\n\
             # UCX from 1.12 on reads this file with UCX_CONFIG_DIR=/run/railhead in its environment, which wins over the file.\n\
             # the RDMA devices of this pod's rails\nUCX_NET_DEVICES=mlx5_10:1,mlx5_11:1\n\
             # where the GIDs of this pod's rails were found\nUCX_IB_GID_INDEX=3\n\
             # QosClass roce: DSCP 26 times 4\nUCX_IB_TRAFFIC_CLASS=104\n"
        );
    }

    #[test]
    fn only_soft_roce_goes_without_the_check_of_the_destination() {
        let mut plan = plan();
        plan.rails = vec![soft_rail_plan(0)];
        let text = file(&Facts::of(&plan, &[rail(0, Some(("rxe0", 1)))]));
        assert!(text.ends_with("datagrams\nUCX_UD_ETH_DGID_CHECK=n\n"), "{text}");
        let mut hardware: serde_json::Value = serde_json::to_value(soft_rail_plan(0)).unwrap();
        hardware["rdma"] = json!({"kind": "function", "device": "mlx5_10"});
        plan.rails = vec![serde_json::from_value::<RailPlan>(hardware).unwrap()];
        let text = file(&Facts::of(&plan, &[rail(0, Some(("mlx5_10", 1)))]));
        assert!(!text.contains("DGID_CHECK"), "{text}");
    }

    #[test]
    fn rails_that_differ_get_no_index_and_rails_without_rdma_get_tcp() {
        let plan = plan();
        let differ = file(&Facts::of(
            &plan,
            &[
                rail(0, Some(("mlx5_10", 1))),
                rail(1, Some(("mlx5_11", 3))),
                rail(2, None),
            ],
        ));
        assert!(
            differ.contains("UCX_NET_DEVICES=mlx5_10:1,mlx5_11:1,rail2\n"),
            "{differ}"
        );
        assert!(
            differ.ends_with("since the rails differ: 1 on rail0, 3 on rail1\n"),
            "{differ}"
        );
        let tcp = file(&Facts::of(&plan, &[rail(0, None)]));
        assert!(tcp.ends_with("\nUCX_NET_DEVICES=rail0\n"), "{tcp}");
    }

    #[test]
    fn no_line_is_longer_than_ucx_reads() {
        let mut plan = plan();
        plan.network.name = "n".repeat(57);
        plan.pod.namespace = "m".repeat(63);
        let names: Vec<String> = (0..16).map(|rail| format!("rxe93d7483er{rail}")).collect();
        let rails: Vec<RailRecord> = (0..16)
            .zip(&names)
            .map(|(at, name)| rail(at, Some((name, at))))
            .collect();
        let text = file(&Facts::of(&plan, &rails));
        assert!(text.lines().all(|line| line.len() <= 198), "{text}");
        assert!(text.contains("# UCX_NET_DEVICES is left out"), "{text}");
        assert!(!text.contains("\nUCX_NET_DEVICES="), "{text}");
    }
}
