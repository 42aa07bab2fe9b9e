//! The journal of one sandbox: what ADD is about to change and what it was before. Written once, before the first change.
//!
//! It says what to undo, not how far ADD came: the undo looks at the state it finds. So one write is enough, and none waits for
//! a disk: a killed process does not lose it, and a reboot voids it together with what it describes.

use std::{collections::BTreeSet, fs, io, path::PathBuf, time::Duration};

use railhead_host::{InterfaceName, MacAddress, NetnsId, PciAddress, RdmaName, Rule, StateFileError};
use railhead_plan::{FormatError, JOURNAL_VERSION, JournalHead, Layout, PodRef, Versioned};
use railhead_store::{self as store, ReadError, WriteError};
use railhead_vf::LinkState;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How names of journals end that nobody could read, and how long they are kept.
const SET_ASIDE: &str = ".damaged";
const SET_ASIDE_FOR: Duration = Duration::from_hours(7 * 24);

/// What one sandbox holds. Its head, which the agent reads too, is [`railhead_plan::JournalHead`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// [`JOURNAL_VERSION`] when written by this release.
    pub version: u32,
    /// The boot in which it was written. After another boot there is nothing to undo.
    pub boot_id: String,
    /// The sandbox; also the file's name.
    pub container_id: String,
    /// `CNI_IFNAME` of the ADD.
    pub if_name: String,
    /// Name of the CNI network, which is what GC goes by.
    pub network: String,
    /// The sandbox's namespace.
    pub netns: PathBuf,
    /// What the namespace is recognised by, in case its path is used again.
    pub netns_id: NetnsId,
    /// The pod.
    pub pod: PodRef,
    /// One entry per rail.
    pub rails: Vec<RailJournal>,
}

/// One function before ADD and under ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RailJournal {
    /// Absolute rail id.
    pub rail: u32,
    /// The function.
    pub vf: PciAddress,
    /// Whether the kernel reports the function below its link. Where it does not, name and MAC address identify the link.
    pub has_parent: bool,
    /// What it was like.
    pub original: LinkState,
    /// The MAC address that ADD gives it.
    pub mac: MacAddress,
    /// The name that it has between host and pod.
    pub temporary_name: InterfaceName,
    /// The name that it has in the pod.
    pub final_name: InterfaceName,
    /// The soft-RoCE device that ADD makes on it.
    #[serde(default)]
    pub soft_rdma: Option<RdmaName>,
    /// The rules that ADD makes in the pod.
    pub rules: Vec<Rule>,
}

/// Why a journal was not read, written or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The folder cannot be read.
    #[error("read the journal folder {path}: {source}")]
    Read {
        /// Which folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be read, or is none of ours.
    #[error("the journal: {0}")]
    File(#[source] StateFileError),
    /// The content is not a journal.
    #[error(
        "the journal {path} is damaged ({detail}); its functions come home when the pod's namespace ends, and the agent restores them from what it recorded"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the parser met, cut off.
        detail: String,
    },
    /// Written by a release that is more than one version away.
    #[error(
        "the journal {path} has format version {found}, this release reads {JOURNAL_VERSION} and its neighbours; install the CNI binary of the release that wrote it"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
    /// The folder cannot be made.
    #[error("make the journal folder {path}: {source}")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written or removed.
    #[error("the journal: {0}")]
    Write(#[from] WriteError),
}

impl From<ReadError> for JournalError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => Self::File(error),
            ReadError::Format { path, source } => match source {
                FormatError::Damaged { detail, .. } => Self::Damaged { path, detail },
                FormatError::Version { found, .. } => Self::Version { path, found },
            },
        }
    }
}

impl JournalError {
    /// Whether reading it again later would not help.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Version { .. } => true,
            Self::File(error) => error.is_lasting(),
            _ => false,
        }
    }
}

impl Versioned for Journal {
    const WHAT: &'static str = JournalHead::WHAT;
    const VERSION: u32 = JOURNAL_VERSION;
}

