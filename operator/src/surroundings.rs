//! Who else in the cluster has IPv4 addresses: Services, pods on the cluster's own network, nodes. A pool that overlaps with any of
//! them would take their traffic: in a pod with rails its addresses are on the rail's link.
//!
//! Looking costs as much as the cluster is large, so the router looks when nodes or Service ranges have changed, and whoever plans
//! asks here. What the cluster network gives to pods is known where it is in Nodes (`spec.podCIDRs`) only.

use std::{
    net::Ipv4Addr,
    sync::{Arc, PoisonError, RwLock},
};

use ipnet::Ipv4Net;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::{ResourceExt as _, runtime::reflector::Store};

use crate::known::Node;

const ADVICE: &str = "pods with rails could not reach what is there; choose addresses that nothing in the cluster has";

/// What was seen last.
#[derive(Clone, Default)]
pub(crate) struct Surroundings(Arc<RwLock<Arc<Ranges>>>);

/// Addresses that somebody has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u32,
    last: u32,
    whose: String,
}

/// By first address; beside each the last address of all up to it.
#[derive(Debug, Default)]
struct Ranges(Vec<(Range, u32)>);

impl Surroundings {
    /// Looks at the cluster again.
    pub(crate) fn look(&self, services: &Store<ServiceCIDR>, nodes: &Store<Node>) {
        let mut all = Vec::new();
        for service in services.state() {
            let cidrs = service.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
            all.extend(cidrs.into_iter().flatten().filter_map(|cidr| {
                range(cidr, || {
                    format!("the Service range {cidr} (ServiceCIDR {})", service.name_any())
                })
            }));
        }
        for node in nodes.state() {
            let spec = node.spec.as_ref();
            let several = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
            let one = spec
                .and_then(|spec| spec.pod_cidr.as_ref())
                .filter(|_| several.is_empty());
            all.extend(
                several
                    .iter()
                    .chain(one)
                    .filter_map(|cidr| range(cidr, || format!("the pods' range {cidr} of node {}", node.name_any()))),
            );
            let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
            all.extend(addresses.filter_map(|address| {
                let text = &address.address;
                range(&format!("{text}/32"), || {
                    format!("address {text} of node {}", node.name_any())
                })
            }));
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Ranges::of(all));
    }

    /// Whose addresses a pool has too, and what to do.
    pub(crate) fn meets(&self, pool: Ipv4Net) -> Option<(String, &'static str)> {
        let ranges = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        ranges.meets(pool).map(|whose| (whose.to_owned(), ADVICE))
    }
}

fn range(cidr: &str, whose: impl FnOnce() -> String) -> Option<Range> {
    let net: Ipv4Net = cidr.parse().ok()?;
    Some(Range {
        first: net.network().into(),
        last: net.broadcast().into(),
        whose: whose(),
    })
}

impl Ranges {
    fn of(mut all: Vec<Range>) -> Self {
        all.sort_unstable();
        let mut reach = u32::from(Ipv4Addr::UNSPECIFIED);
        let with_reach = all.into_iter().map(|range| {
            reach = reach.max(range.last);
            (range, reach)
        });
        Self(with_reach.collect())
    }

    /// The first of them that has an address of the pool.
    fn meets(&self, pool: Ipv4Net) -> Option<&str> {
        let (first, last) = (u32::from(pool.network()), u32::from(pool.broadcast()));
        let begin_before_its_end = self.0.partition_point(|(range, _)| range.first <= last);
        let mut found = None;
        for (range, reach) in self.0[..begin_before_its_end].iter().rev() {
            if *reach < first {
                break;
            }
            if range.last >= first {
                found = Some(range.whose.as_str());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store, watcher::Event};
    use serde_json::json;

    use super::*;

    #[test]
    fn pools_are_compared_with_service_ranges_pod_ranges_and_addresses_of_nodes() {
        let (services, mut services_in) = store();
        let service = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "fd00::/108"]}});
        services_in.apply_watcher_event(&Event::Apply(serde_json::from_value(service).unwrap()));
        let (nodes, mut nodes_in) = store();
        for number in 1..4 {
            let node = json!({
                "metadata": {"name": format!("node{number}")},
                "spec": {"podCIDR": format!("10.244.{number}.0/24"), "podCIDRs": [format!("10.244.{number}.0/24")]},
                "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.7.{number}")},
                    {"type": "Hostname", "address": format!("node{number}")}]},
            });
            nodes_in.apply_watcher_event(&Event::Apply(serde_json::from_value(node).unwrap()));
        }
        let around = Surroundings::default();
        around.look(&services, &nodes);
        let of = |pool: &str| around.meets(pool.parse().unwrap()).map(|(whose, _)| whose);
        assert_eq!(of("10.0.0.0/16"), None);
        assert_eq!(
            of("10.96.128.0/24").unwrap(),
            "the Service range 10.96.0.0/12 (ServiceCIDR kubernetes)"
        );
        assert_eq!(
            of("10.100.0.0/16").unwrap(),
            "the Service range 10.96.0.0/12 (ServiceCIDR kubernetes)"
        );
        assert_eq!(
            of("10.244.2.128/25").unwrap(),
            "the pods' range 10.244.2.0/24 of node node2"
        );
        assert_eq!(of("10.244.4.0/24"), None);
        assert_eq!(of("192.168.0.0/16").unwrap(), "address 192.168.7.1 of node node1");
        assert_eq!(of("192.168.7.128/25"), None);
    }

    #[test]
    fn a_range_that_begins_long_before_a_pool_is_found_behind_others() {
        let range = |text: &str| range(text, || text.to_owned()).unwrap();
        let ranges = Ranges::of(["10.0.0.0/8", "10.1.0.0/24", "10.2.0.0/24"].map(range).to_vec());
        assert_eq!(ranges.meets("10.3.0.0/24".parse().unwrap()), Some("10.0.0.0/8"));
        assert_eq!(ranges.meets("11.0.0.0/24".parse().unwrap()), None);
    }
}
