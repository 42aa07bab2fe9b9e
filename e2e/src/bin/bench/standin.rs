//! ADD and DEL on this machine, by the benchmark on stand-in ports, linked as the CNI binary is shipped.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use railhead_e2e::lab::{images::target_folder, run::cargo};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where its program is, once [`measure`] has built it; it does the floor's work in the lab too.
pub(crate) fn program() -> PathBuf {
    target_folder().join(TARGET).join("release/standin")
}

/// What that benchmark prints, indented; what it found above its limits goes to `exceeded`.
pub(crate) fn measure(exceeded: &mut Vec<String>) -> Result<String> {
    let output = cargo()
        .args(["run", "--quiet", "--locked", "--release", "--target", TARGET])
        .args(["--package", "railhead-standin", "--bin", "standin", "--", "bench"])
        // Linked as for the images.
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-C target-feature=+crt-static",
        )
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("cannot start cargo")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let above = above_limit(&said);
        if above.is_empty() {
            bail!("`standin bench` ended with {}:\n{printed}{said}", output.status);
        }
        exceeded.extend(above);
    }
    let lines = printed
        .lines()
        .fold(String::new(), |text, line| text + "  " + line + "\n");
    Ok(format!("\n{lines}"))
}

/// The lines behind `standin: more than is allowed:`; none where it failed for another reason.
fn above_limit(said: &str) -> Vec<String> {
    let lines = said.split_once("more than is allowed:").map_or("", |(_, lines)| lines);
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_a_limit_is_told_from_other_failures() {
        let said = "standin: more than is allowed:\n  ADD, 1 rail: 2 times\n  DEL, 1 rail: 3 times\n";
        assert_eq!(above_limit(said), ["ADD, 1 rail: 2 times", "DEL, 1 rail: 3 times"]);
        assert!(above_limit("standin: ADD ended with code 1").is_empty());
    }
}
