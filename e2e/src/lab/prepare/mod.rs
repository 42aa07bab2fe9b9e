//! `lab prepare`: everything that is downloaded or built once per set of pins.

mod apt;
mod debian;
mod kernel;
mod programs;
mod root;

use std::path::PathBuf;
use std::thread;

use anyhow::{Result, anyhow};

pub use apt::install_packages;
pub use debian::Mirror;

use super::cache::Cache;
use super::images::build_base_images;
use super::pins::{Pins, Root, key};
use super::progress::step;

/// Where the prepared parts are.
#[derive(Debug, Clone)]
pub struct Parts {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, kubectl.
    pub kubernetes: PathBuf,
    /// etcd.
    pub etcd: PathBuf,
    /// containerd, its runc shim, ctr.
    pub containerd: PathBuf,
    /// helm.
    pub helm: PathBuf,
    /// cnitool.
    pub cnitool: PathBuf,
    /// The node's root file system.
    pub root: PathBuf,
    /// Folder with `vmlinuz`, `initramfs`, `version` and `modules/`.
    pub kernel: PathBuf,
    /// Folder with the image archives that every lab needs: `pause.tar` and `tools.tar`.
    pub images: PathBuf,
}

const IMAGES_RECIPE: &str = "images 2";

fn images_key(root: &Root) -> Result<String> {
    key(root, &format!("{}{IMAGES_RECIPE}", root::RECIPE))
}

impl Parts {
    /// Where the parts for these pins belong, whether they are there or not.
    pub fn expected(cache: &Cache, pins: &Pins) -> Result<Self> {
        let program = |name: &str| programs::slot(cache, pins.program(name)?);
        Ok(Self {
            kubernetes: program("kubernetes")?,
            etcd: program("etcd")?,
            containerd: program("containerd")?,
            helm: program("helm")?,
            cnitool: program("cnitool")?,
            root: root::slot(cache, &pins.root)?,
            kernel: kernel::slot(cache, &pins.kernel)?,
            images: cache.slot("images", &images_key(&pins.root)?),
        })
    }

    /// The first part that is missing.
    pub fn missing(&self, with_nodes: bool) -> Option<&PathBuf> {
        let control_plane = [&self.kubernetes, &self.etcd];
        let nodes = [
            &self.helm,
            &self.containerd,
            &self.cnitool,
            &self.root,
            &self.kernel,
            &self.images,
        ];
        let nodes = nodes.into_iter().filter(|_| with_nodes);
        control_plane.into_iter().chain(nodes).find(|path| !path.is_dir())
    }
}

/// Which half of the parts to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// Programs built from Go modules.
    Programs,
    /// The node's kernel and root file system.
    Node,
}

/// Builds what is not in the cache yet. Downloads and Go builds run side by side: one waits for the net, the other for the processor.
pub fn prepare(cache: &Cache, only: Option<Half>) -> Result<Parts> {
    let pins = Pins::load()?;
    programs::check_toolchain()?;
    let mirror = step("installing what is missing on this machine", install_packages)?;
    thread::scope(|scope| {
        let node = scope.spawn(|| {
            if only != Some(Half::Programs) {
                kernel::build(cache, &pins.kernel, &mirror)?;
                let root = root::build(cache, &pins.root, &mirror)?;
                cache.build("images", &images_key(&pins.root)?, |folder| {
                    build_base_images(&root, folder)
                })?;
            }
            anyhow::Ok(())
        });
        let programs = pins.programs.iter().filter(|_| only != Some(Half::Node));
        let built = programs
            .map(|program| programs::build(cache, program).map(|_| ()))
            .collect::<Result<Vec<_>>>();
        node.join()
            .map_err(|_| anyhow!("the thread that builds the node's root panicked"))??;
        built.map(|_| ())
    })?;
    Parts::expected(cache, &pins)
}
