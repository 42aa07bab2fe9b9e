//! ADD, CHECK, DEL and GC on the real kernel, with veth pairs in the place of virtual functions.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{fs, io::ErrorKind, net::UdpSocket, time::Duration};

use node::{Sandbox, answer, call, call_with, ip, ip_json, on_a_node, pf_address, plan, succeeded};
use railhead_cni::{Journal, Step};
use railhead_host::InterfaceSysctl::Ipv4;
use railhead_plan::{AttachmentRecord, Vlan};
use serde_json::{Value, json};

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
fn a_pod_is_wired_as_planned_and_everything_is_given_back() {
    on_a_node(|node| {
        let functions = [node.add_function(0), node.add_function(1)];
        node.write_plan(&plan(&[0, 1]));
        let sandbox = Sandbox::new("c1");
        let added = call(&node.context(), "ADD", &sandbox);
        succeeded(&added);

        let result = answer(&added);
        assert_eq!(result["interfaces"][0]["name"], "eth0");
        assert_eq!(
            result["interfaces"][1],
            json!({"name": "rail0", "mac": "02:00:00:00:00:01", "mtu": 9000,
                   "sandbox": sandbox.path().unwrap(), "pciID": "0000:18:00.3"})
        );
        assert_eq!(result["ips"][2], json!({"address": "10.0.1.7/24", "interface": 2}));

        for rail in [0, 1] {
            let link = &sandbox.ip_json(&format!("addr show dev rail{rail}"))[0];
            assert_eq!(link["address"], format!("02:00:00:00:0{rail}:01"));
            assert_eq!(link["mtu"], 9000);
            assert_eq!(link["operstate"], "UP");
            assert_eq!(link["addr_info"][0]["local"], format!("10.0.{rail}.7"));
            assert_eq!(link["addr_info"][0]["broadcast"], format!("10.0.{rail}.255"));
            let routes = sandbox.ip(&format!("route show table {}", 1000 + rail));
            assert_eq!(
                routes.lines().map(str::trim).collect::<Vec<_>>(),
                [
                    format!("default via 10.0.{rail}.1 dev rail{rail} proto static src 10.0.{rail}.7"),
                    format!("10.0.{rail}.0/24 dev rail{rail} proto static scope link src 10.0.{rail}.7"),
                ]
            );
            let main = sandbox.ip(&format!("route show dev rail{rail}"));
            assert!(main.starts_with(&format!("10.0.{rail}.0/24 proto kernel")), "{main}");
            let rules = sandbox.ip("rule show");
            let rule = format!("{}:\tfrom 10.0.{rail}.7 lookup {}", 1000 + rail, 1000 + rail);
            assert!(rules.contains(&rule), "{rules}");
            let sysctl = |name: &str| {
                let interface = format!("rail{rail}").parse().unwrap();
                railhead_host::read_interface_sysctl(sandbox.netns(), &interface, Ipv4(name))
                    .unwrap()
                    .unwrap()
            };
            assert_eq!(["arp_ignore", "arp_announce", "rp_filter"].map(sysctl), ["1", "2", "2"]);
        }

        let record = AttachmentRecord::parse(&fs::read(node.layout().record(node::POD_UID)).unwrap()).unwrap();
        assert_eq!(record.container_id, "c1");
        assert_eq!(record.rails.len(), 2);
        assert_eq!(record.rails[1].vf.as_str(), "0000:18:01.3");
        assert_eq!(record.rails[1].vlan.map(|vlan| (vlan.id(), vlan.pcp())), Some((100, 3)));
        let nccl = fs::read_to_string(node.layout().nccl_conf(node::POD_UID)).unwrap();
        assert!(nccl.contains("# dscp 26 of QosClass roce\nNCCL_IB_TC=104\n"), "{nccl}");
        succeeded(&call(&node.context(), "CHECK", &sandbox));

        succeeded(&call(&node.context(), "DEL", &sandbox));
        for function in &functions {
            function.assert_at_home("after DEL");
        }
        assert!(!sandbox.ip("rule show").contains("lookup 100"));
        assert_eq!(node.leftovers(), Vec::<String>::new());
        succeeded(&call(&node.context(), "DEL", &sandbox));
        succeeded(&call(&node.context(), "DEL", &sandbox.without_netns()));
    });
}

