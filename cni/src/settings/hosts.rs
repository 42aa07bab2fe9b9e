//! `hosts`: the addresses of all pods of the network on its rails, in the form of `/etc/hosts`. Index i of a network has the i-th
//! address of its block, on every node and before its pod exists, so a job needs nobody to look names up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Facts, lines::Lines};

/// Every pod of a node has such a file, in memory: as many lines are some 100 KiB, and 500 KiB with the longest
/// names and IPv6. What is left out can be computed.
const MOST_LINES: u32 = 4096;
/// More than names of networks and rails allow.
const LONGEST: usize = 511;

/// The content of the file.
pub(super) fn file(facts: &Facts) -> String {
    let plan = facts.plan;
    let mut lines = Lines::new(LONGEST);
    lines.comment(&format!(
        "Network {} of {}: its pods by index and rail, as they were {} when this pod was prepared.",
        plan.network.name, plan.pod.namespace, plan.pods
    ));
    let mut blocks = Vec::new();
    for rail in facts.rails {
        for address in &rail.addresses {
            // The address of index 0.
            let Some(first) = away(address.addr(), plan.index, 0) else {
                continue;
            };
            lines.comment(&format!("{}: index i has {first} + i", rail.name));
            blocks.push((&rail.name, first));
        }
    }
    let mut room = MOST_LINES;
    for (rail, first) in blocks {
        if plan.pods > room {
            lines.comment(&format!(
                "{rail} is not listed: the list has at most {MOST_LINES} lines"
            ));
            continue;
        }
        room -= plan.pods;
        for index in 0..plan.pods {
            let Some(address) = away(first, 0, index) else {
                break;
            };
            lines.host(address, &format!("{}-{index}-{rail}", plan.network.name));
        }
    }
    lines.finish()
}

/// The address so many before and then behind this one.
fn away(address: IpAddr, before: u32, behind: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let number = u32::from(address).checked_sub(before)?.checked_add(behind)?;
            Some(Ipv4Addr::from(number).into())
        }
        IpAddr::V6(address) => {
            let number = u128::from(address).checked_sub(before.into())?;
            Some(Ipv6Addr::from(number.checked_add(behind.into())?).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::samples::{plan, rail};

    #[test]
    fn every_index_has_a_name_on_every_rail() {
        let plan = plan();
        let text = file(&Facts::of(&plan, &[rail(0, None), rail(1, None)]));
        assert_eq!(
            text,
            "# Network train of ml: its pods by index and rail, as they were 2 when this pod was prepared.\n\
             # rail0: index i has 10.0.64.0 + i\n\
             # rail1: index i has 10.1.64.0 + i\n\
             10.0.64.0\ttrain-0-rail0\n\
             10.0.64.1\ttrain-1-rail0\n\
             10.1.64.0\ttrain-0-rail1\n\
             10.1.64.1\ttrain-1-rail1\n"
        );
    }

    #[test]
    fn a_large_network_has_whole_rails_as_far_as_they_go_and_the_rule_for_all() {
        let listed = |pods: u32, rails: u32| {
            let mut plan = plan();
            plan.pods = pods;
            let rails: Vec<_> = (0..rails).map(|at| rail(at, None)).collect();
            let text = file(&Facts::of(&plan, &rails));
            let rules = text.lines().filter(|line| line.ends_with(" + i")).count();
            let left_out = text.lines().filter(|line| line.contains("is not listed")).count();
            let hosts = text.lines().filter(|line| !line.starts_with('#')).count();
            assert!(text.len() < 200_000, "{} bytes", text.len());
            (rules, hosts, left_out)
        };
        assert_eq!(listed(512, 8), (8, 4096, 0));
        assert_eq!(listed(1000, 8), (8, 4000, 4));
        assert_eq!(listed(16_384, 8), (8, 0, 8));
        assert_eq!(listed(65_536, 16), (16, 0, 16));
    }

    /// 57 bytes is the longest name of a network, 15 that of an interface.
    #[test]
    fn the_list_is_no_larger_than_is_said_with_the_longest_names() {
        let mut plan = plan();
        plan.network.name = "n".repeat(57);
        (plan.pods, plan.index) = (4096, 4095);
        let mut rail = rail(0, None);
        rail.name = "r".repeat(15).parse().unwrap();
        rail.addresses = vec!["fd00:1111:2222:3333:4444:5555:6666:ffff/64".parse().unwrap()];
        let text = file(&Facts::of(&plan, &[rail]));
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 4096);
        assert!((400_000..500 << 10).contains(&text.len()), "{} bytes", text.len());
    }

    #[test]
    fn addresses_end_where_their_family_ends() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(away(address("0.0.0.1"), 2, 0), None);
        assert_eq!(away(address("255.255.255.255"), 0, 1), None);
        assert_eq!(away(address("fd00::1:0"), 1, 0), Some(address("fd00::ffff")));
        assert_eq!(away(address("::"), 1, 0), None);
        assert_eq!(away(address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 0, 1), None);
    }

    #[test]
    fn no_name_becomes_two() {
        let mut plan = plan();
        plan.network.name = "a\n10.0.0.1 kubernetes".to_owned();
        let text = file(&Facts::of(&plan, &[rail(0, None)]));
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    }
}
