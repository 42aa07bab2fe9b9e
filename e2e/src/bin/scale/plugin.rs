//! `kubectl railhead` in the large cluster: how long an answer takes, and how much memory the program that gives it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use railhead_e2e::lab::{Lab, progress::say};

use crate::{fill, operator, verdict::Verdict};

/// An answer takes at most so many seconds.
const SECONDS: f64 = 3.0;
/// And the program so many MB.
const MEGABYTES: f64 = 200.0;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How the plugin ends where all is well, and where it found something: a cluster of nodes that nobody runs has findings.
const ANSWERS: [i32; 2] = [0, 1];

/// Builds it for release.
pub(crate) fn build() -> Result<PathBuf> {
    operator::build("railhead-cli", "kubectl-railhead")
}

/// Asks each question once to warm the API server up and once for its figures.
pub(crate) fn measure(verdict: &mut Verdict, lab: &Lab, binary: &Path) -> Result<()> {
    let place = fill::place(0);
    let questions: [&[&str]; 3] = [
        &["status"],
        &["why", "network", &place.name, "--namespace", &place.namespace],
        &["fsck"],
    ];
    for question in questions {
        let words = question.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        ask(binary, &lab.kubeconfig(), question)?;
        let (seconds, megabytes) = ask(binary, &lab.kubeconfig(), question)?;
        verdict.at_most(format!("kubectl railhead {words}"), seconds, SECONDS, "s");
        verdict.at_most(
            format!("memory of kubectl railhead {words}"),
            megabytes,
            MEGABYTES,
            "MB",
        );
    }
    Ok(())
}

/// Seconds from start to end, and the most resident memory that was seen, in MB.
fn ask(binary: &Path, kubeconfig: &Path, question: &[&str]) -> Result<(f64, f64)> {
    let start = Instant::now();
    let mut child = Command::new(binary)
        .args(question)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let mut most = 0.0_f64;
    let status = loop {
        // One that has just ended has no memory any more.
        if let Ok((_, high)) = operator::resident(child.id()) {
            most = most.max(high);
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let seconds = start.elapsed().as_secs_f64();
    say(format!(
        "kubectl railhead {}: {status}, {seconds:.2} s",
        question.join(" ")
    ));
    ensure!(
        status.code().is_some_and(|code| ANSWERS.contains(&code)),
        "kubectl railhead {} ended with {status}",
        question.join(" ")
    );
    Ok((seconds, most))
}
