//! Plans that cannot be carried out: the error names the file or the rail, and nothing is changed.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{fs, thread, time::Duration};

use node::{Node, Sandbox, answer, call, on_a_node, plan, succeeded};
use railhead_host::FileLock;
use railhead_plan::RdmaPlan;
use railhead_vf::KernelPfSide;
use serde_json::{Value, json};

fn add(node: &Node) -> Value {
    let outcome = call(&node.context(), "ADD", &Sandbox::new("c1"));
    assert!(!outcome.success);
    assert_eq!(node.leftovers(), Vec::<String>::new());
    answer(&outcome)
}

#[test]
fn a_plan_cut_in_half_is_named_with_the_next_step() {
    on_a_node(|node| {
        let function = node.add_function(0);
        let bytes = serde_json::to_vec(&plan(&[0])).unwrap();
        fs::write(node.layout().plan(node::POD_UID), &bytes[..bytes.len() / 2]).unwrap();
        let error = add(node);
        assert_eq!(error["code"], 6);
        let text = error["msg"].as_str().unwrap();
        assert!(text.contains(&format!("{}.json", node::POD_UID)), "{text}");
        assert!(text.contains("delete the pod"), "{text}");
        function.assert_at_home("after a refused ADD");
    });
}

#[test]
fn plans_that_do_not_fit_are_refused_before_anything_is_touched() {
    type Case = (&'static str, i32, fn(&mut Value));
    let cases: [Case; 10] = [
        ("format version", 6, |plan| plan["version"] = json!(9)),
        ("before the last boot", 11, |plan| plan["bootId"] = json!("b")),
        ("is for pod UID", 6, |plan| plan["pod"]["uid"] = json!("another")),
        ("not an interface name", 6, |plan| {
            plan["rails"][0]["name"] = json!("a/b");
        }),
        ("not a MAC address", 6, |plan| plan["rails"][0]["mac"] = json!("02")),
        ("not a PCI address", 6, |plan| {
            plan["rails"][0]["vf"]["pciAddress"] = json!("../../x");
        }),
        ("VLAN 4095", 6, |plan| {
            plan["rails"][0]["vf"]["vlan"]["id"] = json!(4095);
        }),
        ("same interface name", 6, |plan| {
            plan["rails"][1]["name"] = json!("rail0");
        }),
        ("reserved", 6, |plan| plan["rails"][0]["table"] = json!(254)),
        ("CDI spec", 11, |plan| {
            plan["rails"][0]["rdma"] = json!({"kind": "soft", "device": "rxe6f1c0a52r0"});
        }),
    ];
    on_a_node(move |node| {
        let functions = [node.add_function(0), node.add_function(1)];
        for (words, code, change) in cases {
            let mut plan = serde_json::to_value(plan(&[0, 1])).unwrap();
            change(&mut plan);
            let bytes = serde_json::to_vec(&plan).unwrap();
            fs::write(node.layout().plan(node::POD_UID), bytes).unwrap();
            let error = add(node);
            assert_eq!(error["code"], code, "{error}");
            assert!(error["msg"].as_str().unwrap().contains(words), "{error}");
            for function in &functions {
                function.assert_at_home(words);
            }
        }
    });
}

#[test]
fn a_soft_device_that_cannot_be_made_is_rolled_back() {
    on_a_node(|node| {
        let function = node.add_function(0);
        let mut plan = plan(&[0]);
        // 64 bytes are more than any kernel takes; without an RDMA subsystem the request fails before that.
        plan.rails[0].rdma = RdmaPlan::Soft {
            device: "x".repeat(63).parse().unwrap(),
        };
        node.write_plan(&plan);
        let spec = r#"{"cdiVersion":"0.6.0","kind":"railhead.dev/rail","devices":[{"name":"c","containerEdits":{"env":["A=b"]}}]}"#;
        fs::create_dir_all(node.layout().cdi()).unwrap();
        fs::write(node.layout().cdi_spec(node::CLAIM_UID), spec).unwrap();
        let error = add(node);
        // A kernel without RDMA refuses the device; with RDMA its GID is missed, because this node's sysfs has no such device.
        assert!(error["code"] == 5 || error["code"] == 11, "{error}");
        function.assert_at_home("after a failed ADD");
        let after = fs::read_to_string(node.layout().cdi_spec(node::CLAIM_UID)).unwrap();
        assert_eq!(after, spec);
    });
}

#[test]
fn a_port_that_has_no_such_function_is_named() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        // The real PF side: first without a link for the PF, then with one that is no PF.
        let mut context = node.context();
        context.pf_side = Box::new(KernelPfSide::new(context.sysfs()));
        let error = answer(&call(&context, "ADD", &Sandbox::new("c1")));
        assert!(
            error["msg"]
                .as_str()
                .unwrap()
                .contains("PF 0000:18:00.0 has no interface"),
            "{error}"
        );
        fs::create_dir_all(node.layout().sysfs().join("bus/pci/devices/0000:18:00.0/net/leaf0")).unwrap();
        let error = answer(&call(&context, "ADD", &Sandbox::new("c1")));
        assert!(
            error["msg"].as_str().unwrap().contains("PF leaf0 has no VF 2"),
            "{error}"
        );
        function.assert_at_home("after a refused ADD");
    });
}

#[test]
fn the_hosts_own_namespace_is_refused() {
    on_a_node(|node| {
        let function = node.add_function(0);
        node.write_plan(&plan(&[0]));
        let outcome = call(&node.context(), "ADD", &Sandbox::of_the_host("c1"));
        assert_eq!(answer(&outcome)["code"], 8);
        function.assert_at_home("after a refused ADD");
    });
}

#[test]
fn a_node_whose_agent_has_not_run_since_the_boot_is_still_ready() {
    on_a_node(|node| {
        let sandbox = Sandbox::new("c1");
        fs::remove_dir_all(node.layout().plans()).unwrap();
        assert!(call(&node.context(), "STATUS", &sandbox).success);
    });
}

/// As when the agent gives a claim back, or a damaged plan: it has the functions until the plan is gone.
#[test]
fn a_plan_that_goes_while_the_call_waits_for_its_functions_wires_nothing() {
    on_a_node(|node| {
        let function = node.add_function(0);
        let planned = plan(&[0]);
        node.write_plan(&planned);
        let path = node.layout().function_lock(planned.rails[0].vf.pci_address.as_str());
        let sandbox = Sandbox::new("c1");
        for went in [true, false] {
            let held = FileLock::take(&path, Duration::ZERO).unwrap();
            let outcome = thread::scope(|scope| {
                let adding = scope.spawn(|| call(&node.context(), "ADD", &sandbox));
                thread::sleep(Duration::from_millis(200));
                assert!(!adding.is_finished(), "ADD does not wait for the function");
                if went {
                    fs::remove_file(node.layout().plan(node::POD_UID)).unwrap();
                } else {
                    let mut other = planned.clone();
                    other.index += 1;
                    node.write_plan(&other);
                }
                drop(held);
                adding.join().unwrap()
            });
            assert!(!outcome.success);
            function.assert_at_home("after a refused ADD");
            assert!(!node.layout().journal("c1").exists());
            node.write_plan(&planned);
        }
        succeeded(&call(&node.context(), "ADD", &sandbox));
    });
}
