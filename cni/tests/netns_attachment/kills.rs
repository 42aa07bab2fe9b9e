//! Calls that are killed after any step, and whoever comes next.

use std::fs;

use railhead_cni::Step;

use crate::node::{POD_UID, Sandbox, call, on_a_node, plan, succeeded};

const ADD_STEPS: [Step; 9] = [
    Step::Journaled,
    Step::Moved,
    Step::Up,
    Step::Numbered,
    Step::RdmaMade,
    Step::Routed,
    Step::Proven,
    Step::CdiCompleted,
    Step::Recorded,
];

const DEL_STEPS: [Step; 5] = [
    Step::FolderRemoved,
    Step::RulesRemoved,
    Step::RdmaRemoved,
    Step::Home,
    Step::Restored,
];

#[test]
fn an_add_killed_after_any_step_is_undone_by_del() {
    on_a_node(|node| {
        let functions = [node.add_function(0), node.add_function(1)];
        node.write_plan(&plan(&[0, 1]));
        for step in ADD_STEPS {
            let sandbox = Sandbox::new("c1");
            let killed = call(&node.context_killed_after(step), "ADD", &sandbox);
            assert!(!killed.success, "{step:?}");
            assert!(node.layout().journal("c1").exists(), "{step:?}");
            succeeded(&call(&node.context(), "DEL", &sandbox));
            for function in &functions {
                function.assert_at_home(&format!("killed after {step:?}"));
            }
            assert_eq!(node.leftovers(), Vec::<String>::new(), "{step:?}");
        }
    });
}

#[test]
fn a_new_sandbox_takes_over_from_one_that_was_killed_at_any_step() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        for step in ADD_STEPS {
            let old = Sandbox::new("old");
            call(&node.context_killed_after(step), "ADD", &old);
            let new = Sandbox::new("new");
            succeeded(&call(&node.context(), "ADD", &new));
            assert!(!node.layout().journal("old").exists(), "{step:?}");
            succeeded(&call(&node.context(), "CHECK", &new));
            // The DEL of the old sandbox comes late and must not take the new one's folder or function.
            succeeded(&call(&node.context(), "DEL", &old));
            succeeded(&call(&node.context(), "CHECK", &new));
            succeeded(&call(&node.context(), "DEL", &new));
            function.assert_at_home(&format!("after {step:?}"));
        }
    });
}

#[test]
fn a_del_killed_after_any_step_is_finished_by_the_next_one_or_by_the_next_add() {
    on_a_node(|node| {
        let functions = [node.add_function(0), node.add_function(1)];
        node.write_plan(&plan(&[0, 1]));
        for step in DEL_STEPS {
            let sandbox = Sandbox::new("c1");
            succeeded(&call(&node.context(), "ADD", &sandbox));
            let killed = call(&node.context_killed_after(step), "DEL", &sandbox);
            assert!(!killed.success, "{step:?}");
            assert!(node.layout().journal("c1").exists(), "{step:?}");
            succeeded(&call(&node.context(), "DEL", &sandbox));
            for function in &functions {
                function.assert_at_home(&format!("DEL killed after {step:?}"));
            }
            assert_eq!(node.leftovers(), Vec::<String>::new(), "{step:?}");

            succeeded(&call(&node.context(), "ADD", &sandbox));
            call(&node.context_killed_after(step), "DEL", &sandbox);
            let next = Sandbox::new("c2");
            succeeded(&call(&node.context(), "ADD", &next));
            succeeded(&call(&node.context(), "CHECK", &next));
            succeeded(&call(&node.context(), "DEL", &sandbox));
            succeeded(&call(&node.context(), "CHECK", &next));
            succeeded(&call(&node.context(), "DEL", &next));
            for function in &functions {
                function.assert_at_home(&format!("after a DEL killed after {step:?} and another sandbox"));
            }
        }
    });
}

#[test]
fn a_del_that_was_killed_by_an_earlier_release_is_finished_by_the_next_one() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        // As far as a DEL gets before it is killed: the folder is gone, the function half-way.
        fs::remove_dir_all(node.layout().attachment(POD_UID)).unwrap();
        sandbox.ip("link set rail0 down");
        sandbox.ip("link set rail0 name rh000018003");
        sandbox.ip("rule del priority 1000");
        // Somebody in the pod may have been at it as well.
        let altname = &function.altname;
        sandbox.ip(&format!("link property del dev rh000018003 altname {altname}"));
        sandbox.ip("link property add dev rh000018003 altname foreign");
        sandbox.ip("link set rh000018003 alias foreign");
        succeeded(&call(&node.context(), "DEL", &sandbox));
        function.assert_at_home("after the second DEL");
    });
}
