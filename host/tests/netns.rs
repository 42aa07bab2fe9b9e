//! Links, addresses, routes, rules and namespaces on the real kernel; iproute2 is the witness.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use railhead_host::{
    Errno, InterfaceName,
    InterfaceSysctl::{Ipv4, Ipv6},
    Link, MacAddress, Netns, RdmaError, RdmaSocket, Route, RouteSocket, Rule, Sysfs, VfError, VfKnob, VfSettings,
    read_interface_sysctl,
    testing::{self, another_namespace, ip, ip_json},
    write_interface_sysctls,
};

/// Runs a test in a namespace of its own with a veth pair `va` and `vb`.
fn in_a_namespace(test: impl FnOnce(&mut RouteSocket) + Send + 'static) {
    testing::in_a_namespace(move || {
        ip("link add va type veth peer name vb");
        test(&mut RouteSocket::open().unwrap());
    });
}

fn name(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

fn link(socket: &mut RouteSocket, text: &str) -> Link {
    socket.link_named(&name(text)).unwrap().unwrap()
}

#[test]
fn what_is_set_on_a_link_is_what_iproute2_sees() {
    in_a_namespace(|socket| {
        let index = link(socket, "va").index;
        let mac: MacAddress = "02:00:00:00:00:01".parse().unwrap();
        socket.set_mac(index, mac).unwrap();
        socket.set_mtu(index, 9000).unwrap();
        socket.set_alias(index, "an alias").unwrap();
        socket.add_altname(index, "a-long-alternative-name").unwrap();
        socket.rename(index, &name("rail0")).unwrap();
        socket.set_up(index, true).unwrap();
        ip("link set vb up");
        let seen = &ip_json("link show dev rail0")[0];
        assert_eq!(seen["address"], "02:00:00:00:00:01");
        assert_eq!(seen["mtu"], 9000);
        assert_eq!(seen["ifalias"], "an alias");
        assert_eq!(seen["altnames"][0], "a-long-alternative-name");
        let read = socket.link(index).unwrap().unwrap();
        assert_eq!(read.name, "rail0");
        assert_eq!(read.mac, Some(mac));
        assert_eq!(read.mtu, 9000);
        assert_eq!(read.alias.as_deref(), Some("an alias"));
        assert_eq!(read.altnames, ["a-long-alternative-name"]);
        assert_eq!((read.up, read.carrier, read.parent), (true, true, None));
        socket.remove_altname(index, "a-long-alternative-name").unwrap();
        socket.set_alias(index, "").unwrap();
        socket.set_up(index, false).unwrap();
        let read = socket.link(index).unwrap().unwrap();
        assert_eq!((read.alias, read.altnames, read.up), (None, vec![], false));
    });
}

#[test]
fn absent_links_are_none_and_refusals_carry_the_kernels_words() {
    in_a_namespace(|socket| {
        assert_eq!(socket.link_named(&name("absent")).unwrap(), None);
        assert_eq!(socket.link(4711).unwrap(), None);
        let error = socket.set_mtu(4711, 1500).unwrap_err();
        assert!(error.is_gone(), "{error}");
        let a = link(socket, "va").index;
        let error = socket.rename(a, &name("vb")).unwrap_err();
        assert!(error.is_already_there(), "{error}");
        assert!(error.to_string().contains("to vb"), "{error}");
        let error = socket.set_mtu(a, 3).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert!(
            error.to_string().contains("mtu"),
            "the kernel's text is missing: {error}"
        );
    });
}

#[test]
fn an_alternative_name_is_not_taken_for_a_name() {
    in_a_namespace(|socket| {
        ip("link property add dev va altname rail0");
        assert_eq!(socket.link_named(&name("rail0")).unwrap(), None);
    });
}

#[test]
fn a_link_moves_to_another_namespace_and_is_found_there() {
    in_a_namespace(|socket| {
        let target = another_namespace();
        assert_ne!(target.id(), Netns::current().unwrap().id());
        let a = link(socket, "va");
        socket.move_to(a.index, &target).unwrap();
        assert_eq!(socket.link_named(&name("va")).unwrap(), None);
        let mut inside = RouteSocket::open_in(&target).unwrap();
        let moved = inside
            .links()
            .unwrap()
            .into_iter()
            .find(|link| link.name == "va")
            .unwrap();
        assert_eq!(moved.mac, a.mac);
        // The socket goes on living in its namespace, whichever thread uses it.
        thread::spawn(move || assert!(inside.link_named(&name("vb")).unwrap().is_none()))
            .join()
            .unwrap();
    });
}

#[test]
fn addresses_routes_and_rules_are_made_seen_and_removed() {
    in_a_namespace(|socket| {
        let a = link(socket, "va").index;
        socket.set_up(a, true).unwrap();
        ip("link set vb up");
        for net in ["10.0.0.7/24", "fd00::7/64"] {
            let net = net.parse().unwrap();
            socket.add_address(a, net).unwrap();
            assert!(socket.add_address(a, net).unwrap_err().is_already_there());
        }
        let seen: Vec<String> = socket
            .addresses(a)
            .unwrap()
            .iter()
            .map(|address| address.net.to_string())
            .filter(|net| !net.starts_with("fe80"))
            .collect();
        assert_eq!(seen, ["10.0.0.7/24", "fd00::7/64"]);
        let b = link(socket, "vb").index;
        socket.add_address(b, "10.1.0.7/24".parse().unwrap()).unwrap();
        let all = socket.all_addresses().unwrap();
        let mut links: Vec<u32> = all.iter().filter(|a| a.net.addr().is_ipv4()).map(|a| a.link).collect();
        links.sort_unstable();
        let mut both = [a, b];
        both.sort_unstable();
        assert_eq!(links, both);

        let routes: Vec<Route> = [
            ("10.0.0.0/24", None, "10.0.0.7"),
            ("0.0.0.0/0", Some("10.0.0.1"), "10.0.0.7"),
            ("fd00::/64", None, "fd00::7"),
        ]
        .map(|(destination, gateway, source)| Route {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            source: Some(source.parse().unwrap()),
            link: a,
            table: 1000,
        })
        .to_vec();
        for route in &routes {
            socket.replace_route(route).unwrap();
            socket.replace_route(route).unwrap();
        }
        let read = socket.routes(1000).unwrap();
        assert_eq!(read.len(), 3, "{read:?}");
        for route in &routes {
            let same = |other: &Route| other.destination == route.destination && other.gateway == route.gateway;
            assert!(read.iter().any(same), "{route:?} is not in {read:?}");
        }
        assert!(ip("route show table 1000").contains("default via 10.0.0.1 dev va proto static src 10.0.0.7"));
        assert_eq!(socket.routes(4711).unwrap(), []);

        let rule = Rule::from_address("10.0.0.7".parse().unwrap(), 1000, 1003);
        socket.add_rule(&rule).unwrap();
        assert!(socket.add_rule(&rule).unwrap_err().is_already_there());
        assert_eq!(socket.rules().unwrap(), std::slice::from_ref(&rule));
        socket.remove_rule(&rule).unwrap();
        assert!(socket.remove_rule(&rule).unwrap_err().is_gone());

        socket.remove_route(&routes[1]).unwrap();
        assert!(socket.remove_route(&routes[1]).unwrap_err().is_gone());
        socket.remove_address(a, "10.0.0.7/24".parse().unwrap()).unwrap();
        assert!(
            socket
                .remove_address(a, "10.0.0.7/24".parse().unwrap())
                .unwrap_err()
                .is_gone()
        );
    });
}

#[test]
fn a_dump_of_many_links_is_complete() {
    in_a_namespace(|socket| {
        for number in 0..150 {
            ip(&format!("link add v{number} type veth peer name w{number}"));
        }
        // 150 pairs, the first pair and the loopback link; far more than one datagram holds.
        assert_eq!(socket.links().unwrap().len(), 303);
    });
}

#[test]
fn sysctls_of_an_interface_without_ipv6_are_passed_over() {
    in_a_namespace(|_| {
        let host = Netns::current().unwrap();
        // IPv6 needs an MTU of 1280 (RFC 8200, section 5); below it the kernel takes IPv6 off the interface.
        ip("link set va mtu 1000");
        write_interface_sysctls(&name("va"), &[(Ipv6("accept_ra"), "0"), (Ipv4("arp_ignore"), "1")]).unwrap();
        assert_eq!(
            read_interface_sysctl(&host, &name("va"), Ipv6("accept_ra")).unwrap(),
            None
        );
        assert_eq!(
            read_interface_sysctl(&host, &name("va"), Ipv4("arp_ignore"))
                .unwrap()
                .unwrap(),
            "1"
        );
        let error = write_interface_sysctls(&name("vb"), &[(Ipv6("absent"), "0")]).unwrap_err();
        assert!(error.to_string().contains("ipv6/conf/vb/absent"), "{error}");
    });
}

/// A sysfs that names `link` as the link of a PCI function.
fn sysfs_with(function: &str, link: &Link) -> (tempfile::TempDir, Sysfs) {
    let folder = tempfile::tempdir().unwrap();
    let net = folder
        .path()
        .join("bus/pci/devices")
        .join(function)
        .join("net")
        .join(&link.name);
    std::fs::create_dir_all(&net).unwrap();
    std::fs::write(net.join("ifindex"), format!("{}\n", link.index)).unwrap();
    let sysfs = Sysfs::new(folder.path());
    (folder, sysfs)
}

#[test]
fn a_function_is_found_among_links_that_come_and_go() {
    in_a_namespace(|socket| {
        for number in 0..200 {
            ip(&format!("link add v{number} type veth peer name w{number}"));
        }
        let wanted = link(socket, "va");
        let (_folder, sysfs) = sysfs_with("0000:18:00.3", &wanted);
        let host = Netns::current().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let churn: Vec<_> = (0..4)
                .map(|number| {
                    let (host, over) = (&host, &over);
                    scope.spawn(move || {
                        host.run(|| {
                            let mut rounds = 0_u32;
                            while !over.load(Ordering::Relaxed) {
                                ip(&format!("link add c{number} type veth peer name d{number}"));
                                ip(&format!("link del c{number}"));
                                rounds += 1;
                            }
                            rounds
                        })
                        .unwrap()
                    })
                })
                .collect();
            let function = "0000:18:00.3".parse().unwrap();
            let mut failed = Vec::new();
            for _ in 0..1000 {
                match socket.function_link(&sysfs, &function) {
                    Ok(found) => assert_eq!(found.map(|link| link.index), Some(wanted.index)),
                    Err(error) => failed.push(error.to_string()),
                }
                // As long as a dump of these links takes, so that the churn meets every look-up.
                thread::sleep(Duration::from_millis(1));
            }
            over.store(true, Ordering::Relaxed);
            let rounds: u32 = churn.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert!(rounds > 4, "nothing came or went meanwhile");
            assert_eq!(failed, Vec::<String>::new());
        });
    });
}

