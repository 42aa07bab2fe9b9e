//! The node's kernel: the newest of the pinned suite, unpacked without installing it, with an initramfs that mounts the shared root.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::debian::{ForeignSuite, Mirror};
use crate::lab::cache::Cache;
use crate::lab::pins::{Kernel, key};
use crate::lab::progress::say;
use crate::lab::run::capture;

const RECIPE: &str = "kernel 4";
const LIMIT: Duration = Duration::from_mins(5);
const INIT: &str = include_str!("../../../lab/node/initramfs-init.sh");
/// What has to work before the root is mounted; everything else comes from the root itself.
const EARLY: &[&str] = &["virtio_pci", "virtio_blk", "9p", "9pnet_virtio", "overlay", "ext4"];

/// Half of all modules by weight, for hardware that no node has.
const UNUSED: &[&str] = &[
    "sound",
    "drivers/gpu",
    "drivers/media",
    "drivers/net/wireless",
    "drivers/staging",
    "drivers/iio",
];

pub(super) fn slot(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    Ok(cache.slot("kernel", &recipe_key(kernel)?))
}

fn recipe_key(kernel: &Kernel) -> Result<String> {
    key(kernel, &format!("{RECIPE}{INIT}"))
}

pub(super) fn build(cache: &Cache, kernel: &Kernel, mirror: &Mirror) -> Result<PathBuf> {
    cache.build("kernel", &recipe_key(kernel)?, |folder| {
        let apt = folder.join("apt");
        let suite = ForeignSuite::open(&apt, mirror, &kernel.suite)?;
        let names = suite.package_names()?;
        let version = newest(names.iter().map(String::as_str), &kernel.minimum)
            .with_context(|| format!("{} has no kernel of at least {}", kernel.suite, kernel.minimum))?;
        say(format!("kernel {version} from {}", kernel.suite));
        let unpacked = folder.join("unpacked");
        let packages = [
            format!("linux-binary-{version}"),
            format!("linux-modules-{version}"),
            "busybox-static".to_owned(),
        ];
        suite.unpack(&[&packages[0], &packages[1]], &unpacked)?;
        // The backports suite has no busybox of its own; the stable one of this machine's mirror does.
        let stable = ForeignSuite::open(&apt.join("stable"), mirror, &mirror.release)?;
        stable.unpack(&[&packages[2]], &unpacked)?;
        let modules = unpacked.join("usr/lib/modules").join(version);
        fs::copy(modules.join("vmlinuz"), folder.join("vmlinuz")).context("the kernel package has no vmlinuz")?;
        for unused in UNUSED {
            fs::remove_dir_all(modules.join("kernel").join(unused)).ok();
        }
        // Unpacking modules takes seconds of every boot under emulation, and a moment here.
        let unxz = r#"find "$0" -name '*.ko.xz' -print0 | xargs -0 -P 0 -n 200 xz -d"#;
        capture(Command::new("sh").args(["-c", unxz]).arg(&modules), LIMIT)?.ok()?;
        capture(
            Command::new("depmod").arg("-b").arg(unpacked.join("usr")).arg(version),
            LIMIT,
        )?
        .ok()?;
        initramfs(&unpacked, &modules, version, &folder.join("initramfs"))?;
        fs::create_dir(folder.join("modules"))?;
        fs::rename(&modules, folder.join("modules").join(version))?;
        fs::write(folder.join("version"), version)?;
        fs::remove_dir_all(&unpacked)?;
        fs::remove_dir_all(&apt)?;
        Ok(())
    })
}

/// The newest plain amd64 kernel among package names like `linux-binary-7.2.12+deb13-amd64`.
fn newest<'a>(names: impl Iterator<Item = &'a str>, minimum: &str) -> Option<&'a str> {
    names
        .filter_map(|name| name.strip_prefix("linux-binary-"))
        .filter(|version| version.ends_with("-amd64") && !version.contains("cloud") && !version.contains("-rt-"))
        .filter(|version| compare(version, minimum).is_ge())
        .max_by(|a, b| compare(a, b))
}

fn compare(a: &str, b: &str) -> Ordering {
    fn numbers(version: &str) -> impl Iterator<Item = u32> {
        let end = version
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(version.len());
        version[..end].split('.').filter_map(|part| part.parse().ok())
    }
    numbers(a).cmp(numbers(b))
}

fn initramfs(unpacked: &Path, modules: &Path, version: &str, out: &Path) -> Result<()> {
    let tree = unpacked.join("initramfs");
    for dir in ["bin", "lib", "proc", "sys", "dev", "root", "ro", "disk"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    let busybox = ["usr/bin/busybox", "bin/busybox"].map(|path| unpacked.join(path));
    let busybox = busybox
        .iter()
        .find(|path| path.is_file())
        .context("busybox-static has no busybox")?;
    fs::copy(busybox, tree.join("bin/busybox"))?;
    fs::write(tree.join("init"), INIT)?;
    capture(Command::new("chmod").arg("755").arg(tree.join("init")), LIMIT)?.ok()?;
    let kept = tree.join("lib/modules").join(version);
    let dependencies = fs::read_to_string(modules.join("modules.dep")).context("depmod wrote no modules.dep")?;
    for file in with_dependencies(&dependencies, EARLY) {
        let to = kept.join(file);
        fs::create_dir_all(to.parent().context("a module has no folder")?)?;
        fs::copy(modules.join(file), &to)?;
    }
    capture(Command::new("depmod").arg("-b").arg(&tree).arg(version), LIMIT)?.ok()?;
    let pack = format!("find . | cpio --quiet -o -H newc > {}", out.display());
    capture(Command::new("sh").args(["-c", &pack]).current_dir(&tree), LIMIT)?
        .ok()
        .map(|_| ())
}

/// The files of these modules and of everything they need, from the text of a `modules.dep`. Built-in modules have none.
fn with_dependencies<'a>(modules_dep: &'a str, wanted: &[&str]) -> BTreeSet<&'a str> {
    let is_wanted = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        wanted.iter().any(|name| file.split(".ko").next() == Some(name))
    };
    let lines = modules_dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(path, _)| is_wanted(path));
    lines
        .flat_map(|(path, needs)| std::iter::once(path).chain(needs.split_whitespace()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_plain_kernel_is_taken_by_number_not_by_letter() {
        let names = [
            "linux-binary-7.2.12+deb13-amd64",
            "linux-binary-7.2.9+deb13-amd64",
            "linux-binary-7.3.1+deb13-cloud-amd64",
            "linux-binary-6.12.3+deb13-amd64",
            "linux-modules-7.9.0+deb13-amd64",
        ];
        assert_eq!(newest(names.into_iter(), "7.1"), Some("7.2.12+deb13-amd64"));
        assert_eq!(newest(names.into_iter(), "7.4"), None);
    }

    #[test]
    fn an_early_module_comes_with_everything_it_needs() {
        let text = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
                    kernel/net/9p/9pnet.ko.xz:\nkernel/net/9p/9pnet_rdma.ko.xz: kernel/net/9p/9pnet.ko.xz\n";
        let files = with_dependencies(text, &["9p"]);
        assert_eq!(
            Vec::from_iter(files),
            [
                "kernel/fs/9p/9p.ko.xz",
                "kernel/fs/netfs/netfs.ko.xz",
                "kernel/net/9p/9pnet.ko.xz"
            ]
        );
    }
}
