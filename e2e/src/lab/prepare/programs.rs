//! Third-party programs, built from pinned Go modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::lab::cache::Cache;
use crate::lab::pins::{Program, key};
use crate::lab::run::{capture, logged};

/// Kubernetes with an empty Go cache takes eight minutes on two idle cores.
const LIMIT: Duration = Duration::from_hours(1);
const RECIPE: &str = "go 1";

/// Says how to get Go where it is missing. Any Go since 1.21 fetches the exact toolchain that a module asks for.
pub(super) fn check_toolchain() -> Result<()> {
    match capture(Command::new("go").arg("version"), Duration::from_mins(1)) {
        Ok(output) if output.success() => Ok(()),
        _ => bail!(
            "no `go` on the PATH: the lab builds Kubernetes, etcd and containerd from source; \
             install Go 1.21 or newer (Debian: apt-get install -t bookworm-backports golang-go; or https://go.dev/dl)"
        ),
    }
}

pub(super) fn slot(cache: &Cache, program: &Program) -> Result<PathBuf> {
    Ok(cache.slot(&program.name, &key(program, RECIPE)?))
}

pub(super) fn build(cache: &Cache, program: &Program) -> Result<PathBuf> {
    let label = &program.name;
    cache.build(label, &key(program, RECIPE)?, |folder| {
        let source = folder.join("source");
        fs::create_dir(&source)?;
        fs::write(source.join("go.mod"), go_mod(program)?)?;
        let packages = program.packages.iter().map(|package| match package.as_str() {
            "." => program.module.clone(),
            sub => format!("{}/{sub}", program.module),
        });
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-buildvcs=false", "-mod=mod", "-o"])
            .arg(folder);
        let flags = program
            .stamp
            .iter()
            .fold("-s -w".to_owned(), |flags, stamp| flags + " -X " + stamp);
        go.arg("-ldflags").arg(flags);
        go.arg("-tags").arg(program.tags.join(","));
        go.args(packages)
            .current_dir(&source)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "")
            .env("GOWORK", "off");
        logged(&mut go, &folder.join("build.log"), LIMIT)?;
        if let Some(binary) = &program.binary {
            rename_only_program(folder, binary)?;
        }
        Ok(())
    })
}

/// A module of our own that requires the pinned one: replacements count only in the main module,
/// so the one that Kubernetes needs for its staging modules is repeated here.
fn go_mod(program: &Program) -> Result<String> {
    #[derive(Deserialize)]
    struct Downloaded {
        #[serde(rename = "GoMod")]
        go_mod: PathBuf,
    }
    let mut lines = vec!["module lab".to_owned(), "go 1.24.0".to_owned()];
    lines.push(format!("require {} v{}", program.module, program.version));
    if let Some(staging) = &program.staging {
        let wanted = format!("{}@v{}", program.module, program.version);
        let output = capture(
            Command::new("go")
                .args(["mod", "download", "-json", &wanted])
                .env("GOFLAGS", ""),
            LIMIT,
        )?
        .ok()?;
        let downloaded: Downloaded = serde_json::from_str(&output.stdout).context("`go mod download -json`")?;
        lines.extend(
            staging_modules(&fs::read_to_string(downloaded.go_mod)?).map(|m| format!("replace {m} => {m} v{staging}")),
        );
    }
    Ok(lines.join("\n") + "\n")
}

fn staging_modules(go_mod: &str) -> impl Iterator<Item = &str> {
    go_mod.lines().filter_map(|line| line.trim().strip_suffix(" v0.0.0"))
}

fn rename_only_program(folder: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_none() {
            fs::rename(&path, folder.join(name))?;
            return Ok(());
        }
    }
    bail!("go build left no program in {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modules_required_at_v0_0_0_are_staging_modules() {
        let text = "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/utils v0.0.0-2024\n\tk8s.io/kubelet v0.0.0\n)\n";
        assert_eq!(
            staging_modules(text).collect::<Vec<_>>(),
            ["k8s.io/api", "k8s.io/kubelet"]
        );
    }
}
