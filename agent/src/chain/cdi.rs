//! The folder of CDI specs: whether the runtime reads it, and the link by which agent and CNI binary find it.

use std::{fs, io, path::Path};

use super::{
    folders::{FolderError, Paths, same},
    runtime::CdiSettings,
};
use railhead_crds::reasons::Reason;

use crate::conditions::Finding;

/// Type of the condition on CDI specs.
pub const CDI_READY: &str = "CdiReady";

/// The condition on CDI specs: containers get their devices only if the runtime finds the specs.
pub(super) fn finding(agent: &Path, settings: Option<&CdiSettings>, moved: Option<&FolderError>) -> Finding {
    let Some(settings) = settings else {
        return Finding::yes(CDI_READY, Reason::NotTold, "the runtime does not tell its CDI settings");
    };
    if !settings.enabled {
        let message = format!(
            "the runtime resolves no CDI devices (enable_cdi = false), so containers with rails cannot be created; set enable_cdi = true in the configuration of containerd's CRI plugin and restart containerd; specs are written to {}",
            agent.display()
        );
        return Finding::no(CDI_READY, Reason::CdiDisabled, message);
    }
    if !settings.dirs.iter().any(|dir| same(dir, agent)) {
        let message = format!(
            "the runtime reads CDI specs from {}, the agent writes them to {}: containers with rails could not be created; set agent.paths.cdi to one of the runtime's folders that is writable",
            Paths(settings.dirs.clone()),
            agent.display()
        );
        return Finding::no(CDI_READY, Reason::OtherFolder, message);
    }
    match moved {
        Some(moved) => Finding::no(CDI_READY, Reason::FolderMoved, moved.to_string()),
        None => Finding::yes(
            CDI_READY,
            Reason::Read,
            format!("the runtime reads {}", agent.display()),
        ),
    }
}

/// Makes `/run/railhead/cdi` a link to the folder of CDI specs that the runtime reads: the CNI binary has no settings, and reads
/// and writes the specs there as the agent does. A reboot takes the link away with everything that it led to.
///
/// Looked after at every pass: where it is gone, specs would be written to a folder that nobody reads.
pub fn link_cdi(link: &Path, cdi_dir: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == cdi_dir) {
        return Ok(());
    }
    // Made by somebody who wrote a spec while the link was gone: the runtime gets what is in it.
    if link.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        for entry in fs::read_dir(link)? {
            let entry = entry?;
            fs::copy(entry.path(), cdi_dir.join(entry.file_name()))?;
            fs::remove_file(entry.path())?;
        }
        fs::remove_dir(link)?;
    }
    let new = link.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(cdi_dir, &new)?;
    fs::rename(&new, link)
}

#[cfg(test)]
mod tests {
    use railhead_plan::Layout;

    use super::*;

    #[test]
    fn cdi_specs_that_the_runtime_would_not_find_are_told_before_a_pod_is_placed() {
        let agent = Path::new("/var/run/cdi");
        let settings = |enabled, dir: &str| CdiSettings {
            enabled,
            dirs: vec!["/etc/cdi".into(), dir.into()],
        };
        let finding = |settings: &CdiSettings| super::finding(agent, Some(settings), None);
        let read = finding(&settings(true, "/var/run/cdi"));
        assert_eq!((read.holds, read.reason.name()), (true, "Read"));
        assert!(finding(&settings(true, "/run/cdi")).holds, "/var/run is /run");
        assert_eq!(finding(&settings(false, "/run/cdi")).reason, "CdiDisabled");
        let other = finding(&settings(true, "/var/cdi/dynamic"));
        assert_eq!((other.holds, other.reason.name()), (false, "OtherFolder"));
        assert!(other.message.contains("/var/cdi/dynamic") && other.message.contains("/var/run/cdi"));
        let not_told = super::finding(agent, None, None);
        assert_eq!((not_told.holds, not_told.reason.name()), (true, "NotTold"));
        let moved = FolderError::Moved {
            mount: agent.into(),
            before: "/run/cdi".to_owned(),
            now: "/run/cdi//deleted".to_owned(),
        };
        let moved = super::finding(agent, Some(&settings(true, "/run/cdi")), Some(&moved));
        assert_eq!((moved.holds, moved.reason.name()), (false, "FolderMoved"));
        assert!(moved.message.contains("delete the agent's pod"), "{}", moved.message);
    }

    #[test]
    fn agent_and_binary_find_the_specs_in_the_folder_that_is_set() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        fs::create_dir_all(layout.plans()).unwrap();
        for name in ["static", "dynamic"] {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            link_cdi(&layout.cdi(), &folder).unwrap();
            link_cdi(&layout.cdi(), &folder).unwrap();
            fs::write(layout.cdi_spec("77aa"), name).unwrap();
            assert_eq!(fs::read_to_string(folder.join("railhead.dev-77aa.json")).unwrap(), name);
        }
        fs::remove_file(layout.cdi()).unwrap();
        fs::create_dir(layout.cdi()).unwrap();
        link_cdi(&layout.cdi(), &root.path().join("static")).unwrap();
        fs::remove_file(layout.cdi()).unwrap();
        fs::create_dir(layout.cdi()).unwrap();
        fs::write(layout.cdi_spec("88bb"), "lost").unwrap();
        link_cdi(&layout.cdi(), &root.path().join("static")).unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("static/railhead.dev-88bb.json")).unwrap(),
            "lost"
        );
    }
}
