//! A node of stand-ins: the namespace of the process stands for the host, veth pairs for VFs and their cables, a folder for `/`.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use railhead_plan::{AttachmentPlan, Layout, NetworkRef, PLAN_VERSION, PodRef, RailPlan, RdmaPlan, VfPlan};

use crate::{namespace::ip, pf};

/// The VFs' MTU on the host.
pub const HOST_MTU: u32 = 1500;
/// The rails' MTU in a pod.
pub const POD_MTU: u32 = 9000;

/// Ports with their VFs, and the folder of Railhead's files.
pub struct Node {
    root: PathBuf,
    /// The folder, where it is to go with this value.
    _temporary: Option<tempfile::TempDir>,
    rails: u32,
    vfs_per_port: u32,
    soft_roce: bool,
    /// Real VFs, one of each rail, in place of stand-ins.
    real: Vec<Vf>,
}

/// One VF of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vf {
    /// Rail of its port.
    pub rail: u32,
    /// Number on its port.
    pub index: u32,
    /// Its PCI address.
    pub pci: String,
    /// Its port's PCI address.
    pub pf: String,
    /// Name on the host.
    pub name: String,
    /// A second name, by which it is recognised wherever it is and whatever it is called.
    pub altname: String,
    /// MAC on the host.
    pub mac: String,
}

impl Node {
    /// Makes the ports in the namespace of the calling thread, which becomes the host: call it in a new namespace.
    pub fn new(rails: u32, vfs_per_port: u32, soft_roce: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().to_owned();
        Self::made(root, Some(folder), rails, vfs_per_port, soft_roce)
    }

    /// The same, without RDMA, with a folder that stays and may be there from before.
    pub fn at(root: &Path, rails: u32, vfs_per_port: u32) -> Result<Self> {
        Self::made(root.to_owned(), None, rails, vfs_per_port, false)
    }

