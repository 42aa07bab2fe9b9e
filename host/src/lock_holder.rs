//! Who has a lock file locked, or a place in the queue for it: written into the file by whoever locks it.
//!
//! `/proc/locks` would tell it too, but shows a process only what its own PID namespace sees, and the agent has one of its own.

use std::{fmt, fs::File, io::Read, os::unix::fs::FileExt, path::Path, sync::OnceLock};

/// How long a note is: one write puts it over an earlier one.
const LENGTH: usize = 64;

/// A process that keeps a lock from being taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// Name of its program, and its process id as it sees itself. `None` for a release that wrote none.
    process: Option<(String, u32)>,
    /// It has not got the lock, and waits for it since before us.
    waits: bool,
}

impl LockHolder {
    /// Who has `file` locked, as far as it says so itself.
    pub fn of(file: &Path) -> Self {
        Self {
            process: read(file),
            waits: false,
        }
    }

    /// The same for the file of a place in the queue.
    pub(crate) fn of_ticket(file: &Path) -> Self {
        Self {
            waits: true,
            ..Self::of(file)
        }
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((program, pid)) = &self.process else {
            return f.write_str(if self.waits {
                "a process that came earlier does not take it"
            } else {
                "another process holds it"
            });
        };
        // Every container's first process calls itself so.
        let whose = if *pid == 1 { " of its container" } else { "" };
        let does = if self.waits {
            "came earlier and does not take it"
        } else {
            "holds it"
        };
        write!(
            f,
            "{program} (process {pid}{whose}) {does}; if it does not go on by itself, look on the node whether it is stopped (State in /proc/<pid>/status; `kill -CONT <pid>`) or stuck in the kernel (/proc/<pid>/stack); when it ends, others get the lock"
        )
    }
}

/// Says in a file that this process has it locked. A full file system keeps nobody from a lock.
pub fn sign_lock(file: &File) {
    static NOTE: OnceLock<String> = OnceLock::new();
    let note = NOTE.get_or_init(|| {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_name).unwrap_or_default();
        let program: String = program
            .to_string_lossy()
            .chars()
            .filter(char::is_ascii_graphic)
            .take(40)
            .collect();
        let note = format!("{} {program}", std::process::id());
        format!("{note:<width$}\n", width = LENGTH - 1)
    });
    let _ = file.write_at(note.as_bytes(), 0);
}

fn read(file: &Path) -> Option<(String, u32)> {
    let mut text = String::new();
    File::open(file)
        .ok()?
        .take(LENGTH as u64)
        .read_to_string(&mut text)
        .ok()?;
    let (pid, program) = text.trim().split_once(' ')?;
    Some((program.to_owned(), pid.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_with_the_next_step_and_one_of_an_earlier_release_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.lock");
        assert_eq!(LockHolder::of(&path).to_string(), "another process holds it");
        let file = File::create(&path).unwrap();
        assert_eq!(LockHolder::of(&path).to_string(), "another process holds it");
        sign_lock(&file);
        sign_lock(&file);
        assert_eq!(std::fs::read(&path).unwrap().len(), LENGTH);
        let said = LockHolder::of(&path).to_string();
        assert!(
            said.contains(&format!("(process {}) holds it", std::process::id())),
            "{said}"
        );
        assert!(said.contains("kill -CONT"), "{said}");
        std::fs::write(&path, "1 railhead-agent\n").unwrap();
        let said = LockHolder::of_ticket(&path).to_string();
        assert!(
            said.starts_with("railhead-agent (process 1 of its container) came earlier"),
            "{said}"
        );
    }
}
