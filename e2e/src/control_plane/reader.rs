//! Reads objects as the administrator without a kubectl for each: whoever waits for something reads it twice a second.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    /// A client for each control plane that this thread has read from: connections belong to the network of the thread that makes them.
    static CLIENTS: RefCell<HashMap<PathBuf, (Runtime, Client)>> = RefCell::default();
}

/// A kind of objects, as the API server serves it.
#[derive(Clone, Debug)]
struct Resource {
    api_version: String,
    kind: String,
    plural: String,
    is_namespaced: bool,
}

impl Resource {
    fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let mut parts = vec!["", root, &self.api_version];
        if let Some(namespace) = namespace.filter(|_| self.is_namespaced) {
            parts.extend(["namespaces", namespace]);
        }
        parts.push(&self.plural);
        parts.extend(name);
        parts.join("/")
    }

    /// An object as kubectl prints it.
    fn shown(&self, mut object: Value) -> Value {
        object["apiVersion"] = json!(self.api_version);
        object["kind"] = json!(self.kind);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        object
    }
}

/// Somebody's eyes on one control plane.
#[derive(Debug)]
pub(super) struct Reader {
    kubeconfig: PathBuf,
    /// By each of the names that kubectl knows.
    resources: Mutex<HashMap<String, Resource>>,
}

impl Reader {
    pub(super) fn new(kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            resources: Mutex::default(),
        }
    }

    /// An object; `None` where there is none of that name.
    pub(super) fn get(&self, namespace: &str, kind: &str, name: &str) -> Result<Option<Value>> {
        let resource = self.resource(kind)?;
        let found = self.ask(&resource.path(Some(namespace), Some(name)))?;
        Ok(found.map(|object| resource.shown(object)))
    }

    /// All objects of a kind in a namespace, or in all.
    pub(super) fn list(&self, namespace: Option<&str>, kind: &str) -> Result<Vec<Value>> {
        let resource = self.resource(kind)?;
        let path = resource.path(namespace, None);
        let mut list = self.ask(&path)?.with_context(|| format!("there is no {path}"))?;
        let Value::Array(items) = list["items"].take() else {
            return Err(anyhow!("{path} is no list"));
        };
        Ok(items.into_iter().map(|item| resource.shown(item)).collect())
    }

    /// What kubectl would take the word for. A kind that is not known may have come just now.
    fn resource(&self, word: &str) -> Result<Resource> {
        let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = resources.get(word) {
            return Ok(known.clone());
        }
        *resources = self.discover()?;
        let found = resources.get(word).cloned();
        found.with_context(|| format!("the API server serves nothing that is called {word}"))
    }

    fn discover(&self) -> Result<HashMap<String, Resource>> {
        let mut versions = vec!["/api/v1".to_owned()];
        let groups = self.ask("/apis")?.context("the API server serves no groups")?;
        for group in groups["groups"].as_array().into_iter().flatten() {
            let version = group["preferredVersion"]["groupVersion"].as_str();
            versions.extend(version.map(|version| format!("/apis/{version}")));
        }
        let mut names = HashMap::new();
        for version in versions {
            // A group may go while it is asked.
            let Some(list) = self.ask(&version)? else { continue };
            let api_version = list["groupVersion"].as_str().unwrap_or_default();
            let group = api_version.split_once('/').map(|(group, _)| group);
            for found in list["resources"].as_array().into_iter().flatten() {
                let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
                let resource = Resource {
                    api_version: api_version.to_owned(),
                    kind: text("kind"),
                    plural: text("name"),
                    is_namespaced: found["namespaced"] == true,
                };
                if resource.plural.contains('/') {
                    continue;
                }
                let mut words = vec![
                    text("name"),
                    text("singularName"),
                    text("kind"),
                    text("kind").to_lowercase(),
                ];
                let short = found["shortNames"].as_array().into_iter().flatten();
                words.extend(short.filter_map(|name| name.as_str().map(str::to_owned)));
                let full = group.map(|group| words.iter().map(|word| format!("{word}.{group}")).collect());
                words.extend(full.unwrap_or_else(Vec::new));
                for word in words {
                    // The first group with a word has it, as for kubectl.
                    names.entry(word).or_insert_with(|| resource.clone());
                }
            }
        }
        Ok(names)
    }

    /// What the API server has under a path.
    fn ask(&self, path: &str) -> Result<Option<Value>> {
        CLIENTS.with_borrow_mut(|clients| {
            // The other side closes connections that are idle for long, and nobody is told while nothing is asked.
            if let Some((runtime, client)) = clients.get(&self.kubeconfig)
                && let Ok(answer) = ask(runtime, client, path)
            {
                return Ok(answer);
            }
            clients.remove(&self.kubeconfig);
            let (runtime, client) = self.connect()?;
            let answer = ask(&runtime, &client, path).with_context(|| format!("GET {path}"))?;
            clients.insert(self.kubeconfig.clone(), (runtime, client));
            Ok(answer)
        })
    }

    fn connect(&self) -> Result<(Runtime, Client)> {
        // It works on the thread that waits, so that connections are made in its network.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok((runtime, client))
    }
}

fn ask(runtime: &Runtime, client: &Client, path: &str) -> Result<Option<Value>> {
    let request = Request::get(path).body(Vec::new())?;
    match runtime.block_on(client.request::<Value>(request)) {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}
