//! The machine behind a node: its folder with credentials and programs, its QEMU command line, its boot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::namespace::{
    Daemon, HOST_ADDRESS, Namespace, mgmt_tap, node_address, pod_prefix, rail_tap, wait_while_alive,
};
use super::pki::{Authority, Identity, kubeconfig};
use super::progress::say;
use super::run::capture;
use super::{Lab, Node, RAILS, control_plane, image_store};

/// About 40 s on two idle cores; others may be compiling.
const READY_LIMIT: Duration = Duration::from_mins(5);
const LIMIT: Duration = Duration::from_mins(1);
/// With two, an emulated processor could lose the end of a timer interrupt for good while the igb ports made their functions. Each
/// node keeps one of the host busy as it is.
const PROCESSORS: u32 = 1;
/// At 2.75 GiB and above, the emulated mailbox between igb and its virtual functions gets no interrupts, and they stay
/// without carrier.
const MEMORY_MIB: u32 = 2700;
const DISK_BYTES: u64 = 20 << 30;
const NODE_SCRIPT: &str = include_str!("../../lab/node/node.sh");
const CONTAINERD_CONFIG: &str = include_str!("../../lab/node/containerd.toml");
const KUBELET_CONFIG: &str = include_str!("../../lab/node/kubelet.yaml");

