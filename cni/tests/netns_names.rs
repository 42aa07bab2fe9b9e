//! Names that clash: what the host or the pod calls its own links is no business of a rail (k8snetworkplumbingwg/sriov-cni issues 40
//! and 111, ib-sriov-cni pull request 52).

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::fs;

use node::{Node, Sandbox, StandIn, call, ip, ip_json, on_a_node, plan, succeeded};

/// What kind of link a name stands for on the host.
fn kind(name: &str) -> String {
    let shown = ip_json(&format!("-d link show dev {name}"));
    shown[0]["linkinfo"]["info_kind"].as_str().unwrap().to_owned()
}

/// Renames the VF on the host, whose sysfs shows it.
fn rename(node: &Node, vf: &mut StandIn, name: &str) {
    ip(&format!("link set {} name {name}", vf.name));
    let net = node
        .layout()
        .sysfs()
        .join("bus/pci/devices")
        .join(vf.pci_address.as_str())
        .join("net");
    fs::rename(net.join(vf.name.as_str()), net.join(name)).unwrap();
    vf.name = name.parse().unwrap();
}

/// ADD, CHECK and DEL, after each of which the VF is where it belongs.
fn attach_and_detach(node: &Node, vf: &StandIn, sandbox: &Sandbox, when: &str) {
    succeeded(&call(&node.context(), "ADD", sandbox));
    let rail = sandbox.ip_json("link show dev rail0");
    assert_eq!(rail[0]["address"], "02:00:00:00:00:01", "{when}");
    succeeded(&call(&node.context(), "CHECK", sandbox));
    succeeded(&call(&node.context(), "DEL", sandbox));
    vf.assert_at_home(when);
    assert_eq!(node.leftovers(), Vec::<String>::new(), "{when}");
}

#[test]
fn a_vf_that_the_host_calls_as_the_pod_calls_its_own_interface_is_wired_and_comes_home() {
    on_a_node(|node| {
        let mut vf = node.add_function(0);
        rename(node, &mut vf, "eth0");
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        sandbox.ip("link add eth0 type bridge");
        let before = sandbox.ip_json("link show dev eth0");
        attach_and_detach(node, &vf, &sandbox, "with an eth0 on both sides");
        assert_eq!(sandbox.ip_json("link show dev eth0"), before);
    });
}

#[test]
fn links_of_the_host_with_the_names_that_a_rail_uses_are_left_alone() {
    on_a_node(|node| {
        let vf = node.add_function(0);
        node.write_plan(&plan(&[0]));
        // The name in the pod, and the one that a VF gets when its own is taken.
        for name in ["rail0", "rh000018003"] {
            ip(&format!("link add {name} type bridge"));
            let before = ip_json(&format!("link show dev {name}"));
            attach_and_detach(node, &vf, &Sandbox::new("c1"), name);
            assert_eq!(ip_json(&format!("link show dev {name}")), before);
            assert_eq!(kind(name), "bridge");
        }
    });
}

#[test]
fn a_vf_whose_name_was_taken_meanwhile_is_wired_for_the_next_pod() {
    on_a_node(|node| {
        let vf = node.add_function(0);
        let sysfs = vf.mirrored(&node.layout());
        node.write_plan(&plan(&[0]));
        let first = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &first));
        ip(&format!("link add {} type bridge", vf.name));
        succeeded(&call(&node.context(), "DEL", &first));
        sysfs.wait_for("rh000018003");
        let next = Sandbox::new("c2");
        succeeded(&call(&node.context(), "ADD", &next));
        assert_eq!(next.ip_json("link show dev rail0")[0]["address"], "02:00:00:00:00:01");
        succeeded(&call(&node.context(), "DEL", &next));
        sysfs.wait_for("rh000018003");
        assert_eq!(ip_json("link show dev rh000018003")[0]["address"], vf.mac.to_string());
        assert_eq!(kind(vf.name.as_str()), "bridge");
        assert_eq!(node.leftovers(), Vec::<String>::new());
    });
}
