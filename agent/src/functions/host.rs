//! A function and its port as netlink and sysfs show them, looked up by PCI address each time: names change.

use std::time::{Duration, Instant};

use railhead_host::{Link, NetlinkError, PciAddress, RouteSocket, Sysfs, SysfsError, VfError, VfState};
use thiserror::Error;

/// How often something that the kernel does on its own time is looked for.
const POLL: Duration = Duration::from_millis(20);

/// Why a function or a port could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Sysfs.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The PF's view of the function.
    #[error(transparent)]
    Vf(#[from] VfError),
    /// The port has no link in the host's namespace.
    #[error("port {port} has no interface in the host's network namespace; is its driver loaded?")]
    NoPortLink {
        /// PCI address of the PF.
        port: PciAddress,
    },
    /// The function's link is not in the host's namespace.
    #[error(
        "function {function} has no interface in the host's network namespace after {} s: it is in a pod or has no driver",
        waited.as_secs()
    )]
    NotHome {
        /// PCI address of the VF.
        function: PciAddress,
        /// How long was waited.
        waited: Duration,
    },
}

/// Sysfs and a routing socket in the host's namespace.
#[derive(Debug)]
pub struct Host {
    /// The tree.
    pub sysfs: Sysfs,
    /// The socket.
    pub route: RouteSocket,
}

/// A port's link, as the requests for its VFs need it.
#[derive(Clone, Debug)]
pub(super) struct PortLink {
    pub(super) name: String,
    pub(super) index: u32,
}

impl Host {
    /// Opens a socket in the namespace of the calling thread, which is the host's: the agent never leaves it.
    pub fn open(sysfs: Sysfs) -> Result<Self, HostError> {
        Ok(Self {
            sysfs,
            route: RouteSocket::open()?,
        })
    }

    pub(super) fn port(&mut self, port: &PciAddress) -> Result<PortLink, HostError> {
        match self.route.function_link(&self.sysfs, port)? {
            Some(link) => Ok(PortLink {
                name: link.name,
                index: link.index,
            }),
            None => Err(HostError::NoPortLink { port: port.clone() }),
        }
    }

    /// The function's link, waiting for it: a function that leaves a pod or gets its driver back appears a little later.
    pub fn function(&mut self, function: &PciAddress, patience: Duration) -> Result<Link, HostError> {
        let start = Instant::now();
        loop {
            if let Some(link) = self.route.function_link(&self.sysfs, function)? {
                return Ok(link);
            }
            if start.elapsed() >= patience {
                return Err(HostError::NotHome {
                    function: function.clone(),
                    waited: patience,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// The function as its port reports it.
    pub fn enforced(&mut self, port: &PciAddress, index: u32) -> Result<VfState, HostError> {
        let link = self.port(port)?;
        Ok(self.route.vf(&link.name, link.index, index)?)
    }
}
