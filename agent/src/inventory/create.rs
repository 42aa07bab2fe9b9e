//! Makes functions where the fabric says that Railhead manages them and a port has none.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use railhead_host::{NetlinkError, PciAddress, SysfsError};
use railhead_vf::{Host, HostError, Originals, OriginalsError, PortOriginal, PortSet};
use thiserror::Error;

use super::{FoundFunction, FoundPort};

/// How long a driver may take to bring up the interfaces of new functions.
const APPEAR: Duration = Duration::from_secs(20);

/// Why a port's functions could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The port could not be changed over netlink.
    #[error("port {port}: {source}")]
    Link {
        /// PCI address.
        port: PciAddress,
        /// What happened.
        #[source]
        source: NetlinkError,
    },
    /// The port or a function could not be read.
    #[error("port {port}: {source}")]
    Host {
        /// PCI address.
        port: PciAddress,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The kernel refused the functions.
    #[error("port {port}: make {count} functions: {source}; is SR-IOV enabled in the firmware (pci=realloc, IOMMU)?")]
    Refused {
        /// PCI address.
        port: PciAddress,
        /// How many.
        count: u32,
        /// What happened.
        #[source]
        source: SysfsError,
    },
    /// The record of the original state failed; nothing was changed.
    #[error("port {port}: {source}")]
    Record {
        /// PCI address.
        port: PciAddress,
        /// What happened.
        #[source]
        source: Box<OriginalsError>,
    },
    /// Functions exist but have no interface.
    #[error(
        "port {port}: function {function} has no interface {} s after it was made; is its driver installed?", APPEAR.as_secs()
    )]
    NoInterface {
        /// PCI address.
        port: PciAddress,
        /// PCI address of the function.
        function: PciAddress,
    },
}

/// Brings `port` up with at least `mtu` and makes its functions if it has none. Returns whether functions were made.
///
/// The port goes up before its functions exist: one that came up while its port was down may stay without a signal for
/// ever (igbvf).
pub fn create_functions(
    host: &mut Host,
    originals: &Originals,
    port: &FoundPort,
    mtu: u32,
) -> Result<bool, CreateError> {
    let address = &port.pci_address;
    let host_error = |source| CreateError::Host {
        port: address.clone(),
        source: Box::new(source),
    };
    let link_error = |source| CreateError::Link {
        port: address.clone(),
        source,
    };
    let record_error = |source| CreateError::Record {
        port: address.clone(),
        source: Box::new(source),
    };
    let Some(link) = host.route.function_link(&host.sysfs, address).map_err(link_error)? else {
        return Err(host_error(HostError::NoPfLink { pf: address.clone() }));
    };
    let count = port.rail.vfs.min(port.total_functions);
    let make = port.functions.is_empty() && count > 0;
    if make || !link.up || link.mtu < mtu {
        let original = PortOriginal {
            version: 0,
            boot_id: String::new(),
            pci_address: address.clone(),
            vfs: u32::try_from(port.functions.len()).unwrap_or(u32::MAX),
            mtu: link.mtu,
            up: link.up,
            set: Some(PortSet {
                mtu: (link.mtu < mtu).then_some(mtu),
                up: !link.up,
            }),
        };
        originals.record_port(original).map_err(record_error)?;
    }
    if link.mtu < mtu {
        host.route.set_mtu(link.index, mtu).map_err(link_error)?;
    }
    if !link.up {
        host.route.set_up(link.index, true).map_err(link_error)?;
    }
    if !make {
        return Ok(false);
    }
    host.sysfs
        .set_num_vfs(address, count)
        .map_err(|source| CreateError::Refused {
            port: address.clone(),
            count,
            source,
        })?;
    record_new(host, originals, address, record_error)?;
    tracing::info!(port = %address, count, "made virtual functions");
    Ok(true)
}

/// Has the driver core find drivers for VFs that have none and that no plan names. A fabric that Railhead manages the VFs of
/// wants them usable, whatever left them without: a port whose VFs are not probed, a driver that was loaded later.
pub fn probe_driverless(host: &Host, port: &FoundPort, taken: &BTreeSet<PciAddress>) {
    let driverless = |vf: &&FoundFunction| vf.driver.is_none() && !vf.home && !taken.contains(&vf.pci_address);
    for vf in port.functions.iter().filter(driverless) {
        match railhead_vf::probe(host, &vf.pci_address, &port.pci_address) {
            Ok(true) => {
                tracing::info!(port = %port.pci_address, vf = %vf.pci_address, "a VF had no driver and got one");
            }
            // The port's state says that it has none.
            Ok(false) => {}
            Err(error) => tracing::debug!(vf = %vf.pci_address, %error, "no driver took a VF"),
        }
    }
}

/// Waits for every new function's interface and records its state.
fn record_new(
    host: &mut Host,
    originals: &Originals,
    port: &PciAddress,
    record_error: impl Fn(OriginalsError) -> CreateError,
) -> Result<(), CreateError> {
    let start = Instant::now();
    let functions = host.sysfs.virtual_functions(port).map_err(|source| CreateError::Host {
        port: port.clone(),
        source: Box::new(source.into()),
    })?;
    for function in functions {
        let patience = APPEAR.saturating_sub(start.elapsed());
        originals.forget_vf(&function.address).map_err(&record_error)?;
        originals
            .record_vf(host, &function.address, port, function.index, patience)
            .map_err(|source| match &source {
                OriginalsError::Observe { source: why, .. } if matches!(**why, HostError::NotHome { .. }) => {
                    CreateError::NoInterface {
                        port: port.clone(),
                        function: function.address.clone(),
                    }
                }
                _ => record_error(source),
            })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::publish::slice::tests::port;

    #[test]
    fn only_vfs_without_driver_that_no_pod_has_are_probed() {
        let root = tempfile::tempdir().unwrap();
        let layout = railhead_plan::Layout::under(root.path());
        let probed = layout.sysfs().join("bus/pci/drivers_probe");
        fs::create_dir_all(probed.parent().unwrap()).unwrap();
        let host = Host::open(&layout).unwrap();
        let mut port = port(true, Some(1000), 2);
        let probe = |port: &FoundPort, taken: &BTreeSet<PciAddress>| {
            fs::write(&probed, "").unwrap();
            probe_driverless(&host, port, taken);
            fs::read_to_string(&probed).unwrap()
        };
        assert_eq!(probe(&port, &BTreeSet::new()), "");
        for function in &mut port.functions {
            (function.home, function.driver) = (false, None);
        }
        let taken = BTreeSet::from([port.functions[1].pci_address.clone()]);
        assert_eq!(probe(&port, &taken), "0000:02:10.0");
        port.functions[0].driver = Some("vfio-pci".to_owned());
        assert_eq!(probe(&port, &taken), "");
    }
}
