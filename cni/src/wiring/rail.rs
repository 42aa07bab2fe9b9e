//! A rail of the plan, with the checks that types cannot make, and the routes and rules that it wants.

use std::net::IpAddr;

use ipnet::IpNet;
use railhead_host::{InterfaceName, MacAddress, PciAddress, RdmaName, Route, Rule, VfSettings};
use railhead_plan::{AttachmentPlan, RailPlan, RdmaPlan};
use railhead_vf::pf_settings;
use thiserror::Error;

/// The priority of a rail's rules is this plus the rail's id (docs: rail details).
const RULE_PRIORITY: u32 = 1000;

/// A plan that the agent should not have written.
#[derive(Debug, Error)]
#[error("rail {rail} of the attachment plan: {reason}")]
pub(crate) struct InvalidPlan {
    pub(crate) rail: u32,
    pub(crate) reason: String,
}

/// One rail, checked.
#[derive(Clone, Debug)]
pub(crate) struct Rail {
    pub(crate) id: u32,
    pub(crate) name: InterfaceName,
    pub(crate) vf: PciAddress,
    pub(crate) pf: PciAddress,
    pub(crate) vf_index: u32,
    pub(crate) pf_settings: VfSettings,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: u32,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) on_link: Vec<IpNet>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) table: u32,
    pub(crate) rdma: RailRdma,
}

/// The RDMA device of a rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RailRdma {
    None,
    Function(RdmaName),
    Soft(RdmaName),
}

impl Rail {
    /// Checks all rails of a plan, alone and against each other.
    pub(crate) fn all(plan: &AttachmentPlan) -> Result<Vec<Self>, InvalidPlan> {
        let rails = plan.rails.iter().map(Self::check).collect::<Result<Vec<_>, _>>()?;
        for (place, rail) in rails.iter().enumerate() {
            for other in &rails[..place] {
                let clash = [
                    (rail.id == other.id, "id"),
                    (rail.name == other.name, "interface name"),
                    (rail.vf == other.vf, "function"),
                    (rail.table == other.table, "routing table"),
                ];
                if let Some((_, what)) = clash.iter().find(|(same, _)| *same) {
                    return Err(InvalidPlan {
                        rail: rail.id,
                        reason: format!("it has the same {what} as rail {}", other.id),
                    });
                }
            }
        }
        Ok(rails)
    }

    fn check(plan: &RailPlan) -> Result<Self, InvalidPlan> {
        let invalid = |reason: String| InvalidPlan {
            rail: plan.rail,
            reason,
        };
        // RT_TABLE_COMPAT, DEFAULT, MAIN, LOCAL (linux/rtnetlink.h) belong to the kernel and the pod's cluster network.
        if plan.table == 0 || (252..=255).contains(&plan.table) {
            return Err(invalid(format!("routing table {} is reserved", plan.table)));
        }
        if plan.addresses.is_empty() {
            return Err(invalid("it has no address".to_owned()));
        }
        let rdma = match &plan.rdma {
            RdmaPlan::None => RailRdma::None,
            RdmaPlan::Function { device } => RailRdma::Function(device.clone()),
            RdmaPlan::Soft { device } => RailRdma::Soft(device.clone()),
            _ => return Err(invalid(
                "it wants an RDMA device of a kind that this release does not know; finish the upgrade of this node"
                    .to_owned(),
            )),
        };
        Ok(Self {
            id: plan.rail,
            name: plan.name.clone(),
            vf: plan.vf.pci_address.clone(),
            pf: plan.vf.pf_pci_address.clone(),
            vf_index: plan.vf.index,
            pf_settings: pf_settings(plan),
            mac: plan.mac,
            mtu: plan.mtu,
            addresses: plan.addresses.clone(),
            on_link: plan.on_link.iter().map(IpNet::trunc).collect(),
            gateway: plan.gateway,
            table: plan.table,
            rdma,
        })
    }

