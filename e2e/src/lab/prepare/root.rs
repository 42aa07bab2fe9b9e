//! The node's root file system: a small Debian, shared read-only by all nodes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::debian::{KEYRING, Mirror};
use crate::lab::cache::Cache;
use crate::lab::pins::{Root, key};
use crate::lab::run::logged;

pub(super) const RECIPE: &str = "root 1";
const LIMIT: Duration = Duration::from_mins(30);
/// Weight that no node reads.
const UNREAD: &[&str] = &[
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt",
];

pub(super) fn slot(cache: &Cache, root: &Root) -> Result<PathBuf> {
    Ok(cache.slot("root", &key(root, RECIPE)?))
}

pub(super) fn build(cache: &Cache, root: &Root, mirror: &Mirror) -> Result<PathBuf> {
    cache.build("root", &key(root, RECIPE)?, |folder| {
        let log = folder.with_extension("log");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap
            .args(["--variant=minbase", "--arch=amd64"])
            .arg(format!("--keyring={KEYRING}"))
            .arg(format!("--include={}", root.packages.join(",")))
            .arg(&root.suite)
            .arg(folder)
            .arg(&mirror.uri);
        logged(&mut debootstrap, &log, LIMIT)?;
        for unread in UNREAD {
            let path = folder.join(unread);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        fs::remove_file(log)?;
        Ok(())
    })
}
