//! The files of a node's state that carry a version: plans, records of wired pods, journals, originals.
//!
//! Agent and CNI binary read each other's, of neighbouring releases too, and neither may hang, fill its memory or harm a pod because
//! of what lies there. So all of them are listed, read, written and removed in one way:
//!
//! - names: `<name>.json`; what begins with a dot is being written, was left by a killed writer, or was set aside ([`names`]);
//! - reading: only a regular file of root, that nobody else may write, of at most [`railhead_host::STATE_FILE_LIMIT`] bytes
//!   ([`railhead_host::read_state_file`]), and only of the own version and its neighbours ([`Versioned`]);
//! - what is none of that is *damaged* ([`ReadError::is_damaged`]): reading it again does not help. What becomes of it is for the
//!   reader to say, as is what an absent one means;
//! - writing: mode 0600, whole or not at all ([`write`]). Nobody waits for a disk: a killed process loses nothing of it, and what
//!   the files tell of the kernel is void after a reboot, which their boot id shows. So is what a power cut leaves of one.
//!
//! The record of a wired pod is written together with the pod's folder, which appears by one rename, and is open to read for the
//! pod's containers.

mod error;

use std::{fs, io, path::Path};

use railhead_host::{read_state_file, replace};
use railhead_plan::Versioned;
use serde::Serialize;

pub use error::{ReadError, WriteError};

/// How names of files end.
const SUFFIX: &str = ".json";

/// Only root reads them.
const MODE: u32 = 0o600;

/// Names of the files in a folder, without their ending. An absent folder has none.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if let Some(stem) = name.strip_suffix(SUFFIX)
            && !name.starts_with('.')
        {
            names.push(stem.to_owned());
        }
    }
    Ok(names)
}

/// Reads a file.
pub fn read<T: Versioned>(path: &Path) -> Result<T, ReadError> {
    let bytes = read_state_file(path).map_err(ReadError::File)?;
    T::parse(&bytes).map_err(|source| ReadError::Format {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file. A reader sees the old content or the new one. The folder must exist.
pub fn write<T: Versioned + Serialize>(path: &Path, content: &T) -> Result<(), WriteError> {
    let bytes = serde_json::to_vec_pretty(content).map_err(|source| WriteError::Encode {
        what: T::WHAT,
        path: path.to_owned(),
        source,
    })?;
    Ok(replace(path, &bytes, MODE)?)
}

/// Removes a file; an absent one is fine.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    Ok(railhead_host::remove(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        version: u32,
        text: String,
    }

    impl Versioned for Note {
        const WHAT: &'static str = "the note";
        const VERSION: u32 = 3;
    }

    fn note(version: u32) -> Note {
        Note {
            version,
            text: "x".to_owned(),
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_is_roots_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for version in [3, 4] {
            write(&path, &note(version)).unwrap();
            assert_eq!(read::<Note>(&path).unwrap(), note(version));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(names(folder.path()).unwrap(), ["a"], "no temporary file is left");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read::<Note>(&path).unwrap_err().is_absent());
    }

    #[test]
    fn what_is_there_and_cannot_be_read_is_damaged_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("far.json"), &note(5)).unwrap();
        write(&path("open.json"), &note(3)).unwrap();
        fs::set_permissions(path("open.json"), PermissionsExt::from_mode(0o622)).unwrap();
        fs::write(path("cut.json"), r#"{"version":3,"te"#).unwrap();
        symlink(path("far.json"), path("link.json")).unwrap();
        for name in ["far.json", "open.json", "cut.json", "link.json"] {
            let error = read::<Note>(&path(name)).unwrap_err();
            assert!(error.is_damaged() && !error.is_absent(), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let absent = read::<Note>(&path("absent.json")).unwrap_err();
        assert!(absent.is_absent() && !absent.is_damaged(), "{absent}");
    }

    #[test]
    fn only_whole_files_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.json", ".b.json", ".c.json.0123.tmp", ".d.damaged", "e", "f.json.bak"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(folder.path()).unwrap(), ["a"]);
        assert!(names(&folder.path().join("absent")).unwrap().is_empty());
    }
}
