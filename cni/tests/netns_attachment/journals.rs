//! Journals that are damaged, old, of other pods or of functions that are nowhere, and GC, which goes by them.

use std::{fs, io::ErrorKind};

use railhead_cni::Journal;
use serde_json::{Value, json};

use crate::{
    ip_home,
    node::{POD_UID, Sandbox, answer, call, call_with, on_a_node, plan, succeeded},
};

#[test]
fn gc_frees_what_is_not_listed_and_nothing_without_a_list() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        let kept: [Value; 3] = [
            json!({}),
            json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}),
            json!({"cni.dev/valid-attachments": [], "name": "another-network"}),
        ];
        for extra in &kept {
            succeeded(&call_with(&node.context(), "GC", &sandbox, extra));
            assert!(node.layout().journal("c1").exists(), "{extra}");
        }
        let none = json!({"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]});
        succeeded(&call_with(&node.context(), "GC", &sandbox, &none));
        function.assert_at_home("after GC");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_journal_of_an_earlier_boot_undoes_nothing() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        let mut journal = Journal::read(&node.layout(), "c1").unwrap().unwrap();
        journal.boot_id = "an-earlier-boot".to_owned();
        journal.write(&node.layout()).unwrap();
        succeeded(&call(&node.context(), "DEL", &sandbox));
        assert!(!node.layout().journal("c1").exists());
        sandbox.ip("link show dev rail0");
    });
}

#[test]
fn a_damaged_journal_does_not_keep_the_pod() {
    on_a_node(|node| {
        let sandbox = Sandbox::new("c1");
        fs::create_dir_all(node.layout().journals()).unwrap();
        fs::write(node.layout().journal("c1"), b"{\"version\":1,").unwrap();
        let deleted = call(&node.context(), "DEL", &sandbox);
        succeeded(&deleted);
        assert!(
            deleted.log.iter().any(|line| line.contains("c1.json")),
            "{:?}",
            deleted.log
        );
        assert_eq!(
            fs::read(node.layout().journal("c1")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    });
}

#[test]
fn a_function_in_use_is_never_taken_and_one_left_behind_is_given_back() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let holder = Sandbox::new("holder");
        succeeded(&call(&node.context(), "ADD", &holder));
        let mut other_plan = plan(&[0]);
        other_plan.pod.uid = "other-pod".to_owned();
        node.write_plan(&other_plan);
        let other = Sandbox::new("other").of_pod("other-pod");
        let error = answer(&call(&node.context(), "ADD", &other));
        assert_eq!(error["code"], 11);
        assert!(
            error["msg"]
                .as_str()
                .unwrap()
                .contains("in use by sandbox holder of pod ml/train-0"),
            "{error}"
        );
        succeeded(&call(&node.context(), "CHECK", &holder));

        // The holder's namespace ends without DEL; its function comes home under a foreign name.
        ip_home(&holder, "rail0");
        drop(holder);
        succeeded(&call(&node.context(), "ADD", &other));
        assert!(!node.layout().journal("holder").exists());
        succeeded(&call(&node.context(), "DEL", &other));
        function.assert_at_home("after its second pod");
    });
}

#[test]
fn a_function_that_is_nowhere_keeps_its_journal_until_it_is_found_or_gone() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        // As for a real function: the kernel names its parent, so only a link with that parent is the function.
        let mut journal = Journal::read(&node.layout(), "c1").unwrap().unwrap();
        journal.rails[0].has_parent = true;
        journal.write(&node.layout()).unwrap();
        let device = node
            .layout()
            .sysfs()
            .join("bus/pci/devices")
            .join(function.pci_address.as_str());
        std::os::unix::fs::symlink("../../drivers/igbvf", device.join("driver")).unwrap();

        let deleted = call(&node.context(), "DEL", &sandbox);
        succeeded(&deleted);
        assert!(
            deleted.log.iter().any(|line| line.contains("call DEL again")),
            "{:?}",
            deleted.log
        );
        assert!(node.layout().journal("c1").exists());
        assert!(!node.layout().attachment(POD_UID).exists());

        // Its functions were removed from the port (sriov_numvfs): nothing can come back.
        fs::remove_dir_all(device).unwrap();
        succeeded(&call(&node.context(), "DEL", &sandbox));
        assert!(!node.layout().journal("c1").exists());
    });
}
