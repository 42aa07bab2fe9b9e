//! The cost for pods that want nothing from us, by the CNI crate's own benchmark with the binary as it is shipped.

use anyhow::{Context, Result, bail};
use railhead_e2e::lab::run::cargo;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What that benchmark prints, indented.
pub(crate) fn measure() -> Result<String> {
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
    Ok(printed
        .lines()
        .fold(String::new(), |text, line| text + "  " + line + "\n"))
}