#[test]
fn two_pods_reach_each_other_over_a_rail() {
    on_a_node(|node| {
        node.add_function(0);
        node.add_function(1);
        // One leaf switch under both cables.
        ip("link add leaf type bridge");
        ip("link set leaf up");
        ip("link set leaf0 master leaf");
        ip("link set leaf1 master leaf");
        let sandboxes = [0_u32, 1].map(|rail| {
            let mut plan = plan(&[rail]);
            plan.rails[0].addresses = vec![format!("10.9.0.{}/24", rail + 1).parse().unwrap()];
            plan.rails[0].gateway = None;
            plan.pod.uid = format!("pod-{rail}");
            node.write_plan(&plan);
            let sandbox = Sandbox::new(&format!("c{rail}")).of_pod(&plan.pod.uid);
            succeeded(&call(&node.context(), "ADD", &sandbox));
            sandbox
        });
        let receiver = sandboxes[0]
            .netns()
            .run(|| UdpSocket::bind("10.9.0.1:7000").unwrap())
            .unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        sandboxes[1]
            .netns()
            .run(|| {
                let sender = UdpSocket::bind("10.9.0.2:0").unwrap();
                // Longer than 1500 bytes, so that a rail with the wrong MTU on the way would have to cut it.
                sender.send_to(&[7; 8900], "10.9.0.1:7000").unwrap();
            })
            .unwrap();
        let mut packet = [0; 9000];
        let (length, from) = receiver.recv_from(&mut packet).unwrap();
        assert_eq!((length, from.ip().to_string().as_str()), (8900, "10.9.0.2"));
    });
}

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
fn links_of_the_pod_and_of_the_host_may_have_the_names_that_a_vf_has_on_the_other_side() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        sandbox.ip(&format!("link add {} type bridge", function.name));
        succeeded(&call(&node.context(), "ADD", &sandbox));
        succeeded(&call(&node.context(), "CHECK", &sandbox));
        ip("link add rail0 type bridge");
        succeeded(&call(&node.context(), "DEL", &sandbox));
        function.assert_at_home("after DEL");
        assert_eq!(
            sandbox.ip_json(&format!("-d link show dev {}", function.name))[0]["linkinfo"]["info_kind"],
            "bridge"
        );
        assert_eq!(ip_json("-d link show dev rail0")[0]["linkinfo"]["info_kind"], "bridge");
    });
}

#[test]
fn a_signal_that_comes_late_is_waited_for() {
    on_a_node(|node| {
        node.add_function(0);
        ip("link set leaf0 down");
        node.write_plan(&plan(&[0]));
        let mut context = node.context();
        context.proof_patience = Duration::from_secs(20);
        let host = railhead_host::Netns::current().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(150));
                host.run(|| ip("link set leaf0 up")).unwrap();
            });
            succeeded(&call(&context, "ADD", &Sandbox::new("c1")));
        });
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
        fs::remove_dir_all(node.layout().attachment(node::POD_UID)).unwrap();
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

