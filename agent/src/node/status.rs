//! The NodeNetwork's status: pure.

use std::collections::BTreeSet;

use railhead_crds::{NodeNetworkStatus, NodePort, NodeSummary, PortHealth, PortVfs, reasons::Reason};
use railhead_host::PciAddress;

use crate::{
    conditions::Finding,
    inventory::{Census, FoundPort, FoundRdma, Inventory, Unfit},
};

/// Ports and summary.
pub(super) fn ports(inventory: &Inventory, taken: &BTreeSet<PciAddress>) -> NodeNetworkStatus {
    let ports: Vec<NodePort> = inventory
        .ports
        .iter()
        .map(|port| node_port(inventory, port, taken))
        .collect();
    let healthy = ports.iter().filter(|port| port.state == PortHealth::Healthy).count();
    let (used, total) = ports.iter().fold((0, 0), |(used, total), port| {
        (used + port.vfs.used, total + port.vfs.total)
    });
    NodeNetworkStatus {
        summary: Some(NodeSummary {
            rails: format!("{healthy}/{}", ports.len() + inventory.missing.len()),
            vfs: format!("{used}/{total}"),
        }),
        ports,
        ..NodeNetworkStatus::default()
    }
}

fn node_port(inventory: &Inventory, port: &FoundPort, taken: &BTreeSet<PciAddress>) -> NodePort {
    let used = port
        .functions
        .iter()
        .filter(|function| taken.contains(&function.pci_address))
        .count();
    let unfit = inventory.unfit(port, taken);
    let (state, message) = health(port, unfit.as_ref(), &Census::of(port, taken));
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    NodePort {
        rail: port.rail.id,
        pci_address: port.pci_address.to_string(),
        netdev: port.netdev.clone(),
        driver: port.driver.clone(),
        speed: port.speed,
        rdma_device: port.rdma_device.clone(),
        numa_node: port.numa_node,
        vfs: PortVfs {
            used: number(used),
            total: number(port.functions.len()),
        },
        state,
        message,
    }
}

fn health(port: &FoundPort, unfit: Option<&Unfit>, census: &Census<'_>) -> (PortHealth, Option<String>) {
    let name = port.title();
    let wanted = port.rail.vfs.min(port.total_functions);
    let found = port.functions.len();
    if !port.carrier {
        let message = format!("port {name} has no link; look at cable and switch port");
        return (PortHealth::Down, Some(message));
    }
    if found == 0 || u32::try_from(found).is_ok_and(|found| found < wanted) {
        let message = if found == 0 {
            format!(
                "port {name} has none of {wanted} functions; make them (sriov_numvfs) or set management.vfs: Managed on the Fabric"
            )
        } else {
            // Their number cannot change while one is in use, so that is for a person to do.
            format!(
                "port {name} has {found} of {wanted} functions; drain the node and write 0 and then {wanted} to its sriov_numvfs, or correct vfsPerPort"
            )
        };
        return (PortHealth::NoVfs, Some(message));
    }
    if let Some(unfit) = unfit {
        return (unfit.state(), Some(unfit.message(port)));
    }
    match (port.speed, port.rail.speed) {
        (Some(speed), Some(expected)) if speed < expected => {
            let message = format!("port {name} runs at {speed}, the fabric expects {expected}");
            (PortHealth::Slow, Some(message))
        }
        _ => (PortHealth::Healthy, census.message(port)),
    }
}

/// The condition on the node's RDMA subsystem, where the fabric's pods get RDMA devices.
pub(super) fn rdma(found: FoundRdma) -> Option<Finding> {
    const RDMA_READY: &str = "RdmaReady";
    if !found.wanted {
        return None;
    }
    Some(if found.exclusive {
        Finding::no(
            RDMA_READY,
            Reason::Exclusive,
            "each network namespace has RDMA devices of its own (netns mode exclusive), which this version does not wire: no pod is placed here; see the ports",
        )
    } else if found.connection_manager {
        Finding::yes(RDMA_READY, Reason::Shared, "")
    } else {
        Finding::no(
            RDMA_READY,
            Reason::NoConnectionManager,
            "there is no /dev/infiniband/rdma_cm: pods get their rails without it, and programs that connect by rdma_cm fail; run `modprobe rdma_ucm`, and name it in /etc/modules-load.d",
        )
    })
}