#[test]
fn a_link_that_sysfs_names_and_that_is_gone_or_another_is_no_functions_link() {
    in_a_namespace(|socket| {
        let function = "0000:18:00.3".parse().unwrap();
        let wanted = link(socket, "va");
        let (_folder, sysfs) = sysfs_with("0000:18:00.3", &wanted);
        assert_eq!(socket.function_link(&sysfs, &function).unwrap(), Some(wanted.clone()));
        // The number is another link's by now.
        socket.rename(wanted.index, &name("somebody")).unwrap();
        assert_eq!(socket.function_link(&sysfs, &function).unwrap(), None);
        ip("link del vb");
        assert_eq!(socket.function_link(&sysfs, &function).unwrap(), None);
        // A function that sysfs does not know is looked for among all links.
        assert_eq!(
            socket.function_link(&sysfs, &"0000:99:00.3".parse().unwrap()).unwrap(),
            None
        );
    });
}

#[test]
fn sysctls_are_those_of_the_namespace_and_not_of_the_host() {
    in_a_namespace(|socket| {
        let pod = another_namespace();
        let a = link(socket, "va").index;
        socket.move_to(a, &pod).unwrap();
        pod.run(|| write_interface_sysctls(&name("va"), &[(Ipv4("arp_ignore"), "1"), (Ipv4("rp_filter"), "2")]))
            .unwrap()
            .unwrap();
        assert_eq!(
            read_interface_sysctl(&pod, &name("va"), Ipv4("arp_ignore"))
                .unwrap()
                .unwrap(),
            "1"
        );
        let host = Netns::current().unwrap();
        assert_eq!(
            read_interface_sysctl(&host, &name("vb"), Ipv4("arp_ignore"))
                .unwrap()
                .unwrap(),
            "0"
        );
        let error = write_interface_sysctls(&name("va"), &[(Ipv4("arp_ignore"), "1")]).unwrap_err();
        assert!(error.to_string().contains("/conf/va/arp_ignore"), "{error}");
        let error = read_interface_sysctl(&host, &name("vb"), Ipv4("../../ip_forward")).unwrap_err();
        assert!(error.to_string().contains("not the name"), "{error}");
        pod.run(|| write_interface_sysctls(&name("va"), &[(Ipv6("accept_ra"), "0")]))
            .unwrap()
            .unwrap();
        assert_eq!(
            read_interface_sysctl(&pod, &name("va"), Ipv6("accept_ra"))
                .unwrap()
                .unwrap(),
            "0"
        );
        assert_eq!(
            read_interface_sysctl(&host, &name("vb"), Ipv6("accept_ra"))
                .unwrap()
                .unwrap(),
            "1"
        );
    });
}

