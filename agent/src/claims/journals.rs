//! The CNI binary's journals, as far as the agent reads them: of whom a sandbox is, of which boot and where.
//!
//! A journal that is damaged is asked by its text: what it holds is to be given back all the same.

use std::path::{Path, PathBuf};

use railhead_host::read_state_file;
use railhead_plan::{JournalHead, Layout, Versioned};

/// A sandbox's journal.
pub(crate) struct Journal {
    /// The sandbox.
    pub(crate) container: String,
    pub(crate) path: PathBuf,
    /// `None` where it is damaged, or of a version that this release does not read.
    pub(crate) head: Option<JournalHead>,
    text: String,
}

impl Journal {
    fn read(container: &str, path: &Path) -> Option<Self> {
        let text = String::from_utf8(read_state_file(path).ok()?).ok()?;
        Some(Self {
            container: container.to_owned(),
            path: path.to_owned(),
            head: JournalHead::parse(text.as_bytes()).ok(),
            text,
        })
    }

    pub(crate) fn is_of_pod(&self, uid: &str) -> bool {
        self.says(uid, |head| &head.pod.uid)
    }

    pub(crate) fn is_of_boot(&self, boot_id: &str) -> bool {
        self.says(boot_id, |head| &head.boot_id)
    }

    fn says(&self, wanted: &str, of: impl FnOnce(&JournalHead) -> &str) -> bool {
        match &self.head {
            Some(head) => of(head) == wanted,
            None => self.text.contains(&format!("\"{wanted}\"")),
        }
    }
}

/// The journal of one sandbox.
pub(crate) fn of_sandbox(layout: &Layout, container: &str) -> Option<Journal> {
    [layout.journal(container), layout.former_journal(container)]
        .iter()
        .find_map(|path| Journal::read(container, path))
}

/// Every journal of the node that can be read as text.
pub(crate) fn all(layout: &Layout) -> Vec<Journal> {
    let of = |folder: PathBuf| {
        let containers = railhead_store::names(&folder).unwrap_or_else(|error| {
            tracing::error!(folder = %folder.display(), %error, "the journals cannot be listed");
            Vec::new()
        });
        containers
            .into_iter()
            .filter_map(move |container| Journal::read(&container, &folder.join(format!("{container}.json"))))
    };
    [layout.journals(), layout.former_journals()]
        .into_iter()
        .flat_map(of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plans;

    #[test]
    fn a_damaged_journal_is_known_by_its_text_and_a_whole_one_by_its_head() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        plans::make_folders(&layout).unwrap();
        let whole = r#"{"version":1,"bootId":"b","containerId":"c1","ifName":"uid-2","netns":"/run/netns/x",
            "pod":{"namespace":"a","name":"p","uid":"uid-1"}}"#;
        std::fs::write(layout.journal("c1"), whole).unwrap();
        std::fs::write(
            layout.journal("c2"),
            r#"{"version":1,"bootId":"b","pod":{"uid":"uid-1""#,
        )
        .unwrap();
        for container in ["c1", "c2"] {
            let journal = of_sandbox(&layout, container).unwrap();
            assert!(journal.is_of_pod("uid-1") && journal.is_of_boot("b"), "{container}");
            assert!(!journal.is_of_pod("uid-11") && !journal.is_of_boot("c"), "{container}");
        }
        assert!(
            !of_sandbox(&layout, "c1").unwrap().is_of_pod("uid-2"),
            "that is no pod's UID"
        );
        assert_eq!(all(&layout).len(), 2);
    }
}