/// The Ready condition: the first thing that somebody has to look at.
pub(super) fn ready(
    inventory: &Inventory,
    status: &NodeNetworkStatus,
    problems: &[String],
    runtime: [&Finding; 2],
    registered: bool,
) -> Finding {
    let no = |reason, message: String| Finding::no("Ready", reason, message);
    if !inventory.missing.is_empty() {
        let messages: Vec<&str> = inventory.missing.iter().map(|port| port.message.as_str()).collect();
        return no(Reason::PortMissing, messages.join("; "));
    }
    if !problems.is_empty() {
        return no(Reason::FunctionsMissing, problems.join("; "));
    }
    for (state, reason) in [
        (PortHealth::NoVfs, Reason::FunctionsMissing),
        (PortHealth::RdmaExclusive, Reason::RdmaExclusive),
        (PortHealth::Switchdev, Reason::Switchdev),
        (PortHealth::DpuManaged, Reason::DpuManaged),
        (PortHealth::ForeignOwner, Reason::ForeignOwner),
        (PortHealth::VfsUnusable, Reason::VfsUnusable),
        (PortHealth::Down, Reason::PortDown),
        (PortHealth::SmallMtu, Reason::MtuTooSmall),
        (PortHealth::NoRdma, Reason::NoRdma),
        (PortHealth::Slow, Reason::PortSlow),
    ] {
        let messages: Vec<String> = status
            .ports
            .iter()
            .filter(|port| port.state == state)
            .filter_map(|port| port.message.clone())
            .collect();
        if !messages.is_empty() {
            return no(reason, messages.join("; "));
        }
    }
    if let Some(finding) = runtime.into_iter().find(|finding| !finding.holds) {
        return no(finding.reason, finding.message.clone());
    }
    if !registered {
        return no(
            Reason::NotRegistered,
            "kubelet has not registered the plugin yet".to_owned(),
        );
    }
    Finding::yes("Ready", Reason::Ready, format!("{} rails", status.ports.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inventory::MissingPort, publish::slice::tests::port};
    use railhead_crds::Bandwidth;

    fn inventory(ports: Vec<FoundPort>) -> Inventory {
        Inventory {
            fabric: "backend".to_owned(),
            ports,
            ..Inventory::default()
        }
    }

    fn reason(inventory: &Inventory, chained: &Finding, registered: bool) -> (bool, &'static str) {
        let status = ports(inventory, &BTreeSet::new());
        let cdi = Finding::yes("CdiReady", Reason::Read, "");
        let ready = ready(inventory, &status, &[], [chained, &cdi], registered);
        (ready.holds, ready.reason.name())
    }

    #[test]
    fn ready_names_the_first_thing_to_look_at() {
        let chained = Finding::yes("ChainReady", Reason::Loaded, "");
        let unchained = Finding::no("ChainReady", Reason::ChainOverwritten, "");
        let good = inventory(vec![port(true, Some(1000), 7)]);
        assert_eq!(reason(&good, &chained, true), (true, "Ready"));
        assert_eq!(reason(&good, &chained, false), (false, "NotRegistered"));
        assert_eq!(reason(&good, &unchained, true), (false, "ChainOverwritten"));
        let down = inventory(vec![port(false, Some(1000), 7)]);
        assert_eq!(reason(&down, &chained, true), (false, "PortDown"));
        let few = inventory(vec![port(true, Some(1000), 3)]);
        assert_eq!(reason(&few, &chained, true), (false, "FunctionsMissing"));
        let mut slow = port(true, Some(1000), 7);
        slow.rail.speed = Some(Bandwidth::from_mbps(10_000));
        assert_eq!(reason(&inventory(vec![slow]), &chained, true), (false, "PortSlow"));
        let mut small = inventory(vec![port(true, Some(1000), 7)]);
        small.mtu = 9216;
        assert_eq!(reason(&small, &chained, true), (false, "MtuTooSmall"));
        let mut switchdev = good.clone();
        switchdev.ports[0].eswitch = crate::inventory::Eswitch::Switchdev;
        assert_eq!(reason(&switchdev, &chained, true), (false, "Switchdev"));
        switchdev.ports[0].eswitch = crate::inventory::Eswitch::DpuManaged;
        assert_eq!(reason(&switchdev, &chained, true), (false, "DpuManaged"));
        let mut exclusive = good.clone();
        (exclusive.rdma.wanted, exclusive.rdma.exclusive) = (true, true);
        assert_eq!(reason(&exclusive, &chained, true), (false, "RdmaExclusive"));
        let mut driverless = good.clone();
        driverless.ports[0].functions[0].home = false;
        driverless.ports[0].functions[0].driver = None;
        assert_eq!(reason(&driverless, &chained, true), (false, "VfsUnusable"));
        let mut served = good.clone();
        served.ports[0].functions[0].foreign = Some("intel.com/sriov".to_owned());
        assert_eq!(reason(&served, &chained, true), (false, "ForeignOwner"));
        let mut bare = good.clone();
        bare.rdma_required = true;
        assert_eq!(reason(&bare, &chained, true), (false, "NoRdma"));
        let mut missing = good;
        missing.missing.push(MissingPort {
            rail: missing.ports[0].rail.clone(),
            message: "rail1: no port".to_owned(),
        });
        assert_eq!(reason(&missing, &chained, true), (false, "PortMissing"));
    }

    /// A host service that took one VF for itself is no fault, and still said.
    #[test]
    fn a_vf_that_the_host_uses_is_named_on_a_healthy_port() {
        let mut inventory = inventory(vec![port(true, Some(1000), 7)]);
        inventory.ports[0].functions[3].uppers = vec!["br0".to_owned()];
        let status = ports(&inventory, &BTreeSet::new());
        assert_eq!(status.ports[0].state, PortHealth::Healthy);
        let message = status.ports[0].message.as_deref().unwrap_or_default();
        assert!(message.contains("1 of 7 VFs are used by the host"), "{message}");
    }

    #[test]
    fn a_node_without_connection_manager_says_so_where_pods_get_rdma() {
        let found = |wanted, exclusive, connection_manager| {
            let found = FoundRdma {
                wanted,
                exclusive,
                connection_manager,
            };
            rdma(found).map(|finding| (finding.holds, finding.reason.name()))
        };
        assert_eq!(found(false, true, false), None);
        assert_eq!(found(true, false, true), Some((true, "Shared")));
        assert_eq!(found(true, false, false), Some((false, "NoConnectionManager")));
        assert_eq!(found(true, true, true), Some((false, "Exclusive")));
    }

    #[test]
    fn the_summary_counts_rails_and_functions() {
        let inventory = inventory(vec![port(true, Some(1000), 7)]);
        let taken = ["0000:02:10.0", "0000:09:10.0"].map(|vf| vf.parse().unwrap()).into();
        let summary = ports(&inventory, &taken).summary.unwrap();
        assert_eq!((summary.rails.as_str(), summary.vfs.as_str()), ("1/1", "1/7"));
    }
}