#[test]
fn neighbours_learn_an_announced_address() {
    in_a_namespace(|socket| {
        let peer = another_namespace();
        let b = link(socket, "vb").index;
        socket.move_to(b, &peer).unwrap();
        peer.run(|| {
            ip("link set vb up");
            ip("addr add 10.0.0.1/24 dev vb");
        })
        .unwrap();
        peer.run(|| write_interface_sysctls(&name("vb"), &[(Ipv4("arp_accept"), "1")]))
            .unwrap()
            .unwrap();
        let a = link(socket, "va");
        ip("addr add 10.0.0.7/24 dev va");
        // The kernel announces an address by itself when the link comes up, if it is told to; here only we do.
        socket.set_up(a.index, true).unwrap();
        while !socket.link(a.index).unwrap().unwrap().carrier {
            thread::yield_now();
        }
        assert!(!peer.run(|| ip("neigh show")).unwrap().contains("10.0.0.7"));
        let start = std::time::Instant::now();
        socket.announce(a.index, "10.0.0.7".parse().unwrap()).unwrap();
        println!("announced in {:?}", start.elapsed());
        let learnt = (0..200).any(|_| {
            thread::sleep(std::time::Duration::from_millis(10));
            let neighbours = peer.run(|| ip("neigh show")).unwrap();
            neighbours.contains(&format!("10.0.0.7 dev vb lladdr {}", a.mac.unwrap()))
        });
        assert!(learnt, "{}", peer.run(|| ip("neigh show")).unwrap());
        let error = socket.announce(4711, "10.0.0.7".parse().unwrap()).unwrap_err();
        assert!(error.is_gone(), "{error}");
    });
}

