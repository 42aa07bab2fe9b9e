//! The cost for pods that want nothing from us, by the CNI crate's own benchmark with the binary as it is shipped.

use anyhow::{Context, Result, bail};
use railhead_e2e::{
    lab::run::cargo,
    limits::{START_US, UNLABELLED_US},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What that benchmark prints, indented; a cost that is too high goes to `exceeded`.
pub(crate) fn measure(exceeded: &mut Vec<String>) -> Result<String> {
    let output = cargo()
        .args(["bench", "--quiet", "--locked", "--target", TARGET])
        .args(["--package", "railhead-cni", "--bench", "unlabelled"])
        // Linked as for the images.
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-C target-feature=+crt-static",
        )
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "cargo bench ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let whole = median(&printed, "railhead ADD")?;
    if whole >= START_US {
        exceeded.push(format!(
            "the CNI binary takes {whole:.0} us from its start to its end; {START_US:.0} are too many"
        ));
    }
    let cost = whole - median(&printed, "static true")?;
    if cost >= UNLABELLED_US {
        exceeded.push(format!(
            "a pod without the label pays {cost:.0} us; {UNLABELLED_US:.0} are too many"
        ));
    }
    Ok(printed
        .lines()
        .fold(String::new(), |text, line| text + "  " + line + "\n"))
}

/// The figure, in microseconds, of a line like `static true, median:   412.3 us`.
fn median(printed: &str, what: &str) -> Result<f64> {
    let figure = printed.lines().find_map(|line| {
        let figure = line.strip_prefix(what)?.strip_prefix(", median:")?;
        figure.trim().strip_suffix("us")?.trim().parse().ok()
    });
    figure.with_context(|| format!("the benchmark printed no median of `{what}`:\n{printed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_read_from_what_the_benchmark_prints() {
        let printed =
            "runs, in turn:        1000\nstatic true, median:     412.3 us\nrailhead ADD, median:    598.0 us\n";
        assert!((median(printed, "static true").unwrap() - 412.3).abs() < f64::EPSILON);
        assert!((median(printed, "railhead ADD").unwrap() - 598.0).abs() < f64::EPSILON);
        assert!(median(printed, "railhead DEL").is_err());
    }
}