    fn made(
        root: PathBuf,
        temporary: Option<tempfile::TempDir>,
        rails: u32,
        vfs_per_port: u32,
        soft_roce: bool,
    ) -> Result<Self> {
        let node = Self {
            root,
            _temporary: temporary,
            rails,
            vfs_per_port,
            soft_roce,
            real: Vec::new(),
        };
        node.make_folders()?;
        let mut script = "link set lo up\n".to_owned();
        for vf in node.all_vfs() {
            let Vf { name, altname, mac, .. } = &vf;
            let leaf = format!("leaf{}x{}", vf.rail, vf.index);
            writeln!(script, "link add {name} type veth peer name {leaf}")?;
            writeln!(script, "link set {name} address {mac} mtu {HOST_MTU} alias before")?;
            writeln!(script, "link property add dev {name} altname {altname}")?;
            // Without addresses of its own, so that only Railhead changes what the host looks like.
            writeln!(script, "link set {leaf} mtu {POD_MTU} addrgenmode none up")?;
            let device = node.layout().sysfs().join("bus/pci/devices").join(&vf.pci);
            fs::create_dir_all(device.join("net").join(name))?;
        }
        let batch = node.root.join("ports.ip");
        fs::write(&batch, script)?;
        let made = Command::new("ip")
            .arg("-batch")
            .arg(&batch)
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            made.status.success(),
            "make the stand-in ports: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        if soft_roce {
            // The kernel's own RDMA devices, beside the PCI devices that are made up.
            std::os::unix::fs::symlink("/sys/class", node.layout().sysfs().join("class"))?;
        }
        Ok(node)
    }

    /// The node of the calling thread itself, with these free VFs of its ports, one of each rail: real ones, and soft-RoCE on
    /// them. They get second names, by which they are recognised, until the value is dropped.
    pub fn of_real_vfs(vfs: Vec<Vf>) -> Result<Self> {
        // The files of a running agent are nothing to this one.
        let folder = tempfile::tempdir_in("/run")?;
        let node = Self {
            root: folder.path().to_owned(),
            _temporary: Some(folder),
            rails: u32::try_from(vfs.len())?,
            vfs_per_port: 1,
            soft_roce: true,
            real: vfs,
        };
        node.make_folders()?;
        std::os::unix::fs::symlink("/sys", node.layout().sysfs())?;
        for vf in &node.real {
            ip(&format!("link property add dev {} altname {}", vf.name, vf.altname))?;
        }
        Ok(node)
    }

    fn make_folders(&self) -> Result<()> {
        fs::create_dir_all(self.layout().plans())?;
        Ok(fs::create_dir_all(self.layout().cdi())?)
    }

    /// Whether its VFs are real ones.
    pub fn is_real(&self) -> bool {
        !self.real.is_empty()
    }

    /// Where Railhead's files are.
    pub fn layout(&self) -> Layout {
        Layout::under(&self.root)
    }

    /// The folder that stands for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Number of rails.
    pub fn rails(&self) -> u32 {
        self.rails
    }

    /// VFs of each port.
    pub fn vfs_per_port(&self) -> u32 {
        self.vfs_per_port
    }

    /// Whether rails get a soft-RoCE device.
    pub fn soft_roce(&self) -> bool {
        self.soft_roce
    }

    /// Every VF.
    pub fn all_vfs(&self) -> Vec<Vf> {
        if self.is_real() {
            return self.real.clone();
        }
        (0..self.vfs_per_port)
            .flat_map(|index| (0..self.rails).map(move |rail| vf(rail, index)))
            .collect()
    }

    /// The VFs with this number, one of each port.
    pub fn vfs(&self, index: u32) -> Vec<Vf> {
        if self.is_real() {
            return self.real.clone();
        }
        (0..self.rails).map(|rail| vf(rail, index)).collect()
    }

    /// Writes the plan of a pod for these VFs, as Prepare does.
    pub fn write_plan(&self, pod: &str, vfs: &[Vf]) -> Result<AttachmentPlan> {
        let plan = self.plan(pod, vfs)?;
        self.write_spec(pod)?;
        let file = self.layout().plan(pod);
        fs::write(&file, serde_json::to_vec(&plan)?).with_context(|| format!("write {}", file.display()))?;
        Ok(plan)
    }

    /// The plan of a pod for these VFs.
    pub fn plan(&self, pod: &str, vfs: &[Vf]) -> Result<AttachmentPlan> {
        Ok(AttachmentPlan {
            version: PLAN_VERSION,
            boot_id: railhead_host::boot_id(Layout::boot_id())?,
            pod: PodRef {
                namespace: "ml".to_owned(),
                name: pod.to_owned(),
                uid: pod.to_owned(),
            },
            claim_uid: format!("claim-of-{pod}"),
            claim_name: None,
            network: NetworkRef {
                name: "train".to_owned(),
                uid: "u".to_owned(),
            },
            block: None,
            slice_name: "train-00000000".to_owned(),
            index: vfs.first().map_or(0, |vf| vf.index),
            pods: self.vfs_per_port,
            rails: vfs.iter().map(|vf| self.rail_plan(pod, vf)).collect::<Result<_>>()?,
            nccl_file: true,
            nccl_by_variable: false,
            nccl: Vec::new(),
            nccl_environment: Vec::new(),
            traffic_class: None,
        })
    }

    /// Removes the plan of a pod, as Unprepare does.
    pub fn remove_plan(&self, pod: &str) -> Result<()> {
        self.remove_spec(pod)?;
        Ok(fs::remove_file(self.layout().plan(pod))?)
    }

    /// Writes the CDI spec that ADD completes, where rails have RDMA devices.
    pub fn write_spec(&self, pod: &str) -> Result<()> {
        let spec = r#"{"cdiVersion":"0.6.0","kind":"railhead.dev/rail","devices":[{"name":"c","containerEdits":{"env":["A=b"]}}]}"#;
        if self.soft_roce {
            fs::write(self.spec(pod), spec)?;
        }
        Ok(())
    }

    /// Removes it, if it is there.
    pub fn remove_spec(&self, pod: &str) -> Result<()> {
        match fs::remove_file(self.spec(pod)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn spec(&self, pod: &str) -> std::path::PathBuf {
        self.layout().cdi_spec(&format!("claim-of-{pod}"))
    }

    fn rail_plan(&self, pod: &str, vf: &Vf) -> Result<RailPlan> {
        let Vf { rail, index, .. } = vf;
        let address = format!("10.{}.{}.{}/16", 100 + rail, index / 200, 2 + index % 200);
        Ok(RailPlan {
            rail: *rail,
            name: format!("rail{rail}").parse()?,
            vf: VfPlan {
                pci_address: vf.pci.parse()?,
                pf_pci_address: vf.pf.parse()?,
                index: *index,
                vlan: None,
                max_rate_mbps: 400,
                min_rate_mbps: 0,
                spoof_check: true,
                trust: false,
            },
            mac: pod_mac(*rail, *index).parse()?,
            mtu: POD_MTU,
            addresses: vec![address.parse()?],
            on_link: Vec::new(),
            gateway: Some(format!("10.{}.255.254", 100 + rail).parse()?),
            table: 1000 + rail,
            rdma: if self.soft_roce {
                RdmaPlan::Soft {
                    device: soft_device(pod, *rail).parse()?,
                }
            } else {
                RdmaPlan::None
            },
        })
    }

    /// Removes what a killed call left half-written, as the agent's collector does after an hour.
    pub fn sweep(&self) -> Result<()> {
        let folders = [
            self.layout().journals(),
            self.layout().attachments(),
            self.layout().plans(),
        ];
        for folder in folders {
            railhead_host::remove_abandoned(&folder, "", Duration::ZERO)
                .with_context(|| format!("sweep {}", folder.display()))?;
        }
        Ok(())
    }

    /// What the PFs enforce on each VF, by its altname.
    pub fn enforced(&self) -> Result<Vec<(String, String)>> {
        let pf_side = pf::side(&self.root);
        let read = |vf: Vf| Ok((vf.altname, format!("{:?}", pf_side.read(&vf.pf.parse()?, vf.index)?)));
        self.all_vfs().into_iter().map(read).collect()
    }

    /// Files of attachments, which are there only while one is wired.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for folder in [self.layout().journals(), self.layout().attachments()] {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                found.push(entry?.path().display().to_string());
            }
        }
        found.sort();
        Ok(found)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for vf in &self.real {
            // A name that a failed case has taken along is gone already.
            let _ = ip(&format!("link property del dev {} altname {}", vf.name, vf.altname));
        }
    }
}