#[test]
fn a_link_without_functions_says_so() {
    in_a_namespace(|socket| {
        let a = link(socket, "va").index;
        assert_eq!(socket.vfs(a).unwrap(), []);
        let wanted = VfSettings {
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 400,
            spoof_check: true,
            trust: false,
            link_state: None,
        };
        let error = socket.vf("va", a, 0).unwrap_err();
        assert!(matches!(error, VfError::NoSuchVf { vf: 0, .. }), "{error}");
        // EOPNOTSUPP and not EINVAL or ERANGE: the kernel accepted the encoding and the driver has no such operation.
        for knob in [
            VfKnob::Mac,
            VfKnob::Vlan,
            VfKnob::Rate,
            VfKnob::SpoofCheck,
            VfKnob::Trust,
        ] {
            let error = socket.set_vf("va", a, 0, knob, &wanted).unwrap_err();
            let VfError::Unsupported { source, .. } = error else {
                panic!("{knob:?}: {error}");
            };
            assert_eq!(source.errno(), Some(Errno::EOPNOTSUPP), "{knob:?}");
        }
    });
}

#[test]
fn a_namespace_that_is_gone_is_told_from_one_that_cannot_be_opened() {
    in_a_namespace(|_| {
        let folder = tempfile::tempdir().unwrap();
        assert!(Netns::open(folder.path().join("absent")).unwrap_err().is_gone());
        // What is left of /run/netns/<name> when the namespace is unmounted.
        let file = folder.path().join("left");
        std::fs::write(&file, "").unwrap();
        assert!(Netns::open(&file).unwrap().run(|| ()).unwrap_err().is_gone());
    });
}

#[test]
fn rdma_requests_work_or_name_the_missing_module() {
    in_a_namespace(|_| match RdmaSocket::open() {
        Ok(mut socket) => {
            socket.devices().unwrap();
            socket.netns_mode().unwrap();
        }
        Err(RdmaError::NoSubsystem) => {
            assert!(RdmaError::NoSubsystem.to_string().contains("ib_core"));
        }
        Err(error) => panic!("{error}"),
    });
}
