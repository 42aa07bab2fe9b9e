//! The cluster network's configuration list, as it lies in the runtime's folder: pure but for the reading.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use railhead_plan::parser_says;
use serde::Deserialize;

use super::entry::{ENTRY, EntryError, file};

/// The longest list that is read, bytes. Real ones have some kilobytes.
const LONGEST: u64 = 1 << 20;
/// The specification: a configuration without a version is of this one.
const OLDEST: &str = "0.1.0";

/// The cluster network's configuration list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// Which file.
    pub path: PathBuf,
    /// Name of the network.
    pub name: String,
    /// The versions of the protocol that it allows; the runtime chooses one of them.
    pub versions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    #[serde(default)]
    name: String,
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    cni_versions: Vec<String>,
    #[serde(default)]
    load_only_inlined_plugins: bool,
}

impl Conflist {
    /// Reads the content of the file that the runtime takes first.
    pub fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, EntryError> {
        if path.extension().is_none_or(|extension| extension != "conflist") {
            return Err(not_a_list(path, bytes));
        }
        let list: List = match serde_json::from_slice(bytes) {
            Ok(list) => list,
            Err(error) => {
                return Err(EntryError::Damaged {
                    path,
                    detail: parser_says(&error),
                });
            }
        };
        if list.load_only_inlined_plugins {
            return Err(EntryError::OnlyInlined { path });
        }
        if !is_folder_name(&list.name) {
            return Err(EntryError::Name {
                path,
                name: cut(&list.name, 64),
            });
        }
        let mut versions = list.cni_versions;
        if !list.cni_version.is_empty() {
            versions.push(list.cni_version);
        }
        if versions.is_empty() {
            versions.push(OLDEST.to_owned());
        }
        // What is longer is no version that anybody speaks, and is to be read in a message.
        for version in &mut versions {
            *version = cut(version, 64);
        }
        versions.sort();
        versions.dedup();
        Ok(Self {
            path,
            name: list.name,
            versions,
        })
    }

    /// The drop-in for this network.
    pub fn entry(&self, conf_dir: &Path) -> PathBuf {
        conf_dir.join(&self.name).join(ENTRY)
    }

    /// The version that libcni would hand to the plugin and that the plugin does not speak, if so. `loaded` is the version with
    /// which the runtime has loaded a list of this name; libcni takes the greatest that it knows itself (libcni 1.3,
    /// `NetworkConfFromBytes`).
    pub fn unspoken(&self, spoken: &[String], loaded: Option<&str>) -> Option<&str> {
        let is_spoken = |version: &&String| spoken.contains(*version);
        if self.versions.iter().all(|version| is_spoken(&version)) {
            return None;
        }
        let loaded = loaded.map(|version| if version.is_empty() { OLDEST } else { version });
        let chosen = self
            .versions
            .iter()
            .find(|version| Some(version.as_str()) == loaded)
            .or_else(|| self.versions.iter().max_by_key(|version| number(version)))?;
        (!is_spoken(&chosen)).then_some(chosen.as_str())
    }
}

/// A plain name that every file system takes, and that is not hidden.
fn is_folder_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// The beginning of a text that is to be read in a message.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// `1.10.0` is more than `1.9.0`.
fn number(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(u32::MAX))
        .collect()
}

/// The list that the runtime uses: the first configuration by name, as containerd sorts them.
pub(super) fn find(conf_dir: &Path) -> Result<Conflist, EntryError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(conf_dir).map_err(file(conf_dir))? {
        let path = entry.map_err(file(conf_dir))?.path();
        let kind = path.extension().and_then(|extension| extension.to_str());
        if matches!(kind, Some("conf" | "conflist" | "json")) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let Some(path) = paths.into_iter().next() else {
        return Err(EntryError::NoConfiguration {
            folder: conf_dir.to_owned(),
        });
    };
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|list| list.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(file(&path))?;
    if bytes.len() as u64 > LONGEST {
        return Err(EntryError::TooLong { path });
    }
    Conflist::parse(path, &bytes)
}

