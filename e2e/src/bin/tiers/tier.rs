//! The tiers, and the cargo commands that run them.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use railhead_e2e::lab::run;
use serde_json::Value;

/// The tiers, from the least to the most power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Licences, sources and bans of all dependencies, and dependencies that nobody uses.
    Dependencies,
    /// Nothing outside the process.
    Unit,
    /// This kernel's network namespaces and netlink.
    Netns,
    /// A real API server, scheduler and controller manager.
    ControlPlane,
    /// Real Kubernetes on two machines with SR-IOV and RDMA.
    Lab,
}

/// The names of a tier's ignored tests.
pub(crate) fn ignored(tier: Tier) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for command in &mut commands(tier, &["--", "--list", "--ignored"])? {
        let output = command.output().context("cannot start cargo")?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        names.extend(listed(&String::from_utf8_lossy(&output.stdout)));
    }
    Ok(names)
}

/// The names in what a test runner lists, a line `name: test` for each.
fn listed(output: &str) -> Vec<String> {
    let names = output.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(|name| format!("{name} (ignored)")).collect()
}

/// The cargo commands of a tier, with `more` at their ends.
pub(crate) fn commands(tier: Tier, more: &[&str]) -> Result<Vec<Command>> {
    let cargo = |arguments: &[&str]| {
        let mut command = run::cargo();
        command.args(["test", "--quiet", "--locked"]).args(arguments).args(more);
        command
    };
    Ok(match tier {
        Tier::Dependencies => Vec::new(),
        Tier::Unit => {
            let others: Vec<String> = test_targets()?
                .into_iter()
                .filter(|target| !is_netns(target))
                .flat_map(|t| ["--test".into(), t])
                .collect();
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            vec![
                cargo(
                    &[
                        &["--workspace", "--exclude", "railhead-e2e", "--lib", "--bins"],
                        others.as_slice(),
                    ]
                    .concat(),
                ),
                cargo(&["--package", "railhead-e2e", "--lib", "--bins"]),
            ]
        }
        Tier::Netns => {
            let netns: Vec<String> = test_targets()?
                .into_iter()
                .filter(|target| is_netns(target))
                .flat_map(|t| ["--test".into(), t])
                .collect();
            ensure!(!netns.is_empty(), "no test target has netns in its name");
            let netns: Vec<&str> = netns.iter().map(String::as_str).collect();
            vec![cargo(
                &[&["--workspace", "--exclude", "railhead-e2e"], netns.as_slice()].concat(),
            )]
        }
        Tier::ControlPlane => vec![cargo(&["--package", "railhead-e2e", "--test", "control_plane"])],
        Tier::Lab => vec![cargo(&["--package", "railhead-e2e", "--test", "lab"])],
    })
}

/// Tests that need root and namespaces of their own have `netns` in the name of their target.
fn is_netns(target: &str) -> bool {
    target.contains("netns")
}

/// Names of the integration tests of all crates but this one.
fn test_targets() -> Result<BTreeSet<String>> {
    let output = run::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    Ok(packages
        .iter()
        .filter(|package| package["name"] != "railhead-e2e")
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_tests_are_named() {
        let output = "ends::a_network: test\nbench_me: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(listed(output), ["ends::a_network (ignored)"]);
    }
}
