//! Pods that rename, hide or delete their rails, and names that others have taken.

use railhead_cni::Journal;

use crate::{
    ip_home,
    node::{Sandbox, call, ip, ip_json, on_a_node, plan, succeeded},
};

#[test]
fn a_pod_cannot_keep_its_vf_by_taking_names() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        for trick in [
            "link add rh000018003 type bridge",
            // The names of other links of the host, on the rail itself: a move refuses those.
            "link property add dev rail0 altname leaf0",
            "link property add dev rail0 altname lo2",
            "link set rail0 alias x",
        ] {
            let sandbox = Sandbox::new("c1");
            succeeded(&call(&node.context(), "ADD", &sandbox));
            sandbox.ip(trick);
            if trick.ends_with("lo2") {
                ip("link add lo2 type bridge");
            }
            succeeded(&call(&node.context(), "DEL", &sandbox));
            function.assert_at_home(trick);
            assert_eq!(node.leftovers(), Vec::<String>::new(), "{trick}");
        }
        // Both names that a VF is known by on the host are taken there.
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        ip("link add rh000018003 type bridge");
        ip(&format!("link add {} type bridge", function.name));
        let mut journal = Journal::read(&node.layout(), "c1").unwrap().unwrap();
        assert!(!journal.rails[0].has_parent, "a veth is known by its names only");
        journal.rails[0].final_name = "rail0".parse().unwrap();
        call(&node.context(), "DEL", &sandbox);
        assert!(
            ip_json("link show")
                .as_array()
                .unwrap()
                .iter()
                .any(|link| link["address"] == function.mac.to_string() || link["address"] == "02:00:00:00:00:01"),
            "it left the pod under whatever name"
        );
    });
}

#[test]
fn a_pod_that_deleted_hid_or_spoilt_its_rail_ends() {
    on_a_node(|node| {
        node.write_plan(&plan(&[0]));
        let nested = Sandbox::new("nested");
        for trick in [
            "link del rail0".to_owned(),
            format!("link set rail0 netns {}", nested.path().unwrap()),
            "link set rail0 name mine".to_owned(),
        ] {
            node.add_function(0);
            let sandbox = Sandbox::new("c1");
            succeeded(&call(&node.context(), "ADD", &sandbox));
            sandbox.ip("link set rail0 down");
            sandbox.ip(&trick);
            succeeded(&call(&node.context(), "DEL", &sandbox));
            assert_eq!(node.leftovers(), Vec::<String>::new(), "{trick}");
            // Both ends of the cable, wherever they are by now.
            let _ = std::panic::catch_unwind(|| ip("link del leaf0"));
        }
    });
}

#[test]
fn a_path_that_leads_to_another_namespace_by_now_is_not_followed() {
    on_a_node(|node| {
        node.add_function(0);
        node.add_function(1);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        // Its process ended, and the number is another one's: a pod with an interface of the same name.
        let other = Sandbox::new("other");
        other.ip("link add rail0 type bridge");
        other.ip("rule add from 10.0.0.7 lookup 1000 priority 1000");
        let mut journal = Journal::read(&node.layout(), "c1").unwrap().unwrap();
        journal.netns = other.path().unwrap().into();
        journal.write(&node.layout()).unwrap();
        succeeded(&call(&node.context(), "DEL", &sandbox.without_netns()));
        other.ip("link show dev rail0");
        assert!(
            other.ip("rule show").contains("lookup 1000"),
            "a rule of somebody else is gone"
        );
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_function_that_came_home_under_its_name_in_the_pod_gets_its_own_name_back() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        // What the kernel does with a real function when its namespace ends; a veth would die with it.
        ip_home(&sandbox, "rail0");
        assert_eq!(ip_json("link show dev rail0")[0]["ifname"], "rail0");
        succeeded(&call(&node.context(), "DEL", &sandbox.without_netns()));
        function.assert_at_home("after its namespace ended");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_function_whose_name_was_taken_keeps_a_unique_one_and_says_so() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        ip(&format!("link add {} type veth peer name other", function.name));
        let deleted = call(&node.context(), "DEL", &sandbox);
        succeeded(&deleted);
        assert_eq!(
            ip_json("link show dev rh000018003")[0]["address"],
            function.mac.to_string()
        );
        assert!(
            deleted.log.iter().any(|line| line.contains("not all of it as before")),
            "{:?}",
            deleted.log
        );
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}
