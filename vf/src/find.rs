//! Where the link of a VF or a PF is: by PCI address, looked up each time, since names change.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use railhead_host::{
    Link, LinkSetting, LinkSettings, LinkSettingsError, LinkSettingsSocket, PciAddress, RouteSocket, Sysfs, VfError,
    VfState,
};
use railhead_plan::Layout;

use crate::{HostError, KernelPfSide, KernelRdmaUse, PfSide, RdmaUse, pf_side::RESET};

/// How often something that the kernel does on its own time is looked for.
pub const POLL: Duration = Duration::from_millis(20);

/// The link of a VF in the namespace of `socket`, which is the one that mounted `sysfs`. Waits for it: a VF that leaves a pod
/// or gets its driver back appears a little later.
pub fn wait(sysfs: &Sysfs, socket: &mut RouteSocket, vf: &PciAddress, patience: Duration) -> Result<Link, HostError> {
    let start = Instant::now();
    loop {
        if let Some(link) = socket.function_link(sysfs, vf)? {
            return Ok(link);
        }
        if start.elapsed() >= patience {
            return Err(HostError::NotHome {
                vf: vf.clone(),
                waited: patience,
            });
        }
        thread::sleep(POLL);
    }
}

/// What is needed to work on VFs from the host's namespace.
pub struct Host {
    /// Where notes and locks lie.
    pub layout: Layout,
    /// The tree.
    pub sysfs: Sysfs,
    /// A socket in the host's namespace.
    pub route: RouteSocket,
    /// How PFs are reached.
    pub pf_side: Arc<dyn PfSide>,
    /// How it is known which programs have RDMA devices open.
    pub rdma_use: Arc<dyn RdmaUse>,
    /// Opened when it is first asked for.
    settings: Option<LinkSettingsSocket>,
}

impl Host {
    /// The real kernel, seen from the namespace of the calling thread, which is the host's.
    pub fn open(layout: &Layout) -> Result<Self, HostError> {
        let pf_side = Arc::new(KernelPfSide::new(Sysfs::new(layout.sysfs())));
        Self::with_pf_side(layout, pf_side)
    }

    /// As [`Host::open`], with PFs of another kind.
    pub fn with_pf_side(layout: &Layout, pf_side: Arc<dyn PfSide>) -> Result<Self, HostError> {
        Ok(Self {
            layout: layout.clone(),
            sysfs: Sysfs::new(layout.sysfs()),
            route: RouteSocket::open()?,
            pf_side,
            rdma_use: Arc::new(KernelRdmaUse),
            settings: None,
        })
    }

    /// The VF's link, waiting for it.
    pub fn vf(&mut self, vf: &PciAddress, patience: Duration) -> Result<Link, HostError> {
        wait(&self.sysfs, &mut self.route, vf, patience)
    }

    /// What the holder of a VF may set on its link, beside what an attachment sets.
    pub(crate) fn link_settings(&mut self, vf: &PciAddress, link: u32) -> Result<Option<LinkSettings>, HostError> {
        self.while_busy(vf, |socket| socket.read(link))
    }

    /// Makes them what they were; returns what still differs.
    pub(crate) fn restore_link_settings(
        &mut self,
        vf: &PciAddress,
        link: u32,
        wanted: &LinkSettings,
    ) -> Result<BTreeSet<LinkSetting>, HostError> {
        self.while_busy(vf, |socket| socket.restore(link, wanted))
    }

    /// Asks again while the driver resets the VF.
    fn while_busy<T>(
        &mut self,
        vf: &PciAddress,
        mut ask: impl FnMut(&mut LinkSettingsSocket) -> Result<T, LinkSettingsError>,
    ) -> Result<T, HostError> {
        let start = Instant::now();
        loop {
            match self.settings_socket().and_then(&mut ask) {
                Err(LinkSettingsError::Netlink(error)) if error.is_busy() && start.elapsed() < RESET => {
                    thread::sleep(POLL);
                }
                answer => return answer.map_err(|source| settings_error(vf, source)),
            }
        }
    }

    fn settings_socket(&mut self) -> Result<&mut LinkSettingsSocket, LinkSettingsError> {
        let socket = match self.settings.take() {
            Some(socket) => socket,
            None => LinkSettingsSocket::open()?,
        };
        Ok(self.settings.insert(socket))
    }

    /// How the host uses a VF's interface: links on top of it, and addresses that somebody gave it.
    pub fn uses(&mut self, vf: &PciAddress) -> Result<Vec<String>, HostError> {
        let Some(link) = self.route.function_link(&self.sysfs, vf)? else {
            return Ok(Vec::new());
        };
        let mut uses = Vec::new();
        if let Ok(name) = link.name.parse() {
            uses.extend(self.sysfs.uppers(vf, &name)?);
        }
        let addresses = self.route.addresses(link.index)?;
        // Link-local ones are the kernel's own.
        let given = addresses.iter().filter(|address| match address.net.addr() {
            IpAddr::V4(address) => !address.is_link_local(),
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        });
        uses.extend(given.map(|address| address.net.to_string()));
        Ok(uses)
    }

    /// VF `index` as its PF reports it. The kernel leaves out a VF that the driver will not tell of while it resets it
    /// (`rtnl_fill_vfinfo`, net/core/rtnetlink.c; `ice_get_vf_cfg`, drivers/net/ethernet/intel/ice/ice_sriov.c), for example
    /// after it was bound again, so one that is missing is asked for once more.
    pub fn enforced(&self, pf: &PciAddress, index: u32) -> Result<VfState, HostError> {
        let start = Instant::now();
        loop {
            match self.pf_side.read(pf, index) {
                Err(HostError::Vf(VfError::NoSuchVf { .. })) if start.elapsed() < RESET => thread::sleep(POLL),
                answer => return answer,
            }
        }
    }
}

fn settings_error(vf: &PciAddress, source: LinkSettingsError) -> HostError {
    HostError::Settings {
        vf: vf.clone(),
        source: Box::new(source),
    }
}
