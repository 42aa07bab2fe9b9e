//! A look at a file of a container's root, which an image and the container itself have filled.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

/// The size of the regular file `path` below `root`, as a process with that root would find it; `None` if there is none. No link
/// leads out of the root, and nothing is opened that could keep anybody waiting.
pub fn file_size_in_root(root: &Path, path: &Path) -> io::Result<Option<u64>> {
    let only_a_place = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = OpenOptions::new()
        .read(true)
        .custom_flags((only_a_place | OFlag::O_DIRECTORY).bits())
        .open(root)?;
    let how = OpenHow::new()
        .flags(only_a_place)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found = match openat2(&root, path, how) {
        Ok(found) => File::from(found).metadata()?,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(found.is_file().then_some(found.len()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn links_stay_in_the_root_and_only_files_have_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(folder.path().join("outside"), "secret").unwrap();
        let size = |name: &str| file_size_in_root(&root, Path::new(name)).unwrap();
        assert_eq!(size("etc/nccl.conf"), None);
        fs::write(root.join("etc/nccl.conf"), "NCCL_DEBUG=INFO\n").unwrap();
        assert_eq!(size("etc/nccl.conf"), Some(16));
        assert_eq!(size("etc/nccl.conf/x"), None);
        assert_eq!(size("etc"), None, "a folder");
        symlink("/etc/nccl.conf", root.join("absolute")).unwrap();
        assert_eq!(size("absolute"), Some(16), "as the container sees it");
        symlink("../../../outside", root.join("up")).unwrap();
        symlink(folder.path().join("outside"), root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        mkfifo(&root.join("fifo"), Mode::S_IRUSR).unwrap();
        for other in ["up", "out", "loop", "fifo"] {
            assert_eq!(size(other), None, "{other}");
        }
        file_size_in_root(&folder.path().join("nowhere"), Path::new("x")).unwrap_err();
    }
}