    /// One rule per address: its traffic leaves by this rail.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.addresses
            .iter()
            .map(|address| Rule::from_address(address.addr(), self.table, RULE_PRIORITY + self.id))
            .collect()
    }

    /// The routes that the kernel does not make itself, in an order in which each gateway can be reached.
    pub(crate) fn routes(&self, link: u32) -> Vec<Route> {
        let source_of = |net: &IpNet| {
            self.addresses
                .iter()
                .map(IpNet::addr)
                .find(|address| address.is_ipv4() == net.addr().is_ipv4())
        };
        let on_link = |destination: IpNet, table: u32| Route {
            source: source_of(&destination),
            destination,
            gateway: None,
            link,
            table,
        };
        let mut routes: Vec<Route> = self
            .on_link
            .iter()
            .map(|net| on_link(*net, Route::MAIN_TABLE))
            .collect();
        routes.extend(self.on_link.iter().map(|net| on_link(*net, self.table)));
        // The main table got the prefixes of the addresses from the kernel; a host prefix implies none.
        routes.extend(
            self.addresses
                .iter()
                .filter(|address| address.prefix_len() < address.max_prefix_len())
                .map(|address| on_link(address.trunc(), self.table)),
        );
        routes.extend(self.gateway.map(|gateway| {
            let destination = match gateway {
                IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
                IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
            };
            Route {
                source: source_of(&destination),
                destination,
                gateway: Some(gateway),
                link,
                table: self.table,
            }
        }));
        routes
    }
}

#[cfg(test)]
mod tests {
    use railhead_plan::VfPlan;

    use super::*;

    fn rail_plan() -> RailPlan {
        RailPlan {
            rail: 3,
            name: "rail3".parse().unwrap(),
            vf: VfPlan {
                pci_address: "0000:18:00.3".parse().unwrap(),
                pf_pci_address: "0000:18:00.0".parse().unwrap(),
                index: 2,
                vlan: None,
                max_rate_mbps: 0,
                min_rate_mbps: 0,
                spoof_check: true,
                trust: false,
            },
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: 9000,
            addresses: vec!["10.0.3.7/24".parse().unwrap()],
            on_link: vec![],
            gateway: None,
            table: 1003,
            rdma: RdmaPlan::None,
        }
    }

    #[test]
    fn a_rail_with_a_gateway_routes_its_prefix_and_then_everything() {
        let mut plan = rail_plan();
        plan.gateway = Some("10.0.3.1".parse().unwrap());
        let rail = Rail::check(&plan).unwrap();
        let routes = rail.routes(9);
        let shown: Vec<(String, Option<IpAddr>, u32)> = routes
            .iter()
            .map(|route| (route.destination.to_string(), route.gateway, route.table))
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.3.0/24".to_owned(), None, 1003),
                ("0.0.0.0/0".to_owned(), plan.gateway, 1003)
            ]
        );
        assert!(
            routes
                .iter()
                .all(|route| route.source == Some("10.0.3.7".parse().unwrap()))
        );
        assert_eq!(rail.rules()[0].priority, 1003);
    }

    #[test]
    fn a_host_address_reaches_its_pool_by_a_link_route_in_both_tables() {
        let mut plan = rail_plan();
        plan.addresses = vec!["10.0.3.255/32".parse().unwrap()];
        plan.on_link = vec!["10.0.3.0/24".parse().unwrap()];
        let tables: Vec<u32> = Rail::check(&plan)
            .unwrap()
            .routes(9)
            .iter()
            .map(|route| route.table)
            .collect();
        assert_eq!(tables, [Route::MAIN_TABLE, 1003]);
    }

    #[test]
    fn a_rail_in_a_reserved_table_or_without_address_is_refused() {
        let broken: [fn(&mut RailPlan); 3] = [
            |plan| plan.table = 0,
            |plan| plan.table = 254,
            |plan| plan.addresses.clear(),
        ];
        for change in broken {
            let mut plan = rail_plan();
            change(&mut plan);
            let error = Rail::check(&plan).unwrap_err();
            assert!(error.to_string().starts_with("rail 3"), "{error}");
        }
    }
}
