//! A VF and its driver: bound again where a driver takes something over only then, and where a bind was cut off.

use std::{
    io::{self, ErrorKind},
    thread,
    time::{Duration, Instant},
};

use railhead_host::{Errno, PciAddress, Sysfs, SysfsError};

use crate::{Host, HostError, POLL, autoprobe};

/// How long a driver may be busy with an earlier bind or with a reset of the VF.
const BUSY: Duration = Duration::from_secs(10);
/// How long a driver may take to bring a VF's interface, and its RDMA device, back.
const BACK: Duration = Duration::from_secs(10);

/// Gives a VF that has no driver one: `recorded`, the one that it had when it was found, else whichever claims it. A process
/// that was killed between unbind and bind leaves a VF so; whoever comes next goes on from there.
pub(crate) fn ensure(
    host: &mut Host,
    vf: &PciAddress,
    pf: &PciAddress,
    recorded: Option<&str>,
) -> Result<(), HostError> {
    let lacks_driver = host.sysfs.exists(vf) && host.sysfs.driver(vf).is_none();
    if !lacks_driver || host.route.function_link(&host.sysfs, vf)?.is_some() {
        return Ok(());
    }
    tracing::warn!(%vf, driver = recorded, "a VF has no driver; it is bound again");
    bind(host, vf, pf, recorded)
}

/// Takes a VF from its driver and gives it back: some take a MAC address that the PF set only then (igbvf), and mlx5 reads the
/// VF's node GUID only then. Waits for its interface, and for its RDMA device if it had one.
pub(crate) fn rebind(
    host: &mut Host,
    vf: &PciAddress,
    pf: &PciAddress,
    recorded: Option<&str>,
) -> Result<(), HostError> {
    let had_rdma = !host.sysfs.rdma_devices(vf)?.is_empty();
    let driver = host.sysfs.driver(vf);
    if driver.is_some() {
        until_not_busy(BUSY, || host.sysfs.unbind(vf)).map_err(|source| error(vf, source))?;
    }
    bind_again(host, vf, pf, driver.as_deref().or(recorded), had_rdma)
}

/// Gives a VF that was taken from its driver back to it. Waits for its interface, and for its RDMA device if it had one.
pub(crate) fn bind_again(
    host: &mut Host,
    vf: &PciAddress,
    pf: &PciAddress,
    driver: Option<&str>,
    had_rdma: bool,
) -> Result<(), HostError> {
    until(|| host.sysfs.driver(vf).is_none());
    bind(host, vf, pf, driver)?;
    host.vf(vf, BACK)?;
    if had_rdma {
        wait_for_rdma(&host.sysfs, vf)?;
    }
    Ok(())
}

/// Has the driver core find a driver for a VF that has none, also where the port leaves its VFs alone. Returns whether one
/// took it.
pub fn probe(host: &Host, vf: &PciAddress, pf: &PciAddress) -> Result<bool, HostError> {
    let probe = || host.sysfs.bind(vf, None).map_err(|source| error(vf, source));
    autoprobe::while_on(host, pf, probe)?;
    Ok(host.sysfs.driver(vf).is_some())
}

/// Whether a VF has an RDMA device that has no node GUID: mlx5 makes it of the administrative MAC address, warns that "RDMA_CM
/// will not function properly for this VF" where it cannot (`mlx5_esw_set_vport_mac_locked`,
/// drivers/net/ethernet/mellanox/mlx5/core/eswitch.c, 6.18), and mlx5_ib reads it once, when it is probed.
pub(crate) fn lacks_node_guid(sysfs: &Sysfs, vf: &PciAddress) -> Result<bool, HostError> {
    Ok(sysfs.rdma_node_guids(vf)?.iter().any(|guid| is_zero(guid)))
}

/// As sysfs writes it, `0000:0000:0000:0000` (`node_guid_show`, drivers/infiniband/core/sysfs.c).
fn is_zero(guid: &str) -> bool {
    guid.bytes().all(|byte| byte == b'0' || byte == b':')
}

fn bind(host: &Host, vf: &PciAddress, pf: &PciAddress, driver: Option<&str>) -> Result<(), HostError> {
    let try_it = || bind_now(&host.sysfs, vf, driver).map_err(|source| error(vf, source));
    if autoprobe::leaves_alone(host, pf)? {
        autoprobe::while_on(host, pf, try_it)
    } else {
        try_it()
    }
}

fn bind_now(sysfs: &Sysfs, vf: &PciAddress, driver: Option<&str>) -> Result<(), SysfsError> {
    until_not_busy(BUSY, || match sysfs.bind(vf, driver) {
        // Somebody else was faster: udev, or another agent.
        Err(_) if sysfs.driver(vf).is_some() => Ok(()),
        bound => bound,
    })?;
    // `drivers_probe` takes any function, also one that no driver wants or that is probed in the background.
    if until(|| sysfs.driver(vf).is_some()) {
        Ok(())
    } else {
        Err(SysfsError::NoDriver { address: vf.clone() })
    }
}

/// Whether something comes true while a driver may still be at it.
fn until(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() >= BUSY {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// Both links of the chain appear on their own time: the device, then its character device.
fn wait_for_rdma(sysfs: &Sysfs, vf: &PciAddress) -> Result<(), HostError> {
    let start = Instant::now();
    loop {
        let mut complete = false;
        for device in sysfs.rdma_devices(vf)? {
            complete = sysfs.uverbs(device.as_str())?.is_some();
        }
        if complete {
            return Ok(());
        }
        if start.elapsed() >= BACK {
            return Err(HostError::NoRdma {
                vf: vf.clone(),
                waited: BACK,
            });
        }
        thread::sleep(POLL);
    }
}

fn error(vf: &PciAddress, source: SysfsError) -> HostError {
    HostError::Bind { vf: vf.clone(), source }
}

/// Tries again while the kernel says that it is busy: with a probe of the same VF, or with a reset.
fn until_not_busy(patience: Duration, mut attempt: impl FnMut() -> Result<(), SysfsError>) -> Result<(), SysfsError> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(SysfsError::Write { source, .. }) if is_busy(&source) && start.elapsed() < patience => {
                thread::sleep(POLL);
            }
            done => return done,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    let busy = [Errno::EBUSY, Errno::EAGAIN].map(|errno| errno as i32);
    error.kind() == ErrorKind::ResourceBusy || error.raw_os_error().is_some_and(|code| busy.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno) -> Result<(), SysfsError> {
        Err(SysfsError::Write {
            path: "/sys/bus/pci/drivers/mlx5_core/bind".into(),
            value: "0000:18:00.3".to_owned(),
            source: io::Error::from_raw_os_error(errno as i32),
        })
    }

    #[test]
    fn a_busy_driver_is_asked_again_and_one_that_refuses_is_not() {
        let mut answers = vec![Ok(()), refused(Errno::EAGAIN), refused(Errno::EBUSY)];
        until_not_busy(BUSY, || answers.pop().unwrap()).unwrap();
        assert!(answers.is_empty());
        let mut tries = 0;
        let probe_failed = until_not_busy(BUSY, || {
            tries += 1;
            refused(Errno::ENODEV)
        });
        assert!(probe_failed.is_err());
        assert_eq!(tries, 1);
        assert!(until_not_busy(Duration::ZERO, || refused(Errno::EBUSY)).is_err());
    }

    #[test]
    fn a_guid_of_nothing_but_zeros_is_none() {
        assert!(is_zero("0000:0000:0000:0000"));
        assert!(!is_zero("0200:00ff:fe00:0001"));
    }
}
