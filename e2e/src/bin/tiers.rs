//! `make test`: runs every test tier, shows its output, and says at the end how many tests ran in each.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use railhead_e2e::lab::{
    cache::Cache,
    prepare::prepare,
    progress::{say, step},
    run,
};
use serde_json::Value;

/// The tiers, from the least to the most power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Tier {
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

#[derive(Parser)]
struct Arguments {
    /// Only these tiers.
    #[arg(long, value_enum)]
    only: Vec<Tier>,
}

/// Tools that check dependencies, built once into the cache.
const TOOLS: [(&str, &str); 2] = [("cargo-deny", "0.19.0"), ("cargo-machete", "0.9.2")];

#[derive(Default)]
struct Count {
    passed: u32,
    failed: u32,
    /// Marked in the source so that they do not run.
    ignored: u32,
    /// This machine cannot run them.
    skipped: u32,
    /// Why or what, a line for each that did not run.
    not_run: Vec<String>,
}

fn main() -> ExitCode {
    match run_tiers(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tiers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_tiers(arguments: &Arguments) -> Result<bool> {
    let all = [
        Tier::Dependencies,
        Tier::Unit,
        Tier::Netns,
        Tier::ControlPlane,
        Tier::Lab,
    ];
    let wanted: Vec<Tier> = all
        .into_iter()
        .filter(|tier| arguments.only.is_empty() || arguments.only.contains(tier))
        .collect();
    if wanted.iter().any(|tier| *tier >= Tier::ControlPlane) {
        prepare(&Cache::open()?, None)?;
    }
    let must_be_complete = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let (mut lines, mut not_run) = (Vec::new(), Vec::new());
    let (mut total, mut good) = (Count::default(), true);
    for tier in wanted {
        let start = Instant::now();
        say(format!("tier {tier:?}"));
        let mut count = Count::default();
        let result = match tier {
            Tier::Dependencies => dependencies(),
            _ => commands(tier, &[])?
                .iter_mut()
                .try_for_each(|command| run_tests(command, &mut count)),
        };
        if let Err(error) = &result {
            eprintln!("tier {tier:?}: {error:#}");
        }
        if count.ignored > 0 {
            count.not_run.extend(ignored(tier)?);
        }
        let verdict = verdict(tier, &count, result.is_ok(), must_be_complete);
        good &= verdict.is_good();
        lines.push(format!(
            "{:<14} {:>4} passed {:>3} failed {:>3} ignored {:>3} skipped  {:>5.0} s  {}",
            format!("{tier:?}"),
            count.passed,
            count.failed,
            count.ignored,
            count.skipped,
            start.elapsed().as_secs_f64(),
            verdict.text()
        ));
        total.passed += count.passed;
        total.failed += count.failed;
        total.ignored += count.ignored;
        total.skipped += count.skipped;
        not_run.extend(count.not_run.into_iter().map(|what| format!("  {tier:?}: {what}")));
    }
    println!("\n{}", lines.join("\n"));
    println!(
        "{} passed, {} failed, {} ignored, {} skipped",
        total.passed, total.failed, total.ignored, total.skipped
    );
    if !not_run.is_empty() {
        println!("did not run:\n{}", not_run.join("\n"));
    }
    Ok(good)
}

/// What is said about a tier at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// What ran has passed, and not everything ran.
    Incomplete,
    Failed,
}

impl Verdict {
    fn is_good(self) -> bool {
        self != Self::Failed
    }

    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Incomplete => "ok as far as it ran",
            Self::Failed => "FAILED",
        }
    }
}

/// A tier that ran nothing proves nothing. Where it must be complete (`CI=true`), one that left something out does not either.
fn verdict(tier: Tier, count: &Count, ended_well: bool, must_be_complete: bool) -> Verdict {
    let is_complete = count.ignored + count.skipped == 0;
    // Some of the dependency checks count nothing, and a tier that this machine cannot run says so.
    let is_empty = tier != Tier::Dependencies && count.passed + count.failed + count.skipped == 0;
    if !ended_well || count.failed > 0 || is_empty || (must_be_complete && !is_complete) {
        Verdict::Failed
    } else if is_complete {
        Verdict::Ok
    } else {
        Verdict::Incomplete
    }
}

/// The names of a tier's ignored tests.
fn ignored(tier: Tier) -> Result<Vec<String>> {
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
fn commands(tier: Tier, more: &[&str]) -> Result<Vec<Command>> {
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

/// Runs one test command, passing its output through, and adds up what its runners report.
fn run_tests(command: &mut Command, count: &mut Count) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().ok_or_else(|| anyhow!("cargo has no output"))?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if line.starts_with("SKIP") {
            count.skipped += 1;
            count.not_run.push(line.clone());
        }
        if let Some(result) = line.strip_prefix("test result:") {
            let number = |what: &str| {
                let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
                words
                    .windows(2)
                    .find(|pair| pair[1] == what)
                    .and_then(|pair| pair[0].parse().ok())
                    .unwrap_or(0u32)
            };
            count.passed += number("passed");
            count.failed += number("failed");
            count.ignored += number("ignored");
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn dependencies() -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u32, failed: u32, ignored: u32, skipped: u32) -> Count {
        Count {
            passed,
            failed,
            ignored,
            skipped,
            not_run: Vec::new(),
        }
    }

    #[test]
    fn a_test_that_did_not_run_is_a_failure_where_everything_must_run() {
        for left_out in [count(9, 0, 1, 0), count(9, 0, 0, 1), count(0, 0, 0, 1)] {
            assert_eq!(verdict(Tier::Lab, &left_out, true, true), Verdict::Failed);
            assert_eq!(verdict(Tier::Lab, &left_out, true, false), Verdict::Incomplete);
        }
        assert_eq!(verdict(Tier::Lab, &count(9, 0, 0, 0), true, true), Verdict::Ok);
    }

    #[test]
    fn a_tier_without_tests_and_a_runner_that_fails_are_failures_everywhere() {
        for must_be_complete in [false, true] {
            assert_eq!(
                verdict(Tier::Unit, &count(0, 0, 0, 0), true, must_be_complete),
                Verdict::Failed
            );
            assert_eq!(
                verdict(Tier::Unit, &count(9, 0, 0, 0), false, must_be_complete),
                Verdict::Failed
            );
            assert_eq!(
                verdict(Tier::Unit, &count(9, 1, 0, 0), true, must_be_complete),
                Verdict::Failed
            );
        }
        assert_eq!(verdict(Tier::Dependencies, &count(0, 0, 0, 0), true, true), Verdict::Ok);
    }

    #[test]
    fn ignored_tests_are_named() {
        let output = "ends::a_network: test\nbench_me: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(listed(output), ["ends::a_network (ignored)"]);
    }
}
