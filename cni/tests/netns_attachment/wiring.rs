//! What ADD makes of a plan, and what keeps it from it.

use std::{fs, net::UdpSocket, os::unix::fs::MetadataExt, process::Command, time::Duration};

use railhead_host::InterfaceSysctl::Ipv4;
use railhead_plan::{AttachmentRecord, Versioned};
use serde_json::json;

use crate::node::{POD_UID, Sandbox, answer, call, ip, ip_json, on_a_node, plan, succeeded};

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

        let record = AttachmentRecord::parse(&fs::read(node.layout().record(POD_UID)).unwrap()).unwrap();
        assert_eq!(record.container_id, "c1");
        assert_eq!(record.rails.len(), 2);
        assert_eq!(record.rails[1].vf.as_str(), "0000:18:01.3");
        assert_eq!(record.rails[1].vlan.map(|vlan| (vlan.id(), vlan.pcp())), Some((100, 3)));
        let nccl = fs::read_to_string(node.layout().nccl_conf(POD_UID)).unwrap();
        assert!(nccl.contains("# dscp 26 of QosClass roce\nNCCL_IB_TC=104\n"), "{nccl}");
        let env = node.layout().attachment(POD_UID).join("env");
        // What programs in the pod do, whoever they run as.
        assert_eq!(fs::metadata(&env).unwrap().mode() & 0o777, 0o644);
        let sourced = Command::new("sh")
            .env_clear()
            .args(["-euc", "set -a; . \"$0\"; exec /usr/bin/env"])
            .arg(&env)
            .output()
            .unwrap();
        let sourced = String::from_utf8(sourced.stdout).unwrap();
        for line in [
            "RAILHEAD_NETWORK=train",
            "RAILHEAD_PODS=2",
            "GLOO_SOCKET_IFNAME=rail0,rail1",
        ] {
            assert!(
                sourced.lines().any(|found| found == line),
                "{line} is not in:\n{sourced}"
            );
        }
        let peers = fs::read_to_string(node.layout().attachment(POD_UID).join("hosts")).unwrap();
        assert!(peers.contains("\n10.0.1.8\ttrain-1-rail1\n"), "{peers}");
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
