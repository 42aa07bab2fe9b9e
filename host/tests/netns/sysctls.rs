//! Sysctls of interfaces.

use railhead_host::{
    InterfaceSysctl::{Ipv4, Ipv6},
    Netns, read_interface_sysctl,
    testing::{another_namespace, ip},
    write_interface_sysctls,
};

use crate::{in_a_namespace, link, name};

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
