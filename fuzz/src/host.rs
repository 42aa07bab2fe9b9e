//! What the kernel answers, over netlink and in sysfs. It is trusted with the node, and not to be of the version that anybody
//! had in mind: an answer of another shape is an error that names the question, never a panic and never a value from nowhere.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Component, Path},
};

use ipnet::IpNet;
use railhead_host::{
    NetlinkError, PciAddress, Sysfs,
    answers::{self, Answer, RouteAnswer},
};

/// What the question is called.
const QUESTION: &str = "ask for something";

/// A datagram; its first byte says of which socket.
pub fn netlink(input: &[u8]) {
    let Some((socket, datagram)) = input.split_first() else {
        return;
    };
    let answers = match socket % 3 {
        0 => answers::route(QUESTION, datagram),
        1 => answers::generic(QUESTION, datagram),
        _ => answers::rdma(QUESTION, datagram),
    };
    match answers {
        Ok(answers) => {
            // A message has a header of 16 bytes.
            assert!(answers.len() <= datagram.len() / 16);
            answers.iter().for_each(is_possible);
        }
        Err(error) => is_named(&error),
    }
}

fn is_possible(answer: &Answer) {
    let Answer::Route(answer) = answer else { return };
    // What the kernel tells can be told the kernel, and means the same.
    let again = answer.again();
    match (answer, again) {
        (RouteAnswer::Link { vfs, .. }, Some(RouteAnswer::Link { vfs: again, .. })) => assert_eq!(*vfs, again),
        (RouteAnswer::Address(address), Some(RouteAnswer::Address(again))) => assert_eq!(*address, again),
        (RouteAnswer::Route(route), Some(RouteAnswer::Route(again))) => {
            let mut expected = route.clone();
            expected.destination = trunc(route.destination);
            assert_eq!(expected, again);
        }
        (RouteAnswer::Rule(rule), Some(RouteAnswer::Rule(again))) => {
            let mut expected = rule.clone();
            expected.from = trunc(rule.from);
            assert_eq!(expected, again);
        }
        (answer, again) => panic!("{answer:?} is read again as {again:?}"),
    }
}

/// Requests name networks, not addresses in them.
fn trunc(net: IpNet) -> IpNet {
    net.trunc()
}

fn is_named(error: &NetlinkError) {
    let text = error.to_string();
    assert!(text.starts_with(QUESTION), "{text}");
    assert!(text.len() < 4096, "{} bytes of error", text.len());
}

/// The PF and its VF, whose folders are there whatever comes in.
const PF: &str = "0000:18:00.0";
const VF: &str = "0000:18:00.1";

/// What a tree may hold beside the folders of the two functions: `%f` and `%v` stand for them, a last `*` for any name. A line
/// with `->` is a symbolic link, one that ends with a slash a folder.
const PLACES: [&str; 30] = [
    "%f/class",
    "%f/sriov_totalvfs",
    "%f/sriov_numvfs",
    "%f/numa_node",
    "%f/vendor",
    "%f/device",
    "%f/driver->",
    "%f/virtfn*->",
    "%f/net/*/",
    "%f/net/eth0/address",
    "%f/net/eth0/carrier",
    "%f/net/eth0/speed",
    "%f/net/eth0/mtu",
    "%f/net/eth0/ifindex",
    "%f/net/eth0/phys_port_name",
    "%f/net/eth0/phys_switch_id",
    "%f/infiniband/*/",
    "%f/infiniband/mlx5_0/node_guid",
    "%v/physfn->",
    "%v/driver->",
    "%v/net/*/",
    "%v/net/eth1/phys_port_name",
    "%v/net/eth1/phys_switch_id",
    "%v/net/eth1/ifindex",
    "%v/infiniband/*/",
    "class/infiniband/mlx5_0/ports/1/gids/*",
    "class/infiniband/mlx5_0/ports/1/gid_attrs/types/*",
    "class/infiniband/mlx5_0/ports/1/state",
    "class/infiniband_verbs/*/ibdev",
    "class/net/*/",
];

