//! Plans that cannot be read any more.

use std::fs;

use railhead_host::testing::in_a_namespace;

use crate::{
    bed::{self, ports::Ports, uid},
    collect,
    killed::{WAYS, Way},
    prepare, run_collector, unprepare,
};

/// The plan's file was cut short by a full disk, filled with zeros by a lost power, or replaced.
#[test]
fn a_damaged_plan_is_given_back_before_a_new_one_is_made_and_by_whoever_comes() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let other = ports.add_pod("llama-0", Some(0));
        prepare(&ports, &other);
        for damage in [&b"{\"version\":1,\"bo"[..], b"", &[0; 4096]] {
            for way in WAYS {
                let when = format!("{} bytes, then {way:?}", damage.len());
                let claim = ports.add_pod("llama-2", Some(2));
                prepare(&ports, &claim);
                fs::write(ports.layout().plan(&uid("llama-2")), damage).unwrap();
                match way {
                    Way::Again => {
                        prepare(&ports, &claim);
                        ports.assert_prepared(&claim, &when);
                        unprepare(&ports, &claim);
                    }
                    Way::Unprepare => unprepare(&ports, &claim),
                    Way::Collector => collect(&ports, &claim),
                }
                ports.assert_prepared(&other, &when);
                assert_eq!(ports.plans().len(), 1, "{when}");
                assert_eq!(ports.holders().len(), 1, "{when}: {:?}", ports.holders());
            }
        }
        unprepare(&ports, &other);
        ports.assert_as_before("given back");
    });
}

/// Somebody deleted the attachment too, so that nothing tells whose the plan was: it would keep every VF that a pod left from being
/// taken back until the next boot.
#[test]
fn a_damaged_plan_whose_attachment_is_gone_is_given_back_when_its_pod_is_gone() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let claim = ports.add_pod("llama-2", Some(2));
        prepare(&ports, &claim);
        let plan = ports.layout().plan(&uid("llama-2"));
        fs::write(&plan, "{\"version\":1,\"bo").unwrap();
        ports.api.delete("networkattachments", &format!("{}-2", bed::SLICE));
        // The pod runs, though lists from memory do not show it yet.
        ports.api.behind("llama-2");
        run_collector(&ports);
        assert!(plan.exists(), "the pod is there");
        collect(&ports, &claim);
        ports.assert_as_before("collected");
    });
}