/// A real VF of the node of the calling thread: the PCI addresses of the VF and of its port, and the rail.
pub fn real_vf(rail: u32, pci: &str, pf: &str) -> Result<Vf> {
    let devices = Path::new("/sys/bus/pci/devices");
    let only = |folder: &Path| -> Result<String> {
        let mut names = fs::read_dir(folder)
            .with_context(|| format!("list {}", folder.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.next().with_context(|| format!("{} is empty", folder.display()))
    };
    let name = only(&devices.join(pci).join("net"))?;
    let mac = fs::read_to_string(format!("/sys/class/net/{name}/address"))?
        .trim()
        .to_owned();
    let index = (0..256)
        .find(|index| {
            fs::read_link(devices.join(pf).join(format!("virtfn{index}")))
                .is_ok_and(|target| target.file_name().is_some_and(|found| found == pci))
        })
        .with_context(|| format!("{pci} is no VF of {pf}"))?;
    Ok(Vf {
        rail,
        index,
        pci: pci.to_owned(),
        pf: pf.to_owned(),
        altname: format!("vf-{rail}-{index}"),
        name,
        mac,
    })
}

/// The MAC of a VF in a pod.
pub fn pod_mac(rail: u32, index: u32) -> String {
    format!("02:16:{rail:02x}:00:{:02x}:{:02x}", index >> 8, index & 0xff)
}

/// The soft-RoCE device of a pod's rail.
pub fn soft_device(pod: &str, rail: u32) -> String {
    let end: String = pod.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("rxe{}r{rail}", &end[end.len().saturating_sub(8)..])
}

fn vf(rail: u32, index: u32) -> Vf {
    // As on a real port: eight functions per device, behind the PF.
    let (bus, device, function) = (0x10 + rail, 1 + index / 8, index % 8);
    Vf {
        rail,
        index,
        pci: format!("0000:{bus:02x}:{device:02x}.{function}"),
        pf: format!("0000:{bus:02x}:00.0"),
        name: format!("p{rail}v{index}"),
        altname: format!("vf-{rail}-{index}"),
        mac: format!("02:aa:{rail:02x}:00:{:02x}:{:02x}", index >> 8, index & 0xff),
    }
}
