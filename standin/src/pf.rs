//! The side of a VF that its PF enforces. No veth pair has one: a file per VF keeps what is set, for all processes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use railhead_host::{MacAddress, PciAddress, Sysfs, VfKnob, VfLinkState, VfSettings, VfState};
use railhead_plan::Layout;
use railhead_vf::{HostError, KernelPfSide, PfSide};

/// The PFs of the node whose files are below `root`: real ones where it has the kernel's own sysfs.
pub(crate) fn side(root: &Path) -> Box<dyn PfSide> {
    let sysfs = Layout::under(root).sysfs();
    if sysfs.is_symlink() {
        Box::new(KernelPfSide::new(Sysfs::new(sysfs)))
    } else {
        Box::new(PfFiles::below(root))
    }
}

/// A folder of such files.
#[derive(Debug)]
pub struct PfFiles {
    folder: PathBuf,
}

impl PfFiles {
    /// The folder below the one that stands for `/`.
    pub fn below(root: &Path) -> Self {
        Self {
            folder: root.join("standin/pf"),
        }
    }

    fn file(&self, pf: &PciAddress, vf: u32) -> PathBuf {
        self.folder.join(format!("{pf}-{vf}.json"))
    }

    /// Whole or not at all, also when the process is killed here.
    fn keep(&self, pf: &PciAddress, state: &VfState) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let new = self
            .folder
            .join(format!(".{pf}-{}.{}", state.index, std::process::id()));
        fs::write(&new, serde_json::to_vec(state)?)?;
        fs::rename(&new, self.file(pf, state.index))
    }
}

impl PfSide for PfFiles {
    /// A VF that nobody has set anything on has no MAC of its PF, no VLAN and no limits.
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        let kept = fs::read(self.file(pf, vf)).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(kept.unwrap_or(VfState {
            index: vf,
            mac: MacAddress::new([0; 6]),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 0,
            spoof_check: true,
            trust: false,
            link_state: VfLinkState::Auto,
        }))
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        let mut state = self.read(pf, vf)?;
        state.set(knob, wanted);
        self.keep(pf, &state)
            .map_err(|_| HostError::NoPfLink { pf: pf.clone() })
    }
}
