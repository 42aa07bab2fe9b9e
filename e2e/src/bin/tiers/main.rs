//! `make test`: runs every test tier, shows its output, and says at the end how many tests ran in each, and why the failed ones
//! failed.

mod dependencies;
mod output;
mod tier;
mod verdict;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use clap::Parser;
use railhead_e2e::lab::{cache::Cache, prepare::prepare, progress::say};

use crate::{
    output::{Count, run_tests},
    tier::{Tier, commands, ignored},
    verdict::verdict,
};

#[derive(Parser)]
struct Arguments {
    /// Only these tiers.
    #[arg(long, value_enum)]
    only: Vec<Tier>,
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
    let (mut lines, mut not_run, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    let (mut total, mut good) = (Count::default(), true);
    for tier in wanted {
        let start = Instant::now();
        say(format!("tier {tier:?}"));
        let mut count = Count::default();
        let result = match tier {
            Tier::Dependencies => dependencies::check(),
            _ => commands(tier, &[])?
                .iter_mut()
                .try_for_each(|command| run_tests(command, &mut count)),
        };
        if let Err(error) = &result {
            eprintln!("tier {tier:?}: {error:#}");
            if count.failures.is_empty() {
                count.failures.push(format!("{error:#}"));
            }
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
        failures.extend(count.failures.into_iter().map(|why| format!("{tier:?}: {why}")));
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
    // Once more, at the very end: thousands of lines of logs may stand between here and the tests.
    for failure in failures {
        println!("\n{failure}");
    }
    Ok(good)
}
