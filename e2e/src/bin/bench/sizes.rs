//! Bytes: of the programs, of the images, of the running operator and agents.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use railhead_e2e::lab::Lab;

/// Every pod of a node starts the CNI binary.
const CNI_LIMIT: usize = 5_000_000;
/// Type of the ELF program header that names a dynamic loader.
const PT_INTERP: u32 = 3;

/// Sizes of the programs beside `images`, which were built from them, and of the images.
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
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(is_static(&content), "{} asks for a dynamic loader", path.display());
        ensure!(
            program != "railhead" || content.len() < CNI_LIMIT,
            "{} has {} bytes, more than {CNI_LIMIT}",
            path.display(),
            content.len()
        );
        row(&mut text, &format!("{what} ({program}), static"), content.len());
    }
    for image in images {
        let name = image.file_stem().unwrap_or_default().to_string_lossy();
        row(&mut text, &format!("image {name}, OCI archive"), file_size(image)?);
    }
    Ok(text)
}

/// What operator and agents hold in memory, as the nodes' kernels count it.
pub(crate) fn resident_memory(lab: &Lab) -> Result<String> {
    let mut text = String::new();
    for node in lab.nodes() {
        let processes = node.exec("ps -eo rss=,comm=", Duration::from_mins(1))?.ok()?;
        for line in processes.stdout.lines() {
            let mut words = line.split_whitespace();
            let (Some(kibibytes), Some(program)) = (words.next(), words.next()) else {
                continue;
            };
            // The kernel keeps 15 characters of a program's name.
            let program = match program {
                "railhead-agent" => "agent",
                "railhead-operat" => "operator",
                _ => continue,
            };
            row(
                &mut text,
                &format!("{program} on {}", node.name()),
                kibibytes.parse::<usize>()? * 1024,
            );
        }
    }
    ensure!(!text.is_empty(), "no node runs an operator or agent");
    Ok(text)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn row(text: &mut String, name: &str, bytes: usize) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {name:<58} {:>6.1} MB", bytes as f64 / 1e6);
}

fn file_size(path: &Path) -> Result<usize> {
    let length = fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    Ok(usize::try_from(length)?)
}

/// Whether a 64-bit little-endian ELF program starts without a dynamic loader.
fn is_static(elf: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at + length)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | usize::from(*byte)),
        )
    };
    let (Some(table), Some(entry), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    elf.starts_with(b"\x7fELF\x02\x01")
        && (0..count).all(|place| number(table + place * entry, 4).is_some_and(|kind| kind != PT_INTERP as usize))
}
