//! The CNI binary on the node: installed by rename, asked which versions of the protocol it speaks.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use railhead_host::{ABANDONED, remove_abandoned, remove_durably, write_durably};
use serde::Deserialize;
use thiserror::Error;
use tokio::io::AsyncWriteExt;

use super::entry::{EntryError, file};

/// Name of the CNI binary.
pub(super) const BINARY: &str = "railhead";
/// How long it may take to tell its versions.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a file that was just written is tried again when the kernel says that it is busy, and how long after.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// What VERSION gets on its standard input.
const VERSION_CONFIG: &[u8] = br#"{"cniVersion":"1.0.0"}"#;

/// Why it is not known what the installed binary speaks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BinaryError {
    /// The kernel does not start it, so the runtime cannot either.
    #[error(
        "the CNI binary {path} cannot be started: {source}; is its file system mounted noexec, or is the agent's image of another architecture?"
    )]
    NotStarted {
        /// Which binary.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It started and gave no usable answer.
    #[error("the CNI binary {path} does not tell the versions it speaks: {said}; it is asked again")]
    NoAnswer {
        /// Which binary.
        path: PathBuf,
        /// What it said, cut off.
        said: String,
    },
}

/// What had to be done to the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Installed {
    /// Nothing: it was there.
    Present,
    /// There was none.
    WasMissing,
    /// There was another one.
    Differed,
}

/// Installs the binary by rename where it is absent or, with `replace`, where it differs: libcni never sees half of it, and a
/// running one stays whole. The folder is never made: it holds the cluster network's plugins, and one that is away for a moment is
/// being moved or pointed elsewhere by the distribution, whose new link must not meet a folder of ours.
pub(super) fn install(source: &Path, bin_dir: &Path, replace: bool) -> Result<Installed, EntryError> {
    let target = bin_dir.join(BINARY);
    let before = match File::open(&target) {
        Ok(_) if !replace => return Ok(Installed::Present),
        Ok(present) => {
            let wanted = File::open(source).map_err(file(source))?;
            if same_content(wanted, present).map_err(file(&target))? {
                return Ok(Installed::Present);
            }
            Installed::Differed
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::metadata(bin_dir).map_err(file(bin_dir))?;
            Installed::WasMissing
        }
        Err(error) => return Err(file(&target)(error)),
    };
    let wanted = fs::read(source).map_err(file(source))?;
    write_durably(&target, &wanted, 0o755)?;
    remove_abandoned(bin_dir, &format!("{BINARY}."), ABANDONED).map_err(file(bin_dir))?;
    Ok(before)
}

/// Compares in pieces: this runs at every pass, and two whole binaries would double the agent's memory.
fn same_content(one: File, other: File) -> io::Result<bool> {
    const PIECE: usize = 32 << 10;
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (
        BufReader::with_capacity(PIECE, one),
        BufReader::with_capacity(PIECE, other),
    );
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Removes the binary; an absent one is fine.
pub(super) fn remove(bin_dir: &Path) -> Result<(), EntryError> {
    remove_durably(&bin_dir.join(BINARY))?;
    // What agents that were killed while they installed it have left.
    remove_abandoned(bin_dir, &format!("{BINARY}."), Duration::ZERO).map_err(file(bin_dir))
}

/// The versions of the protocol that the installed binary speaks, from itself: it is the only list of them, and in a rolling
/// update the binary may be of another release than the agent.
pub(super) async fn versions(path: &Path) -> Result<Vec<String>, BinaryError> {
    let not_started = |source| BinaryError::NotStarted {
        path: path.to_owned(),
        source,
    };
    let no_answer = |said: &str| BinaryError::NoAnswer {
        path: path.to_owned(),
        said: said.trim().chars().take(200).collect(),
    };
    let mut tries = 0;
    let mut child = loop {
        let started = tokio::process::Command::new(path)
            .env_clear()
            .env("CNI_COMMAND", "VERSION")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match started {
            // Another program that is being started holds the file open for as long as its fork takes to exec.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                return Err(no_answer(&error.to_string()));
            }
            started => break started.map_err(not_started)?,
        }
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read everything says why on stdout.
        let _ = stdin.write_all(VERSION_CONFIG).await;
    }
    let output = tokio::time::timeout(ANSWER, child.wait_with_output())
        .await
        .map_err(|_| no_answer(&format!("no answer within {} s", ANSWER.as_secs())))?
        .map_err(not_started)?;
    spoken(&output.stdout).ok_or_else(|| no_answer(&String::from_utf8_lossy(&output.stdout)))
}

fn spoken(answer: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        supported_versions: Vec<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    (!answer.supported_versions.is_empty()).then_some(answer.supported_versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_replaced_only_when_it_differs_and_its_folder_is_never_made() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (source, bin) = (folder.path().join("source"), folder.path().join("bin"));
        fs::write(&source, "one").unwrap();
        install(&source, &bin, true).unwrap_err();
        assert!(!bin.exists(), "the folder of the binaries is somebody else's to make");
        fs::create_dir(&bin).unwrap();
        assert_eq!(install(&source, &bin, true).unwrap(), Installed::WasMissing);
        assert_eq!(install(&source, &bin, true).unwrap(), Installed::Present);
        fs::write(&source, "two").unwrap();
        assert_eq!(install(&source, &bin, true).unwrap(), Installed::Differed);
        let long = vec![7; 100_000];
        fs::write(&source, &long).unwrap();
        assert_eq!(install(&source, &bin, true).unwrap(), Installed::Differed);
        assert_eq!(install(&source, &bin, true).unwrap(), Installed::Present);
        fs::write(&source, [&long[..99_999], &[8]].concat()).unwrap();
        assert_eq!(
            install(&source, &bin, true).unwrap(),
            Installed::Differed,
            "the last byte counts"
        );
        fs::write(bin.join(BINARY), "a newer agent's").unwrap();
        assert_eq!(install(&source, &bin, false).unwrap(), Installed::Present);
        let mode = fs::metadata(bin.join(BINARY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        fs::write(bin.join(".railhead.0123.tmp"), "killed").unwrap();
        remove(&bin).unwrap();
        remove(&bin).unwrap();
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 0);
    }

    #[test]
    fn the_answer_of_version_is_its_list_of_supported_versions() {
        let answer = br#"{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}"#;
        assert_eq!(spoken(answer).unwrap(), ["0.4.0", "1.0.0"]);
        for other in [&b""[..], b"{}", br#"{"supportedVersions":[]}"#, br#"{"code":1}"#] {
            assert_eq!(spoken(other), None);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_program_is_told_from_a_program_that_does_not_answer() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(BINARY);
        fs::write(&path, "#!/bin/sh\necho lost\n").unwrap();
        let refused = versions(&path).await.unwrap_err();
        assert!(matches!(refused, BinaryError::NotStarted { .. }), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let silent = versions(&path).await.unwrap_err();
        assert!(silent.to_string().contains("lost"), "{silent}");
    }
}
