//! What test runners print: libtest, and the runners of the control plane and the lab, which print the same.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, ensure};

/// Lines of a failed test's output that are repeated at the end; the rest is where it was printed.
const REPEATED: usize = 12;

#[derive(Default)]
pub(crate) struct Count {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// Marked in the source so that they do not run.
    pub(crate) ignored: u32,
    /// This machine cannot run them.
    pub(crate) skipped: u32,
    /// Why or what, a line for each that did not run.
    pub(crate) not_run: Vec<String>,
    /// Name and reason of each that failed.
    pub(crate) failures: Vec<String>,
}

/// Reads the output of one command.
struct Reader<'a> {
    count: &'a mut Count,
    /// Between the line `failures:` before the reasons and the one before the list of names.
    in_reasons: bool,
}

impl<'a> Reader<'a> {
    fn new(count: &'a mut Count) -> Self {
        Self {
            count,
            in_reasons: false,
        }
    }

    /// Takes a line of a runner's output into account.
    fn read(&mut self, line: &str) {
        if line.starts_with("SKIP") {
            self.count.skipped += 1;
            self.count.not_run.push(line.to_owned());
        }
        if line == "failures:" {
            self.in_reasons = !self.in_reasons;
        } else if let Some(result) = line.strip_prefix("test result:") {
            self.in_reasons = false;
            let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            let number = |what: &str| {
                let mut pairs = words.windows(2);
                let pair = pairs.find(|pair| pair[1] == what);
                pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0u32)
            };
            self.count.passed += number("passed");
            self.count.failed += number("failed");
            self.count.ignored += number("ignored");
        } else if self.in_reasons {
            if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
                self.count
                    .failures
                    .push(name.strip_suffix(" stdout").unwrap_or(name).to_owned());
            } else if let Some(failure) = self.count.failures.last_mut()
                && !line.trim().is_empty()
                && failure.lines().count() <= REPEATED
            {
                failure.push_str("\n  ");
                failure.push_str(line);
            }
        }
    }
}

/// Runs one test command, passing its output through, and adds up what its runners report.
pub(crate) fn run_tests(command: &mut Command, count: &mut Count) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().ok_or_else(|| anyhow!("cargo has no output"))?;
    let mut reader = Reader::new(count);
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        reader.read(&line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two runners, one after the other, as cargo shows them.
    const OUTPUT: &str = "
running 2 tests
..
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.05s

running 3 tests
test ends::a ... FAILED

failures:

---- ends::a ----
waited 120 s until the pod runs: pods: Pending

---- owed::b stdout ----

thread 'owed::b' panicked at agent/src/functions/owed.rs:9:5:
assertion failed

failures:
    ends::a
    owed::b

test result: FAILED. 1 passed; 2 failed; 4 ignored; 0 measured; 0 filtered out; finished in 1.00s
SKIP lab: no root
";

    #[test]
    fn runners_are_added_up_and_failures_keep_their_reasons() {
        let mut count = Count::default();
        let mut reader = Reader::new(&mut count);
        OUTPUT.lines().for_each(|line| reader.read(line));
        let numbers = (count.passed, count.failed, count.ignored, count.skipped);
        assert_eq!(numbers, (3, 2, 4, 1));
        assert_eq!(count.not_run, ["SKIP lab: no root"]);
        assert_eq!(
            count.failures,
            [
                "ends::a\n  waited 120 s until the pod runs: pods: Pending",
                "owed::b\n  thread 'owed::b' panicked at agent/src/functions/owed.rs:9:5:\n  assertion failed",
            ]
        );
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut count = Count::default();
        let mut reader = Reader::new(&mut count);
        ["failures:", "---- a ----"]
            .into_iter()
            .chain(["x"; 99])
            .for_each(|line| reader.read(line));
        assert_eq!(count.failures[0].lines().count(), REPEATED + 1);
    }
}
