//! Where node state lives. Every path that agent and CNI binary share is made here.

use std::path::{Path, PathBuf};

/// The folders of a node. [`Layout::default`] is the real one; tests use [`Layout::under`].
///
/// `/run/railhead` is lost in a reboot, as the kernel state that it describes is; `/var/lib/railhead` outlives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// The file that every NCCL reads.
pub const NCCL_CONF: &str = "/etc/nccl.conf";
/// Where containers see their pod's [`Layout::attachment`].
pub const POD_FOLDER: &str = "/run/railhead";
/// The file in it with the addresses of the network's pods.
pub const PEERS_FILE: &str = "hosts";

impl Default for Layout {
    fn default() -> Self {
        Self::under("/")
    }
}

impl Layout {
    /// The same folders below `root`.
    pub fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Plans, one per pod: `/run/railhead/plans`.
    pub fn plans(&self) -> PathBuf {
        self.root.join("run/railhead/plans")
    }

    /// The plan of one pod. Its presence is all that the CNI binary looks for.
    pub fn plan(&self, pod_uid: &str) -> PathBuf {
        self.plans().join(format!("{pod_uid}.json"))
    }

    /// Lock files: `/run/railhead/locks`.
    pub fn locks(&self) -> PathBuf {
        self.root.join("run/railhead/locks")
    }

    /// Held while functions are made or chosen, and while all are given back.
    pub fn node_lock(&self) -> PathBuf {
        self.locks().join("node.lock")
    }

    /// The lock of one SR-IOV function, held (flock) while it is changed.
    pub fn function_lock(&self, pci_address: &str) -> PathBuf {
        self.locks().join(format!("{pci_address}.lock"))
    }

    /// Held while the kernel gives VFs of a port to drivers that it is told to leave alone.
    pub fn autoprobe_lock(&self, pf: &str) -> PathBuf {
        self.locks().join(format!("{pf}.autoprobe.lock"))
    }

    /// One empty file per port whose `sriov_drivers_autoprobe` is on for the moment only: `/run/railhead/autoprobe`.
    pub fn autoprobe_notes(&self) -> PathBuf {
        self.root.join("run/railhead/autoprobe")
    }

    /// One file per VF that a pod has or had and that was not given back since: `/run/railhead/lent`.
    pub fn lent_vfs(&self) -> PathBuf {
        self.root.join("run/railhead/lent")
    }

    /// The note of one VF. It holds the id of the boot.
    pub fn lent_vf(&self, vf: &str) -> PathBuf {
        self.lent_vfs().join(vf)
    }

    /// What ADD made, one folder per pod: `/run/railhead/attachments`.
    pub fn attachments(&self) -> PathBuf {
        self.root.join("run/railhead/attachments")
    }

    /// One pod's folder. It appears by one rename at the end of a successful ADD and goes first in DEL; the claim's CDI
    /// mounts name it as their source, so that containers of an unwired pod cannot be created.
    pub fn attachment(&self, pod_uid: &str) -> PathBuf {
        self.attachments().join(pod_uid)
    }

    /// The [`crate::AttachmentRecord`] inside a pod's folder.
    pub fn record(&self, pod_uid: &str) -> PathBuf {
        self.attachment(pod_uid).join("attachment.json")
    }

    /// The NCCL settings inside a pod's folder, mounted as [`NCCL_CONF`] where the network does not want it otherwise.
    pub fn nccl_conf(&self, pod_uid: &str) -> PathBuf {
        self.attachment(pod_uid).join("nccl.conf")
    }

    /// Inside a pod's folder, while a container of the pod may not lock all memory that it likes: why, in one line of text.
    pub fn memlock_note(&self, pod_uid: &str) -> PathBuf {
        self.attachment(pod_uid).join("memlock-low")
    }

    /// Inside a pod's folder, when [`Layout::nccl_conf`] is mounted over a file of a container's image: whose, in one line of text.
    pub fn nccl_hidden_note(&self, pod_uid: &str) -> PathBuf {
        self.attachment(pod_uid).join("nccl-conf-hidden")
    }

    /// The CNI binary's journals, one per sandbox: `/run/railhead/journal`. What they tell to undo does not outlive the boot.
    pub fn journals(&self) -> PathBuf {
        self.root.join("run/railhead/journal")
    }

    /// The journal of one sandbox.
    pub fn journal(&self, container_id: &str) -> PathBuf {
        self.journals().join(format!("{container_id}.json"))
    }

    /// Where release 0.1 kept journals: `/var/lib/railhead/journal`. Read, and written no more.
    pub fn former_journals(&self) -> PathBuf {
        self.root.join("var/lib/railhead/journal")
    }

    /// The journal of one sandbox that release 0.1 wired.
    pub fn former_journal(&self, container_id: &str) -> PathBuf {
        self.former_journals().join(format!("{container_id}.json"))
    }

    /// What functions and ports were like before Railhead touched them: `/var/lib/railhead/originals`.
    pub fn originals(&self) -> PathBuf {
        self.root.join("var/lib/railhead/originals")
    }

    /// The CDI specs: `/run/railhead/cdi`, which the agent makes a link to the folder that the container runtime reads.
    pub fn cdi(&self) -> PathBuf {
        self.root.join("run/railhead/cdi")
    }

    /// The CDI spec of one claim.
    pub fn cdi_spec(&self, claim_uid: &str) -> PathBuf {
        self.cdi().join(format!("railhead.dev-{claim_uid}.json"))
    }

    /// The kernel's sysfs.
    pub fn sysfs(&self) -> PathBuf {
        self.root.join("sys")
    }

    /// The id of this boot (`/proc/sys/kernel/random/boot_id`); always the real kernel's.
    pub fn boot_id() -> &'static Path {
        Path::new("/proc/sys/kernel/random/boot_id")
    }
}
