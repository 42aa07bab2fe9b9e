//! Bytes: of the programs, of the images, of the running operator and agents.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::NODE_LIMIT,
    lab::Lab,
    limits::{AGENT_RESIDENT, OPERATOR_RESIDENT},
};

/// Sizes of the programs beside `images`, which were built from them, and of the images. That the programs are static and the CNI
/// binary small enough was seen when the images were built.
pub(crate) fn measure(images: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    let target = images.first().and_then(|image| image.parent()?.parent());
    let release = target
        .context("there are no images")?
        .join("x86_64-unknown-linux-gnu/release");
    for (program, what) in [
        ("railhead", "CNI binary"),
        ("railhead-agent", "agent"),
        ("railhead-operator", "operator"),
    ] {
        let path = release.join(program);
        row(&mut text, &format!("{what} ({program}), static"), file_size(&path)?);
    }
    for image in images {
        let name = image.file_stem().unwrap_or_default().to_string_lossy();
        row(&mut text, &format!("image {name}, OCI archive"), file_size(image)?);
    }
    Ok(text)
}

/// What operator and agents hold in memory, as the nodes' kernels count it; what is too much goes to `exceeded`.
pub(crate) fn resident_memory(lab: &Lab, exceeded: &mut Vec<String>) -> Result<String> {
    let mut text = String::new();
    for node in lab.nodes() {
        let processes = node.exec("ps -eo rss=,comm=", NODE_LIMIT)?.ok()?;
        for line in processes.stdout.lines() {
            let mut words = line.split_whitespace();
            let (Some(kibibytes), Some(program)) = (words.next(), words.next()) else {
                continue;
            };
            // The kernel keeps 15 characters of a program's name.
            let (program, limit) = match program {
                "railhead-agent" => ("agent", AGENT_RESIDENT),
                "railhead-operat" => ("operator", OPERATOR_RESIDENT),
                _ => continue,
            };
            let name = format!("{program} on {}", node.name());
            let bytes = kibibytes.parse::<u64>()? * 1024;
            row(&mut text, &name, bytes);
            if bytes >= limit {
                exceeded.push(format!("{name} holds {bytes} bytes in memory; {limit} are too many"));
            }
        }
    }
    ensure!(!text.is_empty(), "no node runs an operator or agent");
    Ok(text)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn row(text: &mut String, name: &str, bytes: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {name:<58} {:>6.1} MB", bytes as f64 / 1e6);
}

fn file_size(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.len())
}