/// A single plugin takes no drop-in, and its owner writes the file again when somebody edits it.
fn not_a_list(path: PathBuf, bytes: &[u8]) -> EntryError {
    #[derive(Deserialize)]
    struct Plugin {
        #[serde(rename = "type")]
        kind: String,
    }
    let kind = serde_json::from_slice::<Plugin>(bytes).map_or_else(|_| String::new(), |plugin| plugin.kind);
    if kind.starts_with("multus") {
        EntryError::Multus { path }
    } else {
        EntryError::NotAList {
            path,
            kind: cut(&kind, 64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(versions: &[&str]) -> Vec<String> {
        versions.iter().map(|&version| version.to_owned()).collect()
    }

    fn list(text: &str) -> Conflist {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("10-azure.conflist"), text).unwrap();
        find(folder.path()).unwrap()
    }

    #[test]
    fn a_list_of_a_version_that_the_binary_does_not_speak_is_told() {
        let azure = list(r#"{"cniVersion":"0.3.0","name":"azure","plugins":[]}"#);
        assert_eq!(azure.unspoken(&spoken(&["0.3.1", "1.0.0"]), None), Some("0.3.0"));
        assert_eq!(azure.unspoken(&spoken(&["0.3.0", "0.3.1"]), None), None);
        let silent = list(r#"{"name":"azure"}"#);
        assert_eq!(silent.unspoken(&spoken(&["0.3.1"]), Some("")), Some("0.1.0"));
        assert_eq!(silent.unspoken(&spoken(&["0.1.0"]), None), None);
    }

    #[test]
    fn of_several_versions_the_one_counts_that_the_runtime_has_chosen() {
        let several = list(r#"{"cniVersion":"0.3.1","cniVersions":["1.0.0","1.10.0","1.9.0"],"name":"pod"}"#);
        let ours = spoken(&["0.3.1", "1.0.0"]);
        assert_eq!(several.unspoken(&ours, Some("1.0.0")), None);
        assert_eq!(several.unspoken(&ours, Some("1.9.0")), Some("1.9.0"));
        // Nothing is loaded under that name yet, or from a file of before.
        assert_eq!(several.unspoken(&ours, None), Some("1.10.0"));
        assert_eq!(several.unspoken(&ours, Some("0.4.0")), Some("1.10.0"));
    }

    #[test]
    fn a_chain_that_cannot_take_an_entry_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let text = |folder: &Path| find(folder).unwrap_err().to_string();
        assert!(text(folder.path()).contains("install the cluster network first"));
        let path = folder.path().join("10-pod.conflist");
        fs::write(&path, r#"{"name":"pod","loadOnlyInlinedPlugins":true}"#).unwrap();
        assert!(text(folder.path()).contains("remove that line"));
        fs::write(&path, r#"{"name":"../etc"}"#).unwrap();
        assert!(text(folder.path()).contains("cannot be the name of a folder"));
        fs::write(&path, "{").unwrap();
        assert!(text(folder.path()).contains("not a CNI configuration list"));
        fs::write(folder.path().join("05-single.conf"), r#"{"type":"ptp"}"#).unwrap();
        assert!(
            text(folder.path()).contains("single plugin (ptp)"),
            "{}",
            text(folder.path())
        );
    }

    /// Multus writes its file again, so that "make it a list" could not be followed.
    #[test]
    fn a_single_plugin_of_multus_is_answered_with_what_multus_can_be_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("10-pod.conflist"), r#"{"name":"pod"}"#).unwrap();
        fs::write(folder.path().join("00-multus.conf"), r#"{"type":"multus-shim"}"#).unwrap();
        let text = find(folder.path()).unwrap_err().to_string();
        assert!(
            text.contains("multusConfigFile") && text.contains("00-multus.conflist"),
            "{text}"
        );
        // The list that this tells to write is found and chained to under its own name.
        fs::remove_file(folder.path().join("00-multus.conf")).unwrap();
        fs::write(
            folder.path().join("00-multus.conflist"),
            r#"{"cniVersion":"1.0.0","name":"multus-cni-network","plugins":[{"type":"multus-shim"}]}"#,
        )
        .unwrap();
        assert_eq!(find(folder.path()).unwrap().name, "multus-cni-network");
    }

    #[test]
    fn what_a_list_holds_is_cut_off_in_messages_and_a_list_without_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10-pod.conflist");
        let long = "x".repeat(20_000);
        for text in [
            format!(r#"{{"name":"/{long}"}}"#),
            format!(r#"{{"name":"{long}"}}"#),
            format!(r#"{{"name":"pod","cniVersions":"{long}"}}"#),
        ] {
            fs::write(&path, text).unwrap();
            let text = find(folder.path()).unwrap_err().to_string();
            assert!(text.contains("10-pod.conflist") && text.len() < 1024, "{text}");
        }
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let text = find(folder.path()).unwrap_err().to_string();
        assert!(text.contains("longer than"), "{text}");
    }
}
