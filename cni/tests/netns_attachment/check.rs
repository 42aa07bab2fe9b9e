//! What CHECK tells, and what it sets again.

use railhead_host::InterfaceSysctl::Ipv4;
use railhead_plan::Vlan;

use crate::node::{Sandbox, answer, call, ip, on_a_node, pf_address, plan, succeeded};

#[test]
fn check_names_whatever_was_changed() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        for (change, word) in [
            ("addr del 10.0.0.7/24 dev rail0", "address 10.0.0.7/24 is missing"),
            ("link set rail0 mtu 1400", "MTU"),
            ("link set rail0 down", "down"),
            ("route flush table 1000", "route 0.0.0.0/0 is missing in table 1000"),
            ("rule del priority 1000", "rule from 10.0.0.7/32"),
            ("link set rail0 address 02:00:00:00:00:55", "MAC"),
            ("link set rail0 down name railX", "interface rail0 is gone"),
        ] {
            succeeded(&call(&node.context(), "ADD", &sandbox));
            succeeded(&call(&node.context(), "CHECK", &sandbox));
            sandbox.ip(&if change.contains(" name ") {
                "link set rail0 down".to_owned()
            } else {
                change.to_owned()
            });
            if change.contains(" name ") {
                sandbox.ip("link set rail0 name railX");
            }
            let checked = call(&node.context(), "CHECK", &sandbox);
            assert!(!checked.success, "{change}");
            let error = answer(&checked);
            assert_eq!(error["code"], 101);
            assert!(error["msg"].as_str().unwrap().contains(word), "{change}: {error}");
            // Make the link findable again where the change hid it.
            if change.contains(" name ") {
                sandbox.ip("link set railX name rail0");
            }
            if change.contains("address 02") {
                sandbox.ip("link set rail0 address 02:00:00:00:00:01");
            }
            succeeded(&call(&node.context(), "DEL", &sandbox));
        }
        succeeded(&call(&node.context(), "ADD", &sandbox));
        node.pf()
            .0
            .lock()
            .unwrap()
            .get_mut(&(pf_address(0), 2))
            .unwrap()
            .spoof_check = false;
        let rail0 = "rail0".parse().unwrap();
        let spoilt = [(Ipv4("arp_ignore"), "0")];
        sandbox
            .netns()
            .run(|| railhead_host::write_interface_sysctls(&rail0, &spoilt))
            .unwrap()
            .unwrap();
        let error = answer(&call(&node.context(), "CHECK", &sandbox));
        for word in ["SpoofCheck", "sysctl arp_ignore is 0, not 1"] {
            assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
        }
    });
}

/// The agent tells a rail that is down by these words from other differences.
#[test]
fn a_pulled_cable_and_a_vf_that_is_gone_are_the_first_thing_that_check_tells() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        let first = || {
            let error = answer(&call(&node.context(), "CHECK", &sandbox));
            let details = error["details"].as_str().unwrap().to_owned();
            details.lines().next().unwrap().to_owned()
        };
        ip("link set leaf0 down");
        assert_eq!(first(), "rail0: it has no carrier");
        ip("link set leaf0 up");
        succeeded(&call(&node.context(), "CHECK", &sandbox));
        sandbox.ip("link del rail0");
        assert_eq!(first(), "interface rail0 is gone");
    });
}

/// The agent's CHECK: what is lost and harms nobody when it is set again comes back, the rest is told line by line.
#[test]
fn a_check_that_may_repair_sets_routes_rules_and_the_pf_side_again() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        let mut repairing = node.context();
        repairing.repair = true;
        succeeded(&call(&node.context(), "ADD", &sandbox));
        let lose = || {
            sandbox.ip("route flush table 1000");
            sandbox.ip("rule del priority 1000");
            node.pf().0.lock().unwrap().get_mut(&(pf_address(0), 2)).unwrap().vlan = None;
        };
        lose();
        assert!(!call(&node.context(), "CHECK", &sandbox).success);
        assert!(
            !call(&node.context(), "CHECK", &sandbox).success,
            "a runtime's CHECK changes nothing"
        );
        let repaired = call(&repairing, "CHECK", &sandbox);
        succeeded(&repaired);
        assert!(
            repaired.log.iter().any(|line| line.contains("set again")),
            "{:?}",
            repaired.log
        );
        succeeded(&call(&node.context(), "CHECK", &sandbox));
        assert!(sandbox.ip("rule show").contains("1000:\tfrom 10.0.0.7 lookup 1000"));
        assert_eq!(
            node.pf().0.lock().unwrap()[&(pf_address(0), 2)].vlan.map(Vlan::id),
            Some(100)
        );

        lose();
        sandbox.ip("addr del 10.0.0.7/24 dev rail0");
        let error = answer(&call(&repairing, "CHECK", &sandbox));
        let details: Vec<&str> = error["details"].as_str().unwrap().lines().collect();
        assert_eq!(details[0], "rail0: address 10.0.0.7/24 is missing");
        assert!(!details.iter().any(|line| line.contains("Vlan")), "{details:?}");
    });
}

#[test]
fn settings_of_the_pf_that_were_lost_are_set_again() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        node.pf().0.lock().unwrap().get_mut(&(pf_address(0), 2)).unwrap().vlan = None;
        let added = call(&node.context(), "ADD", &Sandbox::new("c1"));
        succeeded(&added);
        assert!(added.log.iter().any(|line| line.contains("Vlan")), "{:?}", added.log);
        let table = node.pf().0.lock().unwrap();
        assert_eq!(table[&(pf_address(0), 2)].vlan.map(Vlan::id), Some(100));
    });
}
