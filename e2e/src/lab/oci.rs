//! Container images without a container engine: one layer, written as an OCI archive that `ctr image import` takes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Debug)]
enum Entry {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8> },
    Link { target: String },
}

/// An image in the making. Equal content gives an equal archive, bit by bit.
#[derive(Debug, Default)]
pub(super) struct Image {
    entries: BTreeMap<String, Entry>,
    entrypoint: Vec<String>,
    user: String,
}

impl Image {
    /// An empty image that starts this program as this user (`uid:gid`).
    pub(super) fn new(entrypoint: &[&str], user: &str) -> Self {
        let mut image = Self {
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            user: user.to_owned(),
            ..Self::default()
        };
        image.entries.insert("tmp".into(), Entry::Directory { mode: 0o1777 });
        image.file(
            "/etc/passwd",
            0o644,
            b"root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/sh\n".to_vec(),
        );
        image
    }

    /// Adds a file; its folders come with it.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.add(path, Entry::File { mode, content });
    }

    /// Adds a copy of a program or library of this machine, following links.
    pub(super) fn copy(&mut self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(path, mode, content);
        Ok(())
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.add(
            path,
            Entry::Link {
                target: target.to_owned(),
            },
        );
    }

    /// Whether something is at this path.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    /// How many bytes its files have.
    pub(super) fn size(&self) -> usize {
        self.entries
            .values()
            .map(|entry| {
                if let Entry::File { content, .. } = entry {
                    content.len()
                } else {
                    0
                }
            })
            .sum()
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.entries
                .entry(path[..end].to_owned())
                .or_insert(Entry::Directory { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the archive; `name` is the full reference, as containerd stores it (`docker.io/railhead/agent:dev`).
    pub(super) fn write(&self, name: &str, to: &Path) -> Result<()> {
        let unfinished = to.with_extension("unfinished");
        self.archive(
            name,
            File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?,
        )?;
        fs::rename(&unfinished, to).with_context(|| format!("cannot write {}", to.display()))
    }

    fn archive(&self, name: &str, out: impl std::io::Write) -> Result<()> {
        let layer = self.layer()?;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "User": self.user,
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = serde_json::to_vec(&config)?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config),
            "layers": [descriptor(LAYER, &layer)],
        }))?;
        let mut in_index = descriptor(MANIFEST, &manifest);
        in_index["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [in_index]}))?;
        let mut archive = Builder::new(out);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", &index)?;
        for blob in [&layer, &config, &manifest] {
            append(&mut archive, &format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
        }
        archive.finish().context("cannot finish the image archive")
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            match entry {
                Entry::Directory { mode } => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(*mode);
                    layer.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File { mode, content } => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    layer.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link { target } => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    layer.append_link(&mut header, path, target)?;
                }
            }
        }
        layer.into_inner().context("cannot finish the image layer")
    }
}

fn append(archive: &mut Builder<impl std::io::Write>, path: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, path, content)
        .with_context(|| format!("cannot add {path} to the image archive"))
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    let hex = Sha256::digest(content)
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut image = Image::new(&["/railhead-agent"], "0:0");
        image.file("/opt/railhead/cni/railhead", 0o755, b"binary".to_vec());
        image.link("/bin", "usr/bin");
        let mut out = Vec::new();
        image.archive("docker.io/railhead/agent:dev", &mut out).unwrap();
        out
    }

    #[test]
    fn equal_content_gives_an_equal_archive() {
        assert_eq!(digest(&sample()), digest(&sample()));
    }

    #[test]
    fn every_blob_lies_under_its_own_digest_and_the_index_names_the_image() {
        let bytes = sample();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut blobs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), format!("sha256:{hex}"));
                blobs += 1;
            } else if path == "index.json" {
                assert!(String::from_utf8_lossy(&content).contains("docker.io/railhead/agent:dev"));
            }
        }
        assert_eq!(blobs, 3, "layer, config and manifest");
    }

    #[test]
    fn folders_come_before_what_they_hold() {
        let mut image = Image::default();
        image.file("/a/b/c", 0o644, Vec::new());
        let paths: Vec<_> = image.entries.keys().map(String::as_str).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    }
}