impl Journal {
    /// Reads the journal of a sandbox; `None` when it has none.
    pub fn read(layout: &Layout, container_id: &str) -> Result<Option<Self>, JournalError> {
        for path in [layout.journal(container_id), layout.former_journal(container_id)] {
            match store::read(&path) {
                Ok(journal) => return Ok(Some(journal)),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Reads all journals of the node. One that cannot be read does not hide the others.
    pub fn read_all(layout: &Layout) -> Result<Vec<Result<Self, JournalError>>, JournalError> {
        let mut ids = BTreeSet::new();
        for folder in [layout.journals(), layout.former_journals()] {
            ids.extend(store::names(&folder).map_err(|source| JournalError::Read { path: folder, source })?);
        }
        Ok(ids.iter().filter_map(|id| Self::read(layout, id).transpose()).collect())
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, layout: &Layout) -> Result<(), JournalError> {
        let folder = layout.journals();
        fs::create_dir_all(&folder).map_err(|source| JournalError::Folder { path: folder, source })?;
        Ok(store::write(&layout.journal(&self.container_id), self)?)
    }

    /// Removes the journal of a sandbox: everything is given back.
    pub fn remove(layout: &Layout, container_id: &str) -> Result<(), JournalError> {
        for path in [layout.journal(container_id), layout.former_journal(container_id)] {
            store::remove(&path)?;
        }
        Ok(())
    }

    /// Puts a journal that nobody can read out of the way, so that it is still there to be looked at: until the next boot, and
    /// a week in the former folder.
    pub fn set_aside(layout: &Layout, container_id: &str) -> io::Result<()> {
        for path in [layout.journal(container_id), layout.former_journal(container_id)] {
            match fs::rename(&path, path.with_file_name(format!(".{container_id}{SET_ASIDE}"))) {
                Err(error) if !is_absent(&error) => return Err(error),
                _ => {}
            }
        }
        for entry in fs::read_dir(layout.former_journals()).into_iter().flatten().flatten() {
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SET_ASIDE_FOR));
            if old && entry.file_name().as_encoded_bytes().ends_with(SET_ASIDE.as_bytes()) {
                // Nobody looked at it, and nobody minds if it stays.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_agent_reads_the_head_of_what_is_written() {
        let journal = journal();
        let head = JournalHead::parse(&serde_json::to_vec(&journal).unwrap()).unwrap();
        assert_eq!(
            head,
            JournalHead {
                version: journal.version,
                boot_id: journal.boot_id,
                container_id: journal.container_id,
                if_name: journal.if_name,
                netns: journal.netns,
                pod: journal.pod,
            }
        );
    }

    fn journal() -> Journal {
        Journal {
            version: JOURNAL_VERSION,
            boot_id: "b".to_owned(),
            container_id: "c0ffee".to_owned(),
            if_name: "eth0".to_owned(),
            network: "pod".to_owned(),
            netns: "/run/netns/x".into(),
            netns_id: NetnsId {
                device: 4,
                inode: 4_026_532_000,
            },
            pod: PodRef {
                namespace: "ml".to_owned(),
                name: "train-0".to_owned(),
                uid: "6f1c".to_owned(),
            },
            rails: vec![RailJournal {
                rail: 0,
                vf: "0000:18:00.3".parse().unwrap(),
                has_parent: true,
                original: LinkState {
                    name: "enp24s0f0v3".parse().unwrap(),
                    mac: Some("02:00:00:00:00:09".parse().unwrap()),
                    mtu: 1500,
                    up: false,
                    altnames: vec!["enp24s0f0v3alt".to_owned()],
                    alias: None,
                    promiscuous: Some(false),
                    all_multicast: Some(false),
                    tx_queue_len: Some(1000),
                },
                mac: "02:00:00:00:00:01".parse().unwrap(),
                temporary_name: "rh000018003".parse().unwrap(),
                final_name: "rail0".parse().unwrap(),
                soft_rdma: Some("rxe6f1c0000r0".parse().unwrap()),
                rules: vec![Rule {
                    from: "10.0.0.1/32".parse().unwrap(),
                    table: 1000,
                    priority: 1000,
                }],
            }],
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written_and_is_gone_when_removed() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), None);
        journal().write(&layout).unwrap();
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), Some(journal()));
        fs::write(layout.journals().join("cut.json"), b"{\"version\":1").unwrap();
        fs::write(layout.journals().join(".c0ffee.json.7"), b"").unwrap();
        let all = Journal::read_all(&layout).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all.iter().filter(|journal| journal.is_ok()).count(), 1);
        Journal::remove(&layout, "c0ffee").unwrap();
        Journal::remove(&layout, "c0ffee").unwrap();
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), None);
    }

    #[test]
    fn a_journal_of_the_release_before_is_found_in_its_folder_and_removed_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.former_journals()).unwrap();
        fs::write(layout.former_journal("c0ffee"), serde_json::to_vec(&journal()).unwrap()).unwrap();
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), Some(journal()));
        assert_eq!(Journal::read_all(&layout).unwrap().len(), 1);
        // In both folders it is one journal, and the new one counts.
        let mut newer = journal();
        newer.if_name = "eth1".to_owned();
        newer.write(&layout).unwrap();
        assert_eq!(Journal::read_all(&layout).unwrap().len(), 1);
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), Some(newer));
        Journal::remove(&layout, "c0ffee").unwrap();
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), None);
        fs::write(layout.former_journal("c0ffee"), "x").unwrap();
        Journal::set_aside(&layout, "c0ffee").unwrap();
        assert_eq!(Journal::read(&layout, "c0ffee").unwrap(), None);
    }

    #[test]
    fn neighbouring_versions_are_read_and_others_are_refused() {
        let mut value = serde_json::to_value(journal()).unwrap();
        for (version, readable) in [(0, false), (1, true), (2, true), (3, false)] {
            value["version"] = version.into();
            value["fieldOfTheFuture"] = true.into();
            let parsed = Journal::parse(value.to_string().as_bytes());
            assert_eq!(parsed.is_ok(), readable, "version {version}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_journal_is_an_error_and_never_a_panic(cut in 0_usize..900, flip in any::<u8>()) {
            let mut bytes = serde_json::to_vec(&journal()).unwrap();
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(Journal::parse(&bytes[..cut]).is_err());
            bytes[cut] ^= flip;
            let _ = Journal::parse(&bytes);
        }
    }
}
