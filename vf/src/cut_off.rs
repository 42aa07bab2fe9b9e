//! Takes a VF from programs that still have its RDMA device open: for a give-back that comes before a pod's programs have ended,
//! or that cannot know it.
//!
//! A program keeps its contexts and queue pairs when the VF's interface leaves the pod, and would go on sending, now over the
//! next pod's VLAN. The kernel takes them away when the RDMA device goes (`ib_uverbs_remove_one`,
//! drivers/infiniband/core/uverbs_main.c): files that are open answer EIO from then on. So the VF is bound to its driver again.
//! With the old interface go links that were put on top of it in namespaces that nobody sees from here.
//!
//! That is done whatever is counted before: older kernels count only what the caller's PID namespace sees
//! (`rdma_restrack_count`, drivers/infiniband/core/restrack.c), and the agent has one of its own. What is counted afterwards
//! was opened since, by a container that is still there or by a service of the host, and keeps the VF from being free.

use std::{
    collections::BTreeSet,
    fmt, fs,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use railhead_host::{PciAddress, RdmaError, RdmaName, RdmaSocket, SysfsError};
use thiserror::Error;

use crate::{Host, HostError, POLL, driver};

/// How long a driver may take to let a VF go. One that cannot take contexts away waits for the programs.
const LET_GO: Duration = Duration::from_secs(20);
/// How long what opens every new device for a moment, such as udev's helpers, may have this one open.
const OPEN: Duration = Duration::from_secs(3);

/// Programs that have an RDMA device open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// How many contexts they have, all together.
    pub contexts: u64,
    /// Process ids, as far as this process' PID namespace sees them.
    pub pids: BTreeSet<u32>,
}

/// How it is known which programs have an RDMA device open.
pub trait RdmaUse: Send + Sync {
    /// The programs that have `device` open.
    fn programs(&self, device: &RdmaName) -> Result<Programs, RdmaError>;
}

/// The real kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelRdmaUse;

impl RdmaUse for KernelRdmaUse {
    fn programs(&self, device: &RdmaName) -> Result<Programs, RdmaError> {
        let mut socket = match RdmaSocket::open() {
            Err(RdmaError::NoSubsystem) => return Ok(Programs::default()),
            socket => socket?,
        };
        let Some(device) = socket.device_named(device.as_str())? else {
            return Ok(Programs::default());
        };
        Ok(Programs {
            contexts: socket.open_contexts(&device)?,
            pids: socket.context_holders(&device)?,
        })
    }
}

/// Why a VF is not free of the programs that had it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CutOffError {
    /// It could not be bound to its driver again.
    #[error("take VF {vf} from programs that may have it open: {source}")]
    Host {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The kernel does not say who has the device open.
    #[error("ask which programs have RDMA device {device} of VF {vf} open: {source}")]
    Rdma {
        /// PCI address.
        vf: PciAddress,
        /// Name.
        device: RdmaName,
        /// What happened.
        #[source]
        source: RdmaError,
    },
    /// Its driver does not let it go.
    #[error("the driver of VF {vf} does not let it go while {programs} have its RDMA device open; end them")]
    Held {
        /// PCI address.
        vf: PciAddress,
        /// Who.
        programs: Programs,
    },
    /// Somebody has opened it since.
    #[error(
        "RDMA device {device} of VF {vf} was opened again by {programs}; end them (`rdma resource show context dev {device}` on the node names them), then the VF is given back"
    )]
    Opened {
        /// PCI address.
        vf: PciAddress,
        /// Name.
        device: RdmaName,
        /// Who.
        programs: Programs,
    },
}

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |pid: &u32| match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("{} (pid {pid})", name.trim_end()),
            Err(_) => format!("pid {pid}"),
        };
        match (self.pids.is_empty(), self.contexts) {
            (false, _) => f.write_str(&self.pids.iter().map(name).collect::<Vec<_>>().join(", ")),
            (true, 0) => f.write_str("programs that cannot be seen from here"),
            (true, contexts) => write!(f, "programs that cannot be seen from here ({contexts} contexts)"),
        }
    }
}

