//! Which VFs pods have or had: a note per VF, from before it is first changed for a pod until it is as it was found.
//!
//! A VF that no plan names and of which there is a note was not given back: its plan was damaged or removed by hand. Its MAC
//! address alone would not tell, nor would a VLAN that is left on it. The notes lie in `/run`: a reboot makes VFs anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use railhead_host::{FileLock, LockError, PciAddress, Sysfs};
use railhead_plan::{Layout, VfPlan};

use super::{Originals, OriginalsError, give_back, observe_error};
use crate::{Host, HostError, VfOriginal, driver};

/// How long a free VF's interface is waited for.
const HOME: Duration = Duration::from_secs(2);

impl Originals {
    /// Notes that a VF is about to become a pod's, and adds to its record what its holder may set on its link beside what an
    /// attachment sets. Called before the VF is first changed; again, while a pod has it, it does nothing.
    pub fn lend(&self, host: &mut Host, vf: &VfPlan) -> Result<(), OriginalsError> {
        let (address, pf) = (&vf.pci_address, &vf.pf_pci_address);
        if self.is_lent(address) {
            return Ok(());
        }
        let observe = |source| observe_error(address, source);
        driver::ensure(host, address, pf, None).map_err(observe)?;
        let link = host.vf(address, HOME).map_err(observe)?;
        let settings = host.link_settings(address, link.index).map_err(observe)?;
        if let Some(known) = self.vf(address)?
            && known.settings != settings
        {
            if known.settings.is_some() {
                tracing::warn!(
                    vf = %address, known = ?known.settings, now = ?settings,
                    "the link of a free VF is not set as Railhead left it; its present state is what will be given back"
                );
            }
            self.write_vf(&VfOriginal { settings, ..known })?;
        }
        let error = |source| OriginalsError::Note {
            vf: address.clone(),
            source,
        };
        fs::create_dir_all(self.layout.lent_vfs()).map_err(error)?;
        fs::write(self.layout.lent_vf(address.as_str()), &self.boot_id).map_err(error)
    }

    /// Whether a pod has or had the VF and it was not given back since.
    pub fn is_lent(&self, vf: &PciAddress) -> bool {
        // An empty one was being written when its writer was killed.
        fs::read_to_string(self.layout.lent_vf(vf.as_str())).is_ok_and(|boot| boot.is_empty() || boot == self.boot_id)
    }

    /// The VFs that pods have or had and that were not given back since.
    pub fn lent(&self) -> Result<Vec<PciAddress>, OriginalsError> {
        let recorded = self.recorded_vfs()?;
        Ok(recorded.into_iter().filter(|vf| self.is_lent(vf)).collect())
    }

    /// Gives back VFs that pods had and that no plan names, unless the host uses them or they are still in a pod. One VF's
    /// trouble keeps no other from being given back; it is tried again after a minute.
    ///
    /// `planned` says which VFs plans name at the moment; while it cannot tell, nothing is done. It is asked again under each VF's
    /// lock, under which a pod's Prepare programs the VF. The node's lock is not needed, so that nobody waits for a port that
    /// takes long to answer.
    pub fn take_back(
        &self,
        host: &mut Host,
        planned: impl Fn() -> Option<BTreeSet<PciAddress>>,
    ) -> Result<(), OriginalsError> {
        let Some(taken) = planned() else { return Ok(()) };
        let is_free = |vf: &PciAddress| planned().is_some_and(|taken| !taken.contains(vf));
        self.take_back_if(host, |vf| !taken.contains(vf) && !in_trouble(vf), is_free)
    }

    /// The same for all, also those that could not be given back a moment ago: no plan names any, and nobody comes later.
    pub fn take_all_back(&self, host: &mut Host) -> Result<(), OriginalsError> {
        self.take_back_if(host, |_| true, |_| true)
    }

    fn take_back_if(
        &self,
        host: &mut Host,
        wanted: impl Fn(&PciAddress) -> bool,
        is_free: impl Fn(&PciAddress) -> bool,
    ) -> Result<(), OriginalsError> {
        let mut failed = Ok(());
        for vf in self.lent()? {
            if !wanted(&vf) {
                continue;
            }
            if let Err(error) = self.take_one_back(host, &vf, &is_free) {
                troubled().insert(vf, Instant::now());
                failed = failed.and(Err(error));
            }
        }
        failed
    }

    fn take_one_back(
        &self,
        host: &mut Host,
        vf: &PciAddress,
        is_free: impl Fn(&PciAddress) -> bool,
    ) -> Result<(), OriginalsError> {
        let path = self.layout.function_lock(vf.as_str());
        let _lock = match FileLock::take(&path, Duration::ZERO) {
            Ok(lock) => lock,
            // Whoever has it is about to give it back, or to a pod.
            Err(LockError::Held { .. }) => return Ok(()),
            Err(source) => return Err(OriginalsError::Lock { vf: vf.clone(), source }),
        };
        if !self.is_lent(vf) || !is_free(vf) {
            return Ok(());
        }
        if !host.sysfs.exists(vf) {
            is_back(&self.layout, vf);
            return Ok(());
        }
        let observe = |source: HostError| observe_error(vf, source);
        let home = host.route.function_link(&host.sysfs, vf);
        let is_home = home.map_err(|source| observe(source.into()))?.is_some();
        // With a driver and without a link here it is in a pod; without a driver it has none anywhere, and gets both back.
        if !is_home && host.sysfs.driver(vf).is_some() {
            return Ok(());
        }
        let uses = host.uses(vf).map_err(observe)?;
        if !uses.is_empty() {
            tracing::warn!(%vf, ?uses, "the host uses a VF that a pod had and nobody gave back; it is left alone");
            return Ok(());
        }
        tracing::warn!(%vf, "a pod had a VF and nobody gave it back; it is given back now");
        let original = match (self.vf(vf)?, place(&host.sysfs, vf)) {
            (Some(known), _) => known,
            (None, Some((pf, index))) => self.neutral(host, vf, &pf, index, HOME)?,
            (None, None) => return Ok(()),
        };
        give_back(host, &original)
    }
}

/// The PF of a VF, and the VF's number on it.
fn place(sysfs: &Sysfs, vf: &PciAddress) -> Option<(PciAddress, u32)> {
    let pf = sysfs.physical_function_of(vf)?;
    let vfs = sysfs.virtual_functions(&pf).ok()?;
    let index = vfs.iter().find(|found| found.address == *vf)?.index;
    Some((pf, index))
}

/// VFs that could not be taken back, and when that was tried: it takes seconds then, and whoever looks at the ports waits.
static TROUBLE: Mutex<BTreeMap<PciAddress, Instant>> = Mutex::new(BTreeMap::new());
const AGAIN: Duration = Duration::from_mins(1);

fn troubled() -> MutexGuard<'static, BTreeMap<PciAddress, Instant>> {
    TROUBLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_trouble(vf: &PciAddress) -> bool {
    let mut troubled = troubled();
    troubled.retain(|_, since| since.elapsed() < AGAIN);
    troubled.contains_key(vf)
}

/// A VF is as it was found, or does not exist any more.
pub(crate) fn is_back(layout: &Layout, vf: &PciAddress) {
    match fs::remove_file(layout.lent_vf(vf.as_str())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%vf, %error, "it could not be noted that a VF was given back; it will be given back once more");
        }
        _ => {}
    }
}
