//! What Railhead may cost, and the check of the one program that every pod of a node starts.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// Resident bytes that are too many for the operator in the lab.
pub const OPERATOR_RESIDENT: u64 = 60_000_000;
/// Resident bytes that are too many for an agent in the lab.
pub const AGENT_RESIDENT: u64 = 20_000_000;
/// Resident bytes that are too many for an agent with 64 VFs and 32 pods.
pub const FULL_AGENT_RESIDENT: u64 = 25_000_000;
/// Microseconds that are too many for a pod without the label.
pub const UNLABELLED_US: f64 = 1000.0;
/// Microseconds that are too many for the CNI binary to start and end, with a pod that has no plan.
pub const START_US: f64 = 2000.0;
/// How many times the time of the same kernel work alone ADD and DEL may take.
pub const FLOOR_RATIO: f64 = 1.3;
/// Milliseconds that Prepare and ADD of two rails may take in the lab: half of what Multus with sriov-cni and whereabouts adds to an
/// empty pod there (1.7 s, seen on 2026-11-26).
pub const WIRE_MS: f64 = 850.0;
/// The same for DEL and Unprepare (1.1 s).
pub const UNWIRE_MS: f64 = 550.0;
/// Bytes that are too many for the CNI binary.
const CNI_BYTES: usize = 5_000_000;
/// Type of the ELF program header that names a dynamic loader.
const PT_INTERP: u64 = 3;

/// Refuses a CNI binary that is too large, or that would need libraries of the node it is copied to.
pub fn check_cni_binary(path: &Path) -> Result<()> {
    check_program(path)?;
    let length = read(path)?.len();
    ensure!(
        length < CNI_BYTES,
        "the CNI binary {} has {length} bytes, and {CNI_BYTES} are too many: `cargo tree -p railhead-cni -e normal` shows what came in",
        path.display()
    );
    Ok(())
}

/// Refuses a program that is not static: images hold the program alone.
pub fn check_program(path: &Path) -> Result<()> {
    ensure!(
        is_static(&read(path)?),
        "{} is no static program: it asks for a dynamic loader; was it linked with `-C target-feature=+crt-static`?",
        path.display()
    );
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whether a 64-bit little-endian ELF program starts without a dynamic loader.
fn is_static(elf: &[u8]) -> bool {
    let number = |at: u64, length: usize| {
        let at = usize::try_from(at).ok()?;
        let bytes = elf.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (Some(table), Some(entry), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    elf.starts_with(b"\x7fELF\x02\x01")
        && (0..count).all(|place| {
            let header = table.checked_add(place * entry);
            header
                .and_then(|at| number(at, 4))
                .is_some_and(|kind| kind != PT_INTERP)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with program headers of these types behind it.
    fn elf(types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(types.len()).unwrap();
        for kind in types {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_program_that_names_a_loader_is_not_static() {
        assert!(is_static(&elf(&[1, 1, 6])));
        assert!(!is_static(&elf(&[1, 3, 6])));
    }

    #[test]
    fn what_is_cut_off_or_no_program_is_not_static() {
        assert!(!is_static(&elf(&[1, 1])[..100]));
        assert!(!is_static(b"#!/bin/sh\n"));
        assert!(!is_static(&[]));
    }

    #[test]
    fn a_cni_binary_that_is_too_large_is_refused_with_its_size() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut content = elf(&[1]);
        fs::write(file.path(), &content).unwrap();
        check_cni_binary(file.path()).unwrap();
        content.resize(CNI_BYTES, 0);
        fs::write(file.path(), &content).unwrap();
        let error = check_cni_binary(file.path()).unwrap_err().to_string();
        assert!(error.contains("5000000 bytes"), "{error}");
    }
}
