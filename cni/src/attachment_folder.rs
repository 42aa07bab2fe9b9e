//! The pod's folder: `attachment.json` and the files of [`crate::settings`]. It appears whole and goes whole, by one rename each.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use railhead_plan::{AttachmentRecord, Layout};
use thiserror::Error;

use crate::settings::File;

/// Why the folder was not made or removed.
#[derive(Debug, Error)]
pub(crate) enum FolderError {
    #[error("make the attachment folder {path}: {source}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("encode the attachment record of pod {pod_uid}: {source}")]
    Encode {
        pod_uid: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("remove the attachment folder {path}: {source}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes the folder. Containers of any user read it, so its modes are open; the folders above it are root's.
pub(crate) fn make(layout: &Layout, record: &AttachmentRecord, files: &[File]) -> Result<(), FolderError> {
    let pod_uid = &record.pod.uid;
    let json = serde_json::to_vec_pretty(record).map_err(|source| FolderError::Encode {
        pod_uid: pod_uid.clone(),
        source,
    })?;
    let path = layout.attachment(pod_uid);
    let temporary = temporary(layout, pod_uid);
    let made = (|| {
        fs::create_dir_all(layout.attachments())?;
        remove_tree(&temporary)?;
        DirBuilder::new().mode(0o755).create(&temporary)?;
        write(&temporary.join("attachment.json"), &json)?;
        for file in files {
            write(&temporary.join(file.name), file.content.as_bytes())?;
        }
        // What an earlier sandbox of this pod left behind would make the rename fail.
        remove_tree(&path)?;
        fs::rename(&temporary, &path)
    })();
    made.map_err(|source| FolderError::Make { path, source })
}

/// Removes the folder if it is of this sandbox. A late DEL of an old sandbox leaves the new one's folder alone.
pub(crate) fn remove(layout: &Layout, pod_uid: &str, container_id: &str) -> Result<(), FolderError> {
    let path = layout.attachment(pod_uid);
    if owner(layout, pod_uid).is_some_and(|owner| owner != container_id) {
        return Ok(());
    }
    let temporary = temporary(layout, pod_uid);
    let removed = remove_tree(&temporary)
        .and_then(|()| ignore_absent(fs::rename(&path, &temporary)))
        .and_then(|()| remove_tree(&temporary));
    removed.map_err(|source| FolderError::Remove { path, source })
}

/// Removes the folder of a sandbox of which no more is known than its id, and perhaps its pod.
pub(crate) fn remove_of_sandbox(layout: &Layout, container_id: &str, pod_uid: Option<&str>) -> Result<(), FolderError> {
    for name in names(layout) {
        if !name.starts_with('.') && owner(layout, &name).as_deref() == Some(container_id) {
            remove(layout, &name, container_id)?;
            remove_leftovers(layout, &name)?;
        }
    }
    // Its record may be unreadable as well.
    pod_uid.map_or(Ok(()), |pod_uid| remove(layout, pod_uid, container_id))
}

/// Removes what a killed [`make`] or [`remove`] left of a pod's folder. Nobody must be making it meanwhile.
pub(crate) fn remove_leftovers(layout: &Layout, pod_uid: &str) -> Result<(), FolderError> {
    let prefix = format!(".{pod_uid}.");
    for name in names(layout).iter().filter(|name| name.starts_with(&prefix)) {
        let path = layout.attachments().join(name);
        remove_tree(&path).map_err(|source| FolderError::Remove { path, source })?;
    }
    Ok(())
}

fn names(layout: &Layout) -> Vec<String> {
    let entries = fs::read_dir(layout.attachments()).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The sandbox that the folder's record names.
fn owner(layout: &Layout, pod_uid: &str) -> Option<String> {
    let record: AttachmentRecord = railhead_store::read(&layout.record(pod_uid)).ok()?;
    Some(record.container_id)
}

fn temporary(layout: &Layout, pod_uid: &str) -> PathBuf {
    layout.attachments().join(format!(".{pod_uid}.{}", std::process::id()))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?
        .write_all(content)
}

/// Whatever it is.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => ignore_absent(fs::remove_file(path)),
        result => ignore_absent(result),
    }
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        other => other,
    }
}
