//! Addresses, routes and rules, and what neighbours learn of them.

use std::thread;

use railhead_host::{
    InterfaceSysctl::Ipv4,
    Route, Rule,
    testing::{another_namespace, ip},
    write_interface_sysctls,
};

use crate::{in_a_namespace, link, name};

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
