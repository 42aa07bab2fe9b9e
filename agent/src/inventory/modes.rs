//! In which mode the node's RDMA subsystem and the ports' eswitches are; sysfs does not tell.

use railhead_host::{DevlinkSocket, EswitchMode, NetnsMode, RdmaSocket};

use super::{Eswitch, FoundPort, Inventory};

/// Asks the kernel. What it does not tell counts as usual.
pub fn mark_modes(inventory: &mut Inventory) {
    // A kernel without RDMA gives no namespace any device.
    let mode = RdmaSocket::open().and_then(|mut socket| socket.netns_mode());
    inventory.rdma.exclusive = mode.is_ok_and(|mode| mode == NetnsMode::Exclusive);
    let mut devlink = match DevlinkSocket::open() {
        Ok(Some(devlink)) => devlink,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "the modes of the ports' eswitches are not known");
            return;
        }
    };
    for port in &mut inventory.ports {
        match devlink.eswitch_mode(&port.pci_address) {
            Ok(mode) => port.eswitch = eswitch(port, mode),
            Err(error) => tracing::warn!(port = %port.pci_address, %error, "the mode of a port's eswitch is not known"),
        }
    }
}

fn eswitch(port: &FoundPort, mode: Option<EswitchMode>) -> Eswitch {
    match mode {
        Some(EswitchMode::Switchdev) => Eswitch::Switchdev,
        // Other drivers' refusals say nothing of a DPU.
        Some(EswitchMode::NotOurs) if port.driver == "mlx5_core" => Eswitch::DpuManaged,
        _ => Eswitch::Legacy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::slice::tests::port;

    #[test]
    fn only_mlx5_tells_of_a_dpu_and_a_driver_without_eswitch_is_legacy() {
        let mut port = port(true, Some(1000), 2);
        assert_eq!(eswitch(&port, None), Eswitch::Legacy);
        assert_eq!(eswitch(&port, Some(EswitchMode::Legacy)), Eswitch::Legacy);
        assert_eq!(eswitch(&port, Some(EswitchMode::Switchdev)), Eswitch::Switchdev);
        assert_eq!(eswitch(&port, Some(EswitchMode::NotOurs)), Eswitch::Legacy);
        port.driver = "mlx5_core".to_owned();
        assert_eq!(eswitch(&port, Some(EswitchMode::NotOurs)), Eswitch::DpuManaged);
    }
}
