//! The lab's images: Railhead's own, from this workspace, and the ones that tests run in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::oci::Image;
use super::progress::{say, step};
use super::run::{capture, cargo, describe};
use crate::limits::{check_cni_binary, check_program};

const LIMIT: Duration = Duration::from_mins(1);
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Nodes import it at boot, and under emulation that takes half a second per megabyte.
const TOOLS_LIMIT: usize = 40 << 20;

/// Programs of the tools image, as paths in the node's root.
const TOOLS: &[&str] = &[
    "usr/bin/arping",
    "usr/bin/dash",
    "usr/bin/ib_read_bw",
    "usr/bin/ib_send_bw",
    "usr/bin/ib_send_lat",
    "usr/bin/ib_write_bw",
    "usr/bin/ib_write_lat",
    "usr/bin/ibv_devices",
    "usr/bin/ibv_devinfo",
    "usr/bin/ibv_rc_pingpong",
    "usr/bin/ip",
    "usr/bin/ping",
    "usr/bin/rdma",
    "usr/sbin/bridge",
    "usr/sbin/tc",
];

/// Full references of the images, as containerd stores them.
pub fn reference(image: &str) -> String {
    format!("docker.io/railhead/{image}:dev")
}

/// Where the images of this workspace's programs are written.
pub fn workspace_images() -> PathBuf {
    target_folder().join("images")
}

/// The image archives of this workspace that were built so far.
pub fn present_workspace_images() -> Vec<PathBuf> {
    let archives = ["operator", "agent"].map(|name| workspace_images().join(format!("{name}.tar")));
    archives.into_iter().filter(|archive| archive.is_file()).collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Where cargo puts what it builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// Builds a program of this workspace as the images hold theirs; answers with where it is.
pub fn build_static(package: &str, binary: &str) -> Result<PathBuf> {
    build(&[(package, binary)])?;
    Ok(target_folder().join(TARGET).join("release").join(binary))
}

fn build(programs: &[(&str, &str)]) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--target", TARGET]);
    for (package, binary) in programs {
        cargo.args(["--package", package, "--bin", binary]);
    }
    // Static, so that an image is one file and the program runs on any node.
    cargo.env(
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "-C target-feature=+crt-static",
    );
    cargo.current_dir(workspace());
    // Cargo's own progress is the best there is.
    let status = cargo.status().with_context(|| {
        format!(
            "cannot start `{}`: is Rust installed (https://rustup.rs)?",
            describe(&cargo)
        )
    })?;
    ensure!(status.success(), "`{}` ended with {status}", describe(&cargo));
    Ok(())
}

/// Builds the operator and agent images from this workspace.
pub fn build_workspace_images() -> Result<Vec<PathBuf>> {
    let programs = [
        ("railhead-operator", "railhead-operator"),
        ("railhead-agent", "railhead-agent"),
        ("railhead-cni", "railhead"),
    ];
    step("building Railhead's programs", || build(&programs))?;
    let built = target_folder().join(TARGET).join("release");
    check_program(&built.join("railhead-operator"))?;
    check_program(&built.join("railhead-agent"))?;
    check_cni_binary(&built.join("railhead"))?;
    let folder = workspace_images();
    fs::create_dir_all(&folder)?;

    let mut operator = Image::new(&["/railhead-operator"], "65532:65532");
    operator.copy(&built.join("railhead-operator"), "/railhead-operator", 0o755)?;
    let mut agent = Image::new(&["/railhead-agent"], "0:0");
    agent.copy(&built.join("railhead-agent"), "/railhead-agent", 0o755)?;
    agent.copy(&built.join("railhead"), "/opt/railhead/cni/railhead", 0o755)?;
    let mut written = Vec::new();
    for (name, image) in [("operator", operator), ("agent", agent)] {
        let archive = folder.join(format!("{name}.tar"));
        image.write(&reference(name), &archive)?;
        say(format!(
            "railhead/{name}:dev, {:.1} MB: {}",
            megabytes(image.size()),
            archive.display()
        ));
        written.push(archive);
    }
    Ok(written)
}

/// Writes the images that every lab needs, out of the node's root: `pause` and `tools`.
pub(super) fn build_base_images(root: &Path, folder: &Path) -> Result<()> {
    let mut pause = Image::new(&["/busybox", "tail", "-f", "/dev/null"], "65535:65535");
    pause.copy(&root.join("usr/bin/busybox"), "/busybox", 0o755)?;
    pause.write(&reference("pause"), &folder.join("pause.tar"))?;
    let tools = tools(root)?;
    ensure!(
        tools.size() < TOOLS_LIMIT,
        "the tools image has {:.1} MB: take something out",
        megabytes(tools.size())
    );
    tools.write(&reference("tools"), &folder.join("tools.tar"))?;
    say(format!("railhead/tools:dev, {:.1} MB", megabytes(tools.size())));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn tools(root: &Path) -> Result<Image> {
    let mut image = Image::new(&["/bin/sh"], "0:0");
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        image.link(link, target);
    }
    let mut files: Vec<String> = TOOLS.iter().map(|&tool| tool.to_owned()).collect();
    files.push(soft_roce_provider(root)?);
    for file in &files {
        image.copy(&root.join(file), file, 0o755)?;
        for library in libraries(root, file)? {
            if !image.contains(&library) {
                image.copy(&root.join(&library), &library, 0o755)?;
            }
        }
    }
    image.copy(
        &root.join("etc/libibverbs.d/rxe.driver"),
        "/etc/libibverbs.d/rxe.driver",
        0o644,
    )?;
    image.copy(&root.join("usr/bin/busybox"), "/usr/bin/busybox", 0o755)?;
    // busybox's own shell would take its applets for `ip` and `ping`, and not the programs above.
    image.link("/usr/bin/sh", "dash");
    let applets = capture(
        Command::new("chroot").arg(root).args(["/usr/bin/busybox", "--list"]),
        LIMIT,
    )?
    .ok()?;
    for applet in applets.stdout.lines() {
        let paths = [format!("/usr/bin/{applet}"), format!("/usr/sbin/{applet}")];
        if !paths.iter().any(|path| image.contains(path)) {
            image.link(&paths[0], "busybox");
        }
    }
    Ok(image)
}

fn soft_roce_provider(root: &Path) -> Result<String> {
    let folder = "usr/lib/x86_64-linux-gnu/libibverbs";
    for entry in fs::read_dir(root.join(folder)).context("the node's root has no libibverbs providers")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("librxe-") {
            return Ok(format!("{folder}/{name}"));
        }
    }
    bail!("the node's root has no soft-RoCE provider in {folder}")
}

/// Every shared library a file needs, as paths in the root.
fn libraries(root: &Path, file: &str) -> Result<Vec<String>> {
    let listed = capture(
        Command::new("chroot")
            .arg(root)
            .args(["/usr/bin/ldd", &format!("/{file}")]),
        LIMIT,
    )?
    .ok()?;
    Ok(library_paths(&listed.stdout))
}

fn library_paths(ldd: &str) -> Vec<String> {
    let paths = ldd
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths
        .map(|path| {
            let path = path.trim_start_matches('/');
            if path.starts_with("usr/") {
                path.to_owned()
            } else {
                format!("usr/{path}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_under_usr_and_the_vdso_is_left_out() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \tlibz.so.1 => /usr/lib/x86_64-linux-gnu/libz.so.1 (0x0)\n\t/lib64/ld-linux-x86-64.so.2 (0x0)\n";
        let expected = [
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "usr/lib/x86_64-linux-gnu/libz.so.1",
            "usr/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(library_paths(text), expected);
    }
}
