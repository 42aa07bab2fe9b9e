//! `nccl.conf`. NCCL reads it once, line by line, and a variable that is already in the environment, or in an earlier line, wins
//! (NVIDIA/nccl, src/misc/param.cc, `setEnvFile`).

use railhead_plan::{GidIndex, NCCL_IB_GID_INDEX, NCCL_IB_HCA, WrongNccl, wrong_nccl};

use super::{Facts, OF_DEVICES, lines::Lines};

/// NCCL keeps 1023 bytes of a value (src/misc/param.cc), and read whole lines of any length once, 4095 bytes of them today.
const LONGEST: usize = 1023;

/// The content of the file. `NCCL_IB_HCA` names exactly the pod's devices: in shared mode a pod sees those of others too.
pub(super) fn file(facts: &Facts) -> String {
    let mut lines = Lines::new(LONGEST);
    lines.comment(&format!(
        "{} The environment of a program wins over this file.",
        facts.place()
    ));
    if !facts.plan.nccl_by_variable {
        lines.comment(
            "It hides an /etc/nccl.conf of the image. With spec.nccl.inject: FileAndEnv, NCCL from 2.23 on reads both.",
        );
    }
    let settings = &facts.plan.nccl;
    let wrong = wrong_nccl(facts.plan, facts.rails);
    for setting in settings {
        for wrong in wrong.iter().filter(|wrong| wrong.name == setting.name) {
            warn(&mut lines, wrong);
        }
        lines.set(&setting.origin, &setting.name, &setting.value);
    }
    let is_set = |name: &str| settings.iter().any(|setting| setting.name == name);
    if !is_set(NCCL_IB_GID_INDEX) {
        gid_index(&mut lines, &facts.gid_index);
    }
    if !facts.devices.is_empty() && !is_set(NCCL_IB_HCA) {
        // The second '=' asks NCCL for exact names; without it rxe1 would match rxe10 as well.
        let exactly = format!("={}", facts.devices.join(","));
        lines.set(OF_DEVICES, NCCL_IB_HCA, &exactly);
    }
    // What the network does not set itself is of the pod's environment.
    for wrong in wrong.iter().filter(|wrong| !is_set(&wrong.name)) {
        warn(&mut lines, wrong);
    }
    lines.finish()
}

/// NCCL before 2.21 takes index 0 unless it is told another (src/transport/net_ib.cc, `IB_GID_INDEX`), which is that of the
/// link-local address. It takes one for all devices.
fn gid_index(lines: &mut Lines, index: &GidIndex) {
    match index {
        GidIndex::None => {}
        GidIndex::Same(index) => lines.set(
            "where the GIDs of this pod's rails were found; NCCL before 2.21 does not look for them",
            NCCL_IB_GID_INDEX,
            &index.to_string(),
        ),
        GidIndex::Differs(each) => lines.comment(&format!(
            "{NCCL_IB_GID_INDEX} is left out, since it is one number for all rails, and the GIDs have index {each}: NCCL finds them by itself from 2.21 on, and an older one cannot use these rails together"
        )),
    }
}

fn warn(lines: &mut Lines, wrong: &WrongNccl) {
    lines.comment(&format!("WRONG HERE: {wrong}"));
}

#[cfg(test)]
mod tests {
    use railhead_plan::{AttachmentPlan, ContainerVariable, NcclSetting, RailRecord};

    use super::*;
    use crate::settings::samples::{plan, rail};

    fn nccl_conf(plan: &AttachmentPlan, rails: &[RailRecord]) -> String {
        file(&Facts::of(plan, rails))
    }

    fn with_settings(settings: &[(&str, &str)]) -> AttachmentPlan {
        let mut plan = plan();
        plan.nccl.extend(settings.iter().map(|(name, value)| NcclSetting {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            origin: "spec.nccl.settings".to_owned(),
        }));
        plan
    }