impl Node {
    /// Writes everything the machine reads: its own credentials only, programs, images, configuration.
    pub(super) fn prepare(&self, authority: &Authority) -> Result<()> {
        let folder = self.folder();
        // Machines add to their console's log.
        fs::write(self.console_log(), "")?;
        let pki = folder.join("pki");
        for dir in [&pki, &folder.join("bin"), &folder.join("images")] {
            fs::create_dir_all(dir)?;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let (name, address) = (self.name(), node_address(self.number));
        authority.issue_to(
            &pki,
            &Identity {
                file: "kubelet",
                user: &format!("system:node:{name}"),
                group: Some("system:nodes"),
                ..Identity::default()
            },
        )?;
        authority.issue_to(
            &pki,
            &Identity {
                file: "kubelet-serving",
                user: &format!("system:node:{name}"),
                group: Some("system:nodes"),
                serves: vec![name.clone(), address.clone()],
            },
        )?;
        authority.issue_to(
            &pki,
            &Identity {
                file: "kube-proxy",
                user: "system:kube-proxy",
                ..Identity::default()
            },
        )?;
        let parts = self.lab.parts();
        for (from, programs) in [
            (&parts.kubernetes, ["kubelet", "kube-proxy"].as_slice()),
            (&parts.containerd, &["containerd", "containerd-shim-runc-v2", "ctr"]),
            (&parts.cnitool, &["cnitool"]),
        ] {
            for program in programs {
                link_or_copy(&from.join(program), &folder.join("bin").join(program))?;
            }
        }
        // What the disk's images were made of, so that a later `load` sees what is new.
        for archive in image_store::archives(&self.lab) {
            let name = archive.file_name().context("an image archive has no name")?;
            link_or_copy(&archive, &folder.join("images").join(name))?;
        }
        let others = (1..=self.lab.node_count()).filter(|other| *other != self.number);
        let routes: Vec<String> = others
            .map(|n| format!("{},{}", pod_prefix(n), node_address(n)))
            .collect();
        let guest_pki = Path::new("/lab/pki");
        for (file, text) in [
            ("node.sh", NODE_SCRIPT.to_owned()),
            (
                "node.env",
                format!("NODE={name}\nADDRESS={address}\nROUTES=\"{}\"\n", routes.join(" ")),
            ),
            ("containerd.toml", CONTAINERD_CONFIG.to_owned()),
            ("kubelet.yaml", KUBELET_CONFIG.to_owned()),
            (
                "kubelet.kubeconfig",
                kubeconfig(&control_plane::server(), guest_pki, "kubelet"),
            ),
            (
                "kube-proxy.kubeconfig",
                kubeconfig(&control_plane::server(), guest_pki, "kube-proxy"),
            ),
            ("pod.conflist", format!("{:#}", pod_network(self.number))),
        ] {
            fs::write(folder.join(file), text).with_context(|| format!("cannot write {file} of {name}"))?;
        }
        fs::copy(self.lab.state().join("ssh.key.pub"), folder.join("authorized_keys"))?;
        Ok(())
    }

    /// Makes the machine's disk anew, with a copy of `content` on it. It has a journal: what is on it must survive a power cut.
    pub(super) fn make_disk(&self, content: &Path) -> Result<()> {
        let disk = self.disk();
        fs::File::create(&disk)?.set_len(DISK_BYTES)?;
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args([
            "-q",
            "-F",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
            "-d",
        ])
        .arg(content)
        .arg(&disk);
        capture(&mut mkfs, LIMIT)?.ok().map(drop)
    }

    /// Switches the machine on with the disk that it has.
    pub(super) fn start(&self) -> Result<Daemon> {
        let disk = self.disk();
        ensure!(
            disk.is_file(),
            "{} has no disk at {}: start the lab anew",
            self.name(),
            disk.display()
        );
        let qemu = Path::new("qemu-system-x86_64");
        self.lab
            .namespace()
            .daemon(&self.name(), qemu, &self.machine(&disk), &self.lab.log(&self.name()))
    }

    fn disk(&self) -> PathBuf {
        self.lab.state().join(format!("{}.disk", self.name()))
    }

    /// The arguments by which the machine's process is found again.
    pub(super) fn name_arguments(&self) -> [String; 2] {
        ["-name".to_owned(), self.name()]
    }

    fn machine(&self, disk: &Path) -> Vec<String> {
        let (n, parts) = (self.number, self.lab.parts());
        let mut arguments: Vec<String> = self.name_arguments().into();
        let mut add = |flag: &str, value: String| arguments.extend([format!("-{flag}"), value]);
        add("machine", "q35".into());
        add("accel", "tcg,thread=multi,tb-size=1024".into());
        add("cpu", "max".into());
        add("smp", PROCESSORS.to_string());
        add("m", MEMORY_MIB.to_string());
        add("display", "none".into());
        // What it said before a power cut stays readable.
        add(
            "chardev",
            format!("file,id=console,append=on,path={}", self.console_log().display()),
        );
        add("serial", "chardev:console".into());
        add(
            "qmp",
            format!("unix:{},server=on,wait=off", self.socket("qmp").display()),
        );
        add("kernel", parts.kernel.join("vmlinuz").display().to_string());
        add("initrd", parts.kernel.join("initramfs").display().to_string());
        add("append", "console=ttyS0 panic=-1 quiet mitigations=off".into());
        for (tag, path) in [
            ("root", parts.root.clone()),
            ("lab", self.folder()),
            ("modules", parts.kernel.join("modules")),
        ] {
            let path = path.display();
            add(
                "fsdev",
                format!("local,id={tag},path={path},security_model=none,multidevs=remap,readonly=on"),
            );
            add("device", format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
        add(
            "drive",
            format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display()),
        );
        add("device", "virtio-blk-pci,drive=disk".into());
        add(
            "netdev",
            format!("tap,id=mgmt,ifname={},script=no,downscript=no", mgmt_tap(n)),
        );
        add(
            "device",
            format!("virtio-net-pci,netdev=mgmt,mac=52:54:00:01:00:{n:02x},romfile="),
        );
        for rail in 0..RAILS {
            // A root port each, as SR-IOV ports have them: pcieRoot differs, and so does the function's bus.
            add(
                "netdev",
                format!("tap,id=rail{rail},ifname={},script=no,downscript=no", rail_tap(n, rail)),
            );
            add("device", format!("pcie-root-port,id=slot{rail},slot={}", rail + 1));
            add(
                "device",
                format!("igb,netdev=rail{rail},bus=slot{rail},mac=52:54:00:1{rail}:00:{n:02x}"),
            );
        }
        arguments
    }

    /// The boot that Kubernetes knows of.
    pub(super) fn known_boot(&self) -> Result<String> {
        let path = "-o=jsonpath={.status.nodeInfo.bootID}";
        Ok(self.lab.kubectl(&["get", "node", &self.name(), path])?.ok()?.stdout)
    }

    /// Waits until Kubernetes calls the node ready, and not because of the boot `earlier`: a node that lost its power is called
    /// ready for most of a minute.
    pub(super) fn wait_ready(&self, machine: &mut [Daemon], power_on: Instant, earlier: Option<&str>) -> Result<()> {
        let path = r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        wait_while_alive(
            machine,
            &format!("{} becomes Ready", self.name()),
            READY_LIMIT,
            Duration::from_secs(1),
            || {
                if earlier.is_some_and(|earlier| self.known_boot().is_ok_and(|now| now == earlier)) {
                    bail!("its kubelet has not said yet that it was booted");
                }
                let status = self.lab.kubectl(&["get", "node", &self.name(), path])?.ok()?;
                if status.stdout == "True" {
                    Ok(())
                } else {
                    bail!("its Ready condition is `{}`", status.stdout)
                }
            },
        )?;
        say(format!(
            "{} Ready {:.1}s after power-on",
            self.name(),
            power_on.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Waits for the way in, and keeps one ssh connection open for the commands to come.
    pub(super) fn wait_usable(&self, machine: &mut [Daemon]) -> Result<()> {
        let what = format!("{} answers over ssh", self.name());
        wait_while_alive(machine, &what, LIMIT, Duration::from_secs(1), || {
            self.exec("true", LIMIT)?.ok().map(|_| ())
        })?;
        let log = self.lab.log(&format!("{}-ssh", self.name()));
        Namespace::daemon_of(&self.ssh(&["-M", "-N"]), "ssh", &log).map(|_| ())
    }
}

/// The cluster's own network: point-to-point links, a prefix per node, plain routes between nodes. Without masquerading, pods see
/// each other's addresses.
fn pod_network(node: usize) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pod",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni-ipam",
                "ranges": [[{"subnet": pod_prefix(node)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// Programs are large and never written to: a second name for the same file will do where the file system allows it.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_file(to)?;
    }
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).map(|_| ()))
        .with_context(|| format!("cannot put {} at {}", from.display(), to.display()))
}

/// Key for the way into the nodes.
pub(super) fn make_ssh_key(lab: &Lab) -> Result<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args([
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-C",
        &format!("railhead-lab@{HOST_ADDRESS}"),
        "-f",
    ]);
    capture(keygen.arg(lab.state().join("ssh.key")), LIMIT)?
        .ok()
        .map(|_| ())
}