/// A tree: parts between lines of `%`, the first line of each a path, the rest its content.
pub fn sysfs(input: &[u8]) {
    let root = tempfile::tempdir().expect("a folder for the tree");
    let devices = root.path().join("bus/pci/devices");
    for function in [PF, VF] {
        fs::create_dir_all(devices.join(function)).expect("a function");
    }
    let mut rest = input;
    for _ in 0..40 {
        let end = rest.windows(3).position(|window| window == b"\n%\n");
        let part = &rest[..end.unwrap_or(rest.len())];
        let line = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        if let Ok(path) = std::str::from_utf8(&part[..line]) {
            put(root.path(), path, part.get(line + 1..).unwrap_or_default());
        }
        let Some(end) = end else { break };
        rest = &rest[end + 3..];
    }
    let sysfs = Sysfs::new(root.path());
    let (pf, vf): (PciAddress, PciAddress) = (PF.parse().expect("an address"), VF.parse().expect("an address"));
    // What names a file below the root, or nothing but what was asked for.
    let named = |result: Result<(), railhead_host::SysfsError>| {
        if let Err(error) = result {
            let text = error.to_string();
            let inside = text.contains(&root.path().display().to_string()) || text.contains(PF) || text.contains(VF);
            assert!(inside, "{text}");
            assert!(text.len() < 2048, "{} bytes of error", text.len());
        }
    };
    named(sysfs.physical_functions().map(|found| {
        assert!(found.len() <= 2, "{found:?}");
        for port in found {
            assert!(port.address == pf || port.address == vf, "{port:?}");
            assert!(port.speed_mbps != Some(0), "{port:?}");
            assert!(port.port_name.as_deref() != Some(""), "{port:?}");
        }
    }));
    named(sysfs.virtual_functions(&pf).map(|vfs| {
        assert!(vfs.is_sorted_by_key(|vf| vf.index), "{vfs:?}");
    }));
    for function in [&pf, &vf] {
        named(sysfs.function_link(function).map(drop));
        named(sysfs.rdma_node_guids(function).map(drop));
        let _ = (sysfs.driver(function), sysfs.physical_function_of(function));
    }
    let address = "10.0.64.5".parse().expect("an address");
    named(sysfs.gid_of("mlx5_0", 1, address).map(|gid| {
        if let Some(gid) = gid {
            assert_eq!(gid.text(), "0000:0000:0000:0000:0000:ffff:0a00:4005");
        }
    }));
    named(sysfs.rdma_port_is_active("mlx5_0", 1).map(drop));
    named(sysfs.uverbs("mlx5_0").map(|node| {
        if let Some(node) = node {
            let plain = Path::new(&node)
                .components()
                .all(|part| !matches!(part, Component::ParentDir));
            assert!(node.starts_with("/dev/infiniband/uverbs") && plain, "{node}");
        }
    }));
}

/// Makes one entry of the tree, if a tree may have it.
fn put(root: &Path, path: &str, content: &[u8]) {
    let known = PLACES.iter().find(|place| matches(place, path));
    let Some(place) = known else { return };
    let path = root.join(expand(path.trim_end_matches("->")));
    let Some(folder) = path.parent() else { return };
    // What is there twice, or is a file and a folder, was there first.
    let _ = fs::create_dir_all(folder);
    if place.ends_with("->") {
        let target: String = String::from_utf8_lossy(content)
            .chars()
            .filter(|c| *c != '\0')
            .collect();
        let _ = symlink(target, path);
    } else if place.ends_with('/') {
        let _ = fs::create_dir(path);
    } else if !path.exists() {
        let _ = fs::write(path, content);
    }
}

fn expand(path: &str) -> String {
    let path = path.replacen("%f", &format!("bus/pci/devices/{PF}"), 1);
    path.replacen("%v", &format!("bus/pci/devices/{VF}"), 1)
}

/// Whether a path is of a place; a `*` stands for one name that stays in its folder.
fn matches(place: &str, path: &str) -> bool {
    let Some((before, after)) = place.split_once('*') else {
        return place == path;
    };
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|name| !name.contains(['/', '\0']) && !["", ".", ".."].contains(&name) && name.len() < 200)
}
