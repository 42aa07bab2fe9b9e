//! Programs of the machine itself: what the lab needs from Debian, and how it is installed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::debian::{KEYRING, Mirror};
use crate::lab::progress::say;
use crate::lab::run::capture;

const LIMIT: Duration = Duration::from_mins(20);
const BACKPORTS: &str = "/etc/apt/sources.list.d/railhead-lab-backports.sources";

/// A program the lab calls, and the package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("cpio", "cpio"),
    ("debootstrap", "debootstrap"),
    ("depmod", "kmod"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nsenter", "util-linux"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("tcpdump", "tcpdump"),
    ("xz", "xz-utils"),
];

/// Installs what is missing, says so before, and answers with the mirror that this machine uses.
pub fn install_packages() -> Result<Mirror> {
    let mirror = Mirror::find()?;
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !on_path(program))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    let qemu = !qemu_has_sriov();
    if missing.is_empty() && !qemu {
        say("nothing to install");
        return Ok(mirror);
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab has to install packages and to make network namespaces: run it as root");
    }
    let backports = qemu && mirror.release == "bookworm";
    if backports {
        say(format!("adding {BACKPORTS}: QEMU below 8.0 has no SR-IOV network card"));
        let suite = format!("{}-backports", mirror.release);
        let source = format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n",
            mirror.uri
        );
        fs::write(BACKPORTS, source).with_context(|| format!("cannot write {BACKPORTS}"))?;
    }
    let all = missing
        .iter()
        .copied()
        .chain(qemu.then_some("qemu-system-x86"))
        .collect::<Vec<_>>();
    say(format!("installing with apt: {}", all.join(" ")));
    apt(&["update"])?;
    if !missing.is_empty() {
        apt(&[&["install"], missing.as_slice()].concat())?;
    }
    if qemu {
        let target = format!("{}-backports", mirror.release);
        let from: &[&str] = if backports { &["-t", &target] } else { &[] };
        apt(&[&["install"], from, &["qemu-system-x86", "ipxe-qemu"]].concat())?;
    }
    if !qemu_has_sriov() {
        bail!("qemu-system-x86_64 still has no igb device after the installation: it has to be QEMU 8.0 or newer");
    }
    Ok(mirror)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    capture(&mut command, LIMIT)?.ok().map(|_| ())
}

fn qemu_has_sriov() -> bool {
    on_path("qemu-system-x86_64")
        && capture(
            Command::new("qemu-system-x86_64").args(["-device", "help"]),
            Duration::from_mins(1),
        )
        .is_ok_and(|help| help.stdout.contains("name \"igb\""))
}

fn on_path(program: &str) -> bool {
    // Debian keeps administration programs out of an ordinary user's PATH.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|dir| Path::new(dir).join(program).is_file())
}
