//! Saved objects, as `kubectl get -o yaml` or `-o json` prints them: files, folders of them, `-` for standard input.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use k8s_openapi::{
    api::{
        core::v1 as core,
        resource::v1::{ResourceClaim, ResourceClaimTemplate, ResourceSlice},
    },
    jiff::Timestamp,
};
use railhead_crds::{
    Fabric, FabricLedger, NetworkAttachment, NetworkQuota, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork,
};
use serde_json::Value;

use super::{
    Cluster, From, Node, Pod, ReadError, Wanted,
    kept::{Kept, not_understood},
    key,
};

/// The namespace where none is named, as in a context that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Reads what is wanted. It is as old as the newest of the files.
pub(super) fn read(from: &From, wanted: Wanted) -> Result<Cluster, ReadError> {
    let namespace = from.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let mut saved = Saved {
        cluster: Cluster {
            namespace: (!from.all_namespaces).then_some(namespace),
            ..Cluster::default()
        },
        wanted,
        known: 0,
    };
    let mut newest = None;
    for path in &from.saved {
        for file in files(path)? {
            let (text, saved_at) = contents(&file)?;
            newest = newest.max(Some(saved_at));
            for document in documents(&file, &text)? {
                saved.add(document);
            }
        }
    }
    if saved.known == 0 {
        return Err(ReadError::Saved {
            path: from.saved[0].clone(),
            why: "there is no object of Railhead or Kubernetes in it; save some with kubectl get -o yaml".to_owned(),
        });
    }
    saved.cluster.read_at = newest.unwrap_or_else(Timestamp::now);
    Ok(saved.cluster)
}

/// The file, or those of a folder that are YAML or JSON by their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let problem = |error: std::io::Error| ReadError::Saved {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(problem)? {
        let file = entry.map_err(problem)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn contents(file: &Path) -> Result<(String, Timestamp), ReadError> {
    let problem = |error: std::io::Error| ReadError::Saved {
        path: file.to_owned(),
        why: error.to_string(),
    };
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(problem)?;
        return Ok((text, Timestamp::now()));
    }
    let text = fs::read_to_string(file).map_err(problem)?;
    let changed = fs::metadata(file).and_then(|metadata| metadata.modified());
    let changed = Timestamp::try_from(changed.unwrap_or_else(|_| SystemTime::now()));
    Ok((text, changed.unwrap_or_else(|_| Timestamp::now())))
}

/// JSON is told by its first character: it is read ten times as fast as YAML, of which it is a part.
fn documents(file: &Path, text: &str) -> Result<Vec<Value>, ReadError> {
    let problem = |error: &dyn std::error::Error| ReadError::Saved {
        path: file.to_owned(),
        why: error.to_string(),
    };
    if text.trim_start().starts_with('{') {
        let documents: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        return documents.map_err(|error| problem(&error));
    }
    // A saved cluster is large; it is the user's own file.
    let options = serde_saphyr::options! { budget: None };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| problem(&error))
}

/// A cluster of these objects, for tests.
#[cfg(test)]
pub(super) fn of_objects(objects: Vec<Value>, namespace: Option<&str>, wanted: Wanted, read_at: Timestamp) -> Cluster {
    let mut saved = Saved {
        cluster: Cluster {
            namespace: namespace.map(str::to_owned),
            read_at,
            ..Cluster::default()
        },
        wanted,
        known: 0,
    };
    for object in objects {
        saved.add(object);
    }
    saved.cluster
}

struct Saved {
    cluster: Cluster,
    wanted: Wanted,
    /// Objects of kinds that could be wanted.
    known: usize,
}