#[test]
fn an_add_without_carrier_fails_as_passing_and_leaves_nothing() {
    on_a_node(|node| {
        let functions = [node.add_function(0), node.add_function(1)];
        ip("link set leaf1 down");
        node.write_plan(&plan(&[0, 1]));
        let sandbox = Sandbox::new("c1");
        let failed = call(&node.context(), "ADD", &sandbox);
        assert!(!failed.success);
        let error = answer(&failed);
        assert_eq!(error["code"], 11);
        assert!(
            error["msg"].as_str().unwrap().contains("rail1 has no carrier"),
            "{error}"
        );
        for function in &functions {
            function.assert_at_home("after a failed ADD");
        }
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_pod_is_wired_in_every_version_of_the_protocol_that_there_is() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        for version in ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let lists = version > "0.2.0";
            let previous = if lists {
                json!({"cniVersion": version, "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.244.0.5/24"}]})
            } else {
                json!({"cniVersion": version, "ip4": {"ip": "10.244.0.5/24"}})
            };
            let config = json!({"cniVersion": version, "prevResult": previous});
            let sandbox = Sandbox::new("c1");
            let added = call_with(&node.context(), "ADD", &sandbox, &config);
            succeeded(&added);
            sandbox.ip("link show dev rail0");
            let result = answer(&added);
            if lists {
                assert_eq!(result["interfaces"][1]["name"], "rail0", "{version}");
                assert_eq!(result["ips"][0], previous["ips"][0], "{version}");
                let with_ip_version = result["ips"][1].get("version").is_some();
                assert_eq!(with_ip_version, version < "1.0.0", "{version}");
            } else {
                assert_eq!(result, previous, "{version:?} has no word for a second interface");
            }
            succeeded(&call_with(&node.context(), "CHECK", &sandbox, &config));
            succeeded(&call_with(&node.context(), "DEL", &sandbox, &config));
            function.assert_at_home(version);
        }
    });
}

#[test]
fn under_a_version_of_the_future_a_pod_with_rails_is_refused_before_anything_is_touched_and_one_is_still_given_back() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let future = json!({"cniVersion": "2.0.0", "prevResult": {"cniVersion": "2.0.0", "links": []}});
        let sandbox = Sandbox::new("c1");
        let error = answer(&call_with(&node.context(), "ADD", &sandbox, &future));
        assert_eq!(error["code"], 1);
        assert!(error["msg"].as_str().unwrap().contains("\"2.0.0\""), "{error}");
        assert_eq!(node.leftovers(), Vec::<String>::new());
        function.assert_at_home("after a refused ADD");

        succeeded(&call(&node.context(), "ADD", &sandbox));
        succeeded(&call_with(&node.context(), "DEL", &sandbox, &future));
        function.assert_at_home("after DEL in another version");
    });
}

#[test]
fn an_interface_of_another_plugin_is_left_alone() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        sandbox.ip("link add rail0 type veth peer name other");
        let failed = call(&node.context(), "ADD", &sandbox);
        assert!(
            answer(&failed)["msg"]
                .as_str()
                .unwrap()
                .contains("already has an interface rail0")
        );
        sandbox.ip("link show dev rail0");
        function.assert_at_home("after a failed ADD");
    });
}

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
        assert!(!node.layout().attachment(node::POD_UID).exists());

        // Its functions were removed from the port (sriov_numvfs): nothing can come back.
        fs::remove_dir_all(device).unwrap();
        succeeded(&call(&node.context(), "DEL", &sandbox));
        assert!(!node.layout().journal("c1").exists());
    });
}

#[test]
fn a_function_that_is_not_on_the_host_is_named() {
    on_a_node(|node| {
        node.write_plan(&plan(&[0]));
        let failed = call(&node.context(), "ADD", &Sandbox::new("c1"));
        let error = answer(&failed);
        assert_eq!(error["code"], 11);
        assert!(error["msg"].as_str().unwrap().contains("0000:18:00.3"), "{error}");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}

/// Moves a link from a sandbox to the host under the name that it has.
fn ip_home(sandbox: &Sandbox, name: &str) {
    let host = railhead_host::Netns::current().unwrap();
    let mut inside = railhead_host::RouteSocket::open_in(sandbox.netns()).unwrap();
    let link = inside.link_named(&name.parse().unwrap()).unwrap().unwrap();
    inside.set_up(link.index, false).unwrap();
    inside.move_to(link.index, &host).unwrap();
}
