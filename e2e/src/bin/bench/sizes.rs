//! Bytes: of the programs and of the images.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

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

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(crate) fn row(text: &mut String, name: &str, bytes: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {name:<58} {:>6.1} MB", bytes as f64 / 1e6);
}

fn file_size(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.len())
}