    #[test]
    fn every_line_has_its_origin_above_it_and_devices_are_named_exactly() {
        let text = nccl_conf(&plan(), &[rail(0, Some(("rxe0", 1))), rail(1, Some(("rxe1", 1)))]);
        assert_eq!(
            text,
            "# Network train of ml, index 1 of 2. The environment of a program wins over this file.\n\
             # It hides an /etc/nccl.conf of the image. With spec.nccl.inject: FileAndEnv, NCCL from 2.23 on reads both.\n\
             # QosClass roce: DSCP 26 times 4\nNCCL_IB_TC=104\n\
             # where the GIDs of this pod's rails were found; NCCL before 2.21 does not look for them\nNCCL_IB_GID_INDEX=1\n\
             # the RDMA devices of this pod's rails\nNCCL_IB_HCA==rxe0,rxe1\n"
        );
    }

    #[test]
    fn what_hides_nothing_does_not_say_so() {
        let mut plan = plan();
        plan.nccl_by_variable = true;
        let text = nccl_conf(&plan, &[rail(0, None)]);
        assert!(!text.contains("hides"), "{text}");
    }

    #[test]
    fn gids_at_different_places_have_no_common_index_and_that_is_said() {
        let text = nccl_conf(&plan(), &[rail(0, Some(("mlx5_10", 1))), rail(1, Some(("mlx5_11", 3)))]);
        assert!(!text.lines().any(|line| line.starts_with(NCCL_IB_GID_INDEX)), "{text}");
        assert!(text.contains("the GIDs have index 1 on rail0, 3 on rail1"), "{text}");
        assert!(text.contains("\nNCCL_IB_HCA==mlx5_10,mlx5_11\n"), "{text}");
    }

    #[test]
    fn without_rdma_there_is_no_device_line_and_a_value_stays_on_its_line() {
        let plan = with_settings(&[("NCCL_ALGO", "Ring\nNCCL_DEBUG=TRACE")]);
        let text = nccl_conf(&plan, &[rail(0, None)]);
        assert!(!text.contains("NCCL_IB_HCA") && !text.contains("GID"), "{text}");
        assert_eq!(text.lines().count(), 6, "{text}");
    }

    #[test]
    fn a_users_own_device_or_index_is_the_only_one_and_is_called_wrong_where_it_is() {
        let rails = [rail(0, Some(("mlx5_10", 3)))];
        let text = nccl_conf(
            &with_settings(&[(NCCL_IB_HCA, "=mlx5_10"), (NCCL_IB_GID_INDEX, "0")]),
            &rails,
        );
        let set: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(set, ["NCCL_IB_TC=104", "NCCL_IB_HCA==mlx5_10", "NCCL_IB_GID_INDEX=0"]);
        let lines: Vec<&str> = text.lines().collect();
        let wrong: Vec<usize> = (0..lines.len())
            .filter(|at| lines[*at].contains("WRONG HERE"))
            .collect();
        assert_eq!(wrong, [lines.len() - 3], "right above the origin of the line: {text}");
        assert!(lines[wrong[0]].contains("have index 3"), "{text}");
    }

    #[test]
    fn an_environment_that_will_win_and_is_wrong_is_told_below() {
        let mut plan = plan();
        plan.nccl_environment = vec![ContainerVariable {
            container: "train".to_owned(),
            name: NCCL_IB_GID_INDEX.to_owned(),
            value: Some("0\nNCCL_DEBUG=TRACE".to_owned()),
        }];
        let rails = [rail(0, Some(("mlx5_10", 3)))];
        assert!(
            !nccl_conf(&plan, &rails).contains("WRONG"),
            "no number, so nothing is known"
        );
        plan.nccl_environment[0].value = Some("0".to_owned());
        let text = nccl_conf(&plan, &rails);
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("# WRONG HERE: the environment of container train sets NCCL_IB_GID_INDEX=0"),
            "{text}"
        );
        assert!(text.contains("\nNCCL_IB_GID_INDEX=3\n"), "{text}");
    }
}
