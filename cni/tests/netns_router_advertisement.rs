//! A leaf that sends router advertisements changes nothing in a pod.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{os::fd::AsRawFd, thread, time::Duration};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket},
};

mod node;

use node::{Sandbox, call, ip, on_a_node, plan, succeeded};

/// A router advertisement (RFC 4861, section 4.2) with a router lifetime of 1800 s and a prefix fd00:bad::/64 to make
/// addresses of, in an Ethernet frame to all nodes.
fn router_advertisement() -> Vec<u8> {
    let source: [u8; 16] = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let target: [u8; 16] = "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let prefix: [u8; 16] = "fd00:bad::".parse::<std::net::Ipv6Addr>().unwrap().octets();
    // Type, code, checksum, hop limit, flags, lifetime, reachable time, retransmission timer.
    let mut icmp = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    // Prefix information: type, length, prefix length, on-link and autonomous, two lifetimes, reserved, prefix.
    icmp.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    icmp.extend(prefix);
    let length = u16::try_from(icmp.len()).unwrap();
    let mut summed = [source, target].concat();
    summed.extend(u32::from(length).to_be_bytes());
    summed.extend([0, 0, 0, 58]);
    summed.extend(&icmp);
    let mut sum: u32 = summed
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    icmp[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xee, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend([source, target].concat());
    frame.extend(icmp);
    frame
}

fn send(interface: &str, frame: &[u8]) {
    let link = getifaddrs()
        .unwrap()
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .unwrap();
    let raw = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap();
    sendto(raw.as_raw_fd(), frame, &link, MsgFlags::empty()).unwrap();
}

#[test]
fn a_router_advertisement_of_the_leaf_gives_a_pod_no_route_and_no_address() {
    on_a_node(|node| {
        node.add_function(0);
        node.write_plan(&plan(&[0]));
        let sandbox = Sandbox::new("c1");
        succeeded(&call(&node.context(), "ADD", &sandbox));
        // An interface that nobody looks after, to see that the frame is one that counts.
        ip("link add other type veth peer name otherleaf");
        ip("link set otherleaf up");
        ip(&format!("link set other netns {}", sandbox.path().unwrap()));
        sandbox.ip("link set other up");
        let frame = router_advertisement();
        let learnt = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(50));
            send("otherleaf", &frame);
            send("leaf0", &frame);
            sandbox.ip("-6 route").contains("default via fe80::1 dev other")
        });
        assert!(learnt, "{}", sandbox.ip("-6 route"));
        let (routes, addresses) = (sandbox.ip("-6 route"), sandbox.ip("-6 addr show dev rail0"));
        assert!(
            !routes
                .lines()
                .any(|line| line.contains("rail0") && !line.contains("fe80::")),
            "{routes}"
        );
        assert!(!addresses.contains("fd00:bad"), "{addresses}");
    });
}
