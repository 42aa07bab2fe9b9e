//! The node's ports: what the kernel would show of them in sysfs, above the stand-in VFs.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context, Result};
use railhead_plan::Layout;
use railhead_standin::{namespace::ip, node::Node};

/// The driver that ports and VFs seem to be bound to.
const DRIVER: &str = "mlx5_core";

/// Ports that are there as long as this value.
pub(crate) struct Ports {
    node: Node,
}

impl Ports {
    /// Makes them in the namespace of the calling thread, with so many VFs each and this speed (Mbit/s).
    pub(crate) fn new(root: &Path, rails: u32, vfs: u32, speed: u32) -> Result<Self> {
        let node = Node::at(root, rails, vfs)?;
        let sysfs = node.layout().sysfs();
        let devices = sysfs.join("bus/pci/devices");
        fs::create_dir_all(sysfs.join("bus/pci/drivers").join(DRIVER))?;
        for vf in node.all_vfs() {
            let (pf, device) = (devices.join(&vf.pf), devices.join(&vf.pci));
            fs::create_dir_all(&pf)?;
            link(&format!("../{}", vf.pci), &pf.join(format!("virtfn{}", vf.index)))?;
            link(&format!("../{}", vf.pf), &device.join("physfn"))?;
            link(&format!("../../drivers/{DRIVER}"), &device.join("driver"))?;
        }
        for vf in node.vfs(0) {
            let (name, pf) = (format!("p{}", vf.rail), devices.join(&vf.pf));
            ip(&format!("link add {name} type veth peer name leaf{}", vf.rail))?;
            ip(&format!("link set {name} mtu 9000 up"))?;
            ip(&format!("link set leaf{} mtu 9000 addrgenmode none up", vf.rail))?;
            link(&format!("../../drivers/{DRIVER}"), &pf.join("driver"))?;
            let net = pf.join("net").join(&name);
            fs::create_dir_all(&net)?;
            let attributes = [
                (pf.join("class"), "0x020000".to_owned()),
                (pf.join("sriov_totalvfs"), vfs.to_string()),
                (pf.join("sriov_numvfs"), vfs.to_string()),
                (pf.join("numa_node"), (vf.rail % 2).to_string()),
                (net.join("carrier"), "1".to_owned()),
                (net.join("speed"), speed.to_string()),
                (net.join("mtu"), "9000".to_owned()),
            ];
            for (file, text) in attributes {
                fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            }
        }
        Ok(Self { node })
    }

    /// Where Railhead's files are.
    pub(crate) fn layout(&self) -> Layout {
        self.node.layout()
    }
}

/// A link that is there already, since the process before this one made it, is right.
fn link(target: &str, path: &Path) -> Result<()> {
    match symlink(target, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make the link {}", path.display()))
        }
        _ => Ok(()),
    }
}
