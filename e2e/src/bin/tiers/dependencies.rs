//! Licences, sources and bans of all dependencies, and dependencies that nobody uses.

use std::process::Command;

use anyhow::{Result, ensure};
use railhead_e2e::lab::{cache::Cache, progress::step, run};

/// Tools that check dependencies, built once into the cache.
const TOOLS: [(&str, &str); 2] = [("cargo-deny", "0.19.0"), ("cargo-machete", "0.9.2")];

/// Builds the tools where the cache has none, and runs them.
pub(crate) fn check() -> Result<()> {
    let mut tools = Vec::new();
    for (name, version) in TOOLS {
        let root = Cache::open()?.root().join("tools").join(format!("{name}-{version}"));
        let program = root.join("bin").join(name);
        if !program.is_file() {
            step(&format!("building {name} {version}, once"), || {
                let status = run::cargo()
                    // They run for a second: optimizing them would take minutes.
                    .args([
                        "install",
                        "--quiet",
                        "--debug",
                        "--locked",
                        name,
                        "--version",
                        version,
                        "--root",
                    ])
                    .arg(&root)
                    .status()?;
                ensure!(status.success(), "cargo install {name} ended with {status}");
                Ok(())
            })?;
        }
        tools.push(program);
    }
    let checks: [(usize, &[&str]); 2] = [
        (
            0,
            &[
                "--locked",
                "--log-level",
                "error",
                "check",
                "bans",
                "licenses",
                "sources",
            ],
        ),
        (1, &[]),
    ];
    for (tool, arguments) in checks {
        let status = Command::new(&tools[tool]).args(arguments).status()?;
        ensure!(status.success(), "{} ended with {status}", tools[tool].display());
    }
    Ok(())
}