/// Takes a VF from whatever has its RDMA device open, and proves that nothing has. `recorded` is the driver that it had when
/// it was found. A VF without RDMA device is left as it is. The VF's lock is held.
pub fn cut_off(host: &mut Host, vf: &PciAddress, pf: &PciAddress, recorded: Option<&str>) -> Result<(), CutOffError> {
    let error = |source: HostError| CutOffError::Host {
        vf: vf.clone(),
        source: Box::new(source),
    };
    let devices = host.sysfs.rdma_devices(vf).map_err(|source| error(source.into()))?;
    if devices.is_empty() {
        return Ok(());
    }
    let before = programs(host, vf, &devices)?;
    if before.contexts > 0 {
        tracing::warn!(%vf, programs = %before, "programs still have the RDMA device of a VF open; they lose it");
    }
    let bound = host.sysfs.driver(vf);
    if bound.is_some() {
        let (sysfs, address) = (host.sysfs.clone(), vf.clone());
        match within(vf, LET_GO, move || sysfs.unbind(&address)) {
            Some(Ok(())) => {}
            Some(Err(source)) => return Err(error(HostError::Bind { vf: vf.clone(), source })),
            None => {
                return Err(CutOffError::Held {
                    vf: vf.clone(),
                    programs: before,
                });
            }
        }
    }
    driver::bind_again(host, vf, pf, bound.as_deref().or(recorded), true).map_err(error)?;
    let start = Instant::now();
    loop {
        let devices = host.sysfs.rdma_devices(vf).map_err(|source| error(source.into()))?;
        let after = programs(host, vf, &devices)?;
        match devices.into_iter().next() {
            Some(device) if after.contexts > 0 => {
                if start.elapsed() >= OPEN {
                    return Err(CutOffError::Opened {
                        vf: vf.clone(),
                        device,
                        programs: after,
                    });
                }
            }
            _ => return Ok(()),
        }
        thread::sleep(POLL);
    }
}

fn programs(host: &Host, vf: &PciAddress, devices: &[RdmaName]) -> Result<Programs, CutOffError> {
    let mut all = Programs::default();
    for device in devices {
        let programs = host.rdma_use.programs(device).map_err(|source| CutOffError::Rdma {
            vf: vf.clone(),
            device: device.clone(),
            source,
        })?;
        all.contexts += programs.contexts;
        all.pids.extend(programs.pids);
    }
    Ok(all)
}

/// VFs that a driver was asked to let go and that it still holds.
static LETTING_GO: Mutex<BTreeSet<PciAddress>> = Mutex::new(BTreeSet::new());

fn letting_go() -> MutexGuard<'static, BTreeSet<PciAddress>> {
    LETTING_GO.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what may hang in the kernel; `None` if it takes longer than `patience`. What hangs is left behind, once: whoever asks
/// again meanwhile is told so at once.
fn within(
    vf: &PciAddress,
    patience: Duration,
    unbind: impl FnOnce() -> Result<(), SysfsError> + Send + 'static,
) -> Option<Result<(), SysfsError>> {
    if !letting_go().insert(vf.clone()) {
        return None;
    }
    let (done, answer) = mpsc::channel();
    let address = vf.clone();
    thread::spawn(move || {
        let unbound = unbind();
        letting_go().remove(&address);
        // Nobody waits any more if it took too long.
        let _ = done.send(unbound);
    });
    answer.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_left_behind_and_not_begun_twice() {
        let vf: PciAddress = "0000:18:00.3".parse().unwrap();
        let (go_on, hang) = mpsc::channel::<()>();
        let hangs = move || {
            let _ = hang.recv();
            Ok(())
        };
        assert!(within(&vf, Duration::ZERO, hangs).is_none());
        let begun_again = within(&vf, Duration::from_mins(1), || Ok(()));
        assert!(begun_again.is_none());
        drop(go_on);
        while letting_go().contains(&vf) {
            thread::sleep(POLL);
        }
        assert!(matches!(within(&vf, Duration::from_mins(1), || Ok(())), Some(Ok(()))));
    }

    #[test]
    fn programs_are_named_as_far_as_they_are_seen() {
        let seen = Programs {
            contexts: 2,
            pids: BTreeSet::from([std::process::id()]),
        };
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            seen.to_string(),
            format!("{} (pid {})", own.trim_end(), std::process::id())
        );
        let unseen = Programs {
            contexts: 2,
            pids: BTreeSet::new(),
        };
        assert_eq!(
            unseen.to_string(),
            "programs that cannot be seen from here (2 contexts)"
        );
    }
}
