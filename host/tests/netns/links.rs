//! Links: made, changed, moved and listed.

use std::thread;

use railhead_host::{
    Errno, MacAddress, Netns, RouteSocket,
    testing::{another_namespace, ip, ip_json},
};

use crate::{in_a_namespace, link, name};

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
fn a_dump_of_many_links_is_complete() {
    in_a_namespace(|socket| {
        for number in 0..150 {
            ip(&format!("link add v{number} type veth peer name w{number}"));
        }
        // 150 pairs, the first pair and the loopback link; far more than one datagram holds.
        assert_eq!(socket.links().unwrap().len(), 303);
    });
}