impl Saved {
    /// An object, or all of a list.
    fn add(&mut self, mut document: Value) {
        let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        if is_list && let Value::Array(items) = document["items"].take() {
            for item in items {
                self.add(item);
            }
            return;
        }
        let group = document["apiVersion"]
            .as_str()
            .and_then(|version| version.split_once('/'));
        let group = group.map_or(String::new(), |(group, _)| group.to_owned());
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        self.add_if::<Fabric>(&group, &kind, &mut document);
        self.add_if::<FabricLedger>(&group, &kind, &mut document);
        self.add_if::<QosClass>(&group, &kind, &mut document);
        self.add_if::<NetworkQuota>(&group, &kind, &mut document);
        self.add_if::<TrainingNetwork>(&group, &kind, &mut document);
        self.add_if::<NetworkSlice>(&group, &kind, &mut document);
        self.add_if::<NetworkAttachment>(&group, &kind, &mut document);
        self.add_if::<NodeNetwork>(&group, &kind, &mut document);
        self.add_if::<Node>(&group, &kind, &mut document);
        self.add_if::<core::Namespace>(&group, &kind, &mut document);
        self.add_if::<Pod>(&group, &kind, &mut document);
        self.add_if::<ResourceClaim>(&group, &kind, &mut document);
        self.add_if::<ResourceClaimTemplate>(&group, &kind, &mut document);
        self.add_if::<ResourceSlice>(&group, &kind, &mut document);
        self.add_if::<core::Event>(&group, &kind, &mut document);
    }

    fn add_if<K: Kept>(&mut self, group: &str, kind: &str, document: &mut Value) {
        if K::group(&()) != group || K::kind(&()) != kind {
            return;
        }
        self.known += 1;
        if !self.wanted.has(K::KIND) {
            return;
        }
        let metadata = serde_json::from_value(document["metadata"].clone()).unwrap_or_default();
        let (namespace, _) = key(&metadata);
        let wanted = self
            .cluster
            .namespace
            .as_deref()
            .filter(|_| !self.wanted.is_cluster_wide());
        if !namespace.is_empty() && wanted.is_some_and(|wanted| wanted != namespace) {
            return;
        }
        match serde_json::from_value::<K>(document.take()) {
            Ok(object) => K::list(&mut self.cluster).extend(object.keep(&self.wanted)),
            Err(error) => self.cluster.unread.push(not_understood::<K>(&metadata, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::Kind, fixtures};

    fn read_files(folder: &Path, wanted: Wanted) -> Result<Cluster, ReadError> {
        let from = From {
            namespace: Some("team-a".to_owned()),
            saved: vec![folder.to_owned()],
            ..From::default()
        };
        read(&from, wanted)
    }

    #[test]
    fn lists_and_documents_in_yaml_and_json_are_read_as_a_cluster_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let list = serde_json::json!({"kind": "TrainingNetworkList", "items": [fixtures::network("llama", 2)]});
        fs::write(folder.path().join("a.json"), list.to_string()).unwrap();
        let yaml = |value: &Value| serde_saphyr::to_string(value).unwrap();
        let two = format!(
            "{}---\n{}",
            yaml(&fixtures::fabric()),
            yaml(&fixtures::slice("llama", 2))
        );
        fs::write(folder.path().join("b.yaml"), two).unwrap();
        fs::write(folder.path().join("c.txt"), "no object").unwrap();
        let wanted = Wanted::all_of([Kind::Networks, Kind::Fabrics]);
        let cluster = read_files(folder.path(), wanted).unwrap();
        assert_eq!(
            (cluster.networks.len(), cluster.fabrics.len(), cluster.slices.len()),
            (1, 1, 0)
        );
        assert_eq!(cluster.fabrics[0].spec.rails.len(), 2);
    }

    #[test]
    fn a_file_that_is_not_there_is_no_yaml_or_holds_nothing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        for (text, words) in [
            (None, "No such file"),
            (Some("a: [b"), "cannot be read"),
            (Some("a: b"), "no object of Railhead"),
        ] {
            if let Some(text) = text {
                fs::write(&file, text).unwrap();
            }
            let error = read_files(&file, Wanted::default()).unwrap_err();
            assert!(
                error.to_string().contains(words) && error.to_string().contains("a.yaml"),
                "{error}"
            );
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
        }
    }
}
