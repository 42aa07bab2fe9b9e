//! Devlink: what only it tells of a port (linux/devlink.h).

use nix::errno::Errno;

use crate::{
    PciAddress,
    generic::GenericSocket,
    netlink::{Attributes, NetlinkError},
};

/// `DEVLINK_GENL_NAME`.
const DEVLINK: &str = "devlink";
/// `DEVLINK_CMD_ESWITCH_GET`.
const ESWITCH_GET: u8 = 29;
/// `DEVLINK_ATTR_BUS_NAME`, `DEVLINK_ATTR_DEV_NAME`, `DEVLINK_ATTR_ESWITCH_MODE`.
const BUS_NAME: u16 = 1;
const DEV_NAME: u16 = 2;
const ESWITCH_MODE: u16 = 25;
/// `DEVLINK_ESWITCH_MODE_LEGACY`; the others are forms of switchdev.
const LEGACY: u16 = 0;

/// Who decides what a port does with the frames of its VFs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EswitchMode {
    /// The PF's settings of its VFs.
    Legacy,
    /// A switch in software, through representors.
    Switchdev,
    /// The host may not ask. mlx5 says so of a port whose eswitch belongs to the DPU that it is on (`mlx5_eswitch_check`,
    /// drivers/net/ethernet/mellanox/mlx5/core/eswitch.c). Some kernels answer EOPNOTSUPP there, as for a driver without
    /// eswitch; then the first setting of a VF is refused with EPERM (`mlx5_esw_allowed`).
    NotOurs,
}

/// A socket for devlink requests.
#[derive(Debug)]
pub struct DevlinkSocket {
    socket: GenericSocket,
}

impl DevlinkSocket {
    /// Opens a socket in the namespace of the calling thread; `None` where the kernel has no devlink.
    pub fn open() -> Result<Option<Self>, NetlinkError> {
        Ok(GenericSocket::open(DEVLINK)?.map(|socket| Self { socket }))
    }

    /// The mode of a port's eswitch; `None` where its driver has none to speak of.
    pub fn eswitch_mode(&mut self, port: &PciAddress) -> Result<Option<EswitchMode>, NetlinkError> {
        let request = format!("read the eswitch mode of {port}");
        mode(self.socket.get(&request, ESWITCH_GET, question(port)))
    }
}

/// What the kernel's answer says of a port.
fn mode(answer: Result<Attributes, NetlinkError>) -> Result<Option<EswitchMode>, NetlinkError> {
    match answer {
        Ok(answer) => Ok(eswitch_mode(&answer)),
        Err(error) if error.errno() == Some(Errno::EPERM) => Ok(Some(EswitchMode::NotOurs)),
        // No devlink device; no eswitch; mlx5 while it has no VFs.
        Err(error) if error.is_gone() || matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn question(port: &PciAddress) -> Attributes {
    Attributes::default()
        .with_text(BUS_NAME, "pci")
        .with_text(DEV_NAME, port.as_str())
}

/// The mode in an answer.
pub(crate) fn eswitch_mode(answer: &Attributes) -> Option<EswitchMode> {
    answer.u16(ESWITCH_MODE).map(|mode| match mode {
        LEGACY => EswitchMode::Legacy,
        _ => EswitchMode::Switchdev,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    /// Bus, device, mode switchdev; the layout of linux/netlink.h with the numbers of linux/devlink.h.
    #[test]
    fn an_answer_is_read_as_the_kernel_lays_it_out() {
        let mut answer = b"\x08\x00\x01\x00pci\0".to_vec();
        answer.extend(*b"\x11\x00\x02\x000000:18:00.0\0\0\0\0");
        answer.extend([6, 0, 25, 0, 1, 0, 0, 0]);
        let mode = |bytes: &[u8]| eswitch_mode(&Attributes::parse(bytes));
        assert_eq!(mode(&answer), Some(EswitchMode::Switchdev));
        assert_eq!(mode(&answer[..answer.len() - 8]), None, "no mode in it");
        assert_eq!(mode(&answer[..answer.len() - 6]), None, "cut off");
        let mut legacy = answer.clone();
        legacy[answer.len() - 4] = 0;
        assert_eq!(mode(&legacy), Some(EswitchMode::Legacy));
    }

    #[test]
    fn a_question_names_bus_and_device() {
        let question = question(&"0000:18:00.0".parse().unwrap());
        let mut bytes = vec![0; question.buffer_len()];
        question.emit(&mut bytes);
        assert_eq!(bytes, *b"\x08\x00\x01\x00pci\0\x11\x00\x02\x000000:18:00.0\0\0\0\0");
    }

    #[test]
    fn a_port_that_the_host_may_not_ask_for_is_told_from_one_without_eswitch() {
        let refused = |errno| {
            mode(Err(NetlinkError::Refused {
                request: "read the eswitch mode".to_owned(),
                errno,
                text: None,
            }))
        };
        assert_eq!(refused(Errno::EPERM).unwrap(), Some(EswitchMode::NotOurs));
        for errno in [Errno::ENODEV, Errno::EOPNOTSUPP, Errno::EINVAL] {
            assert_eq!(refused(errno).unwrap(), None, "{errno}");
        }
        assert!(refused(Errno::EBUSY).is_err(), "a driver that is busy has not answered");
    }

    /// This kernel, whatever it has.
    #[test]
    fn a_device_that_devlink_does_not_know_has_no_mode() {
        if let Some(mut devlink) = DevlinkSocket::open().unwrap() {
            let nobody = "ffff:ff:1f.7".parse().unwrap();
            let mode = devlink.eswitch_mode(&nobody);
            let root = nix::unistd::Uid::effective().is_root();
            assert!(matches!(mode, Ok(None)) || !root, "{mode:?}");
        }
    }
}
