//! An API server in memory: objects by resource, namespace and name; create, read, list, watch, patch, delete. It can fall
//! silent or refuse everything, as real ones do.

mod answers;
mod holds;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};
use tower::{BoxError, ServiceExt};

use self::holds::{Gate, Hold};

/// How the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Takes requests and answers none.
    Silent,
    /// Answers everything with 503.
    Busy,
}

#[derive(Default)]
struct State {
    mood: Mood,
    objects: BTreeMap<(String, String), Value>,
    requests: Vec<String>,
    refused: Option<String>,
    hold: Option<Hold>,
    events: Vec<Value>,
    version: u64,
    /// Everything that came, changed or went, in the version that it had then.
    history: Vec<Past>,
    /// What a request was to create last.
    creating: String,
    /// Pods that watches do not show, nor lists out of the server's memory.
    behind: Vec<String>,
    gates: Vec<Gate>,
}

/// What a server that is restored has.
pub(crate) struct Backup {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
}

/// Something that a watch tells of.
#[derive(Clone)]
struct Past {
    version: u64,
    resource: String,
    kind: &'static str,
    object: Value,
}

/// What is held up: the request, or the server's answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// The next request that begins so, held up.
pub(crate) struct Held {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Held {
    /// Waits until it is there.
    pub(crate) async fn arrived(&self) {
        let arrived = tokio::time::timeout(Duration::from_mins(10), self.arrived.acquire()).await;
        arrived.expect("there was no such request").unwrap().forget();
    }

    /// Lets it go on.
    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }
}

impl State {
    /// Writes an object in its next version.
    fn store(&mut self, key: (String, String), mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let was_there = self.objects.insert(key.clone(), object.clone()).is_some();
        self.remember(key.0, if was_there { "MODIFIED" } else { "ADDED" }, object.clone());
        object
    }

    fn remember(&mut self, resource: String, kind: &'static str, object: Value) {
        let version = self.version;
        self.history.push(Past {
            version,
            resource,
            kind,
            object,
        });
    }

    /// Whether watches have this object by now.
    fn shows(&self, object: &Value) -> bool {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        !self.behind.iter().any(|behind| behind == name)
    }
}

/// The server.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    changed: broadcast::Sender<()>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            changed: broadcast::Sender::new(1),
        }
    }
}

impl Api {
    /// A client with the deadline for answers that the agent's has.
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        // What the client does not wait for any more is done all the same, as by a server that has read the request.
        let service = tower::service_fn(move |request| {
            let answered = tokio::spawn(api.clone().answer(request));
            async move { answered.await.unwrap() }
        });
        railhead_service::client_of(service.map_err(BoxError::from), Duration::from_secs(10))
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Answers requests that begin like this with 403 from now on.
    pub(crate) fn refuse(&self, beginning: &str) {
        self.state.lock().unwrap().refused = Some(beginning.to_owned());
    }

    pub(crate) fn refuse_no_more(&self) {
        self.state.lock().unwrap().refused = None;
    }

    pub(crate) fn put(&self, resource: &str, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        state.store((resource.to_owned(), name), object.clone());
        self.ring();
    }

    /// Wakes up whoever watches; it may be nobody.
    fn ring(&self) {
        let _ = self.changed.send(());
    }

    /// Name of the object whose creation is held up.
    pub(crate) fn creating(&self) -> String {
        self.state.lock().unwrap().creating.clone()
    }

    /// Watches do not show this pod yet, nor lists out of the server's memory.
    pub(crate) fn behind(&self, pod: &str) {
        self.state.lock().unwrap().behind.push(pod.to_owned());
    }

    pub(crate) fn delete(&self, resource: &str, name: &str) {
        let key = (resource.to_owned(), name.to_owned());
        let mut state = self.state.lock().unwrap();
        if let Some(mut gone) = state.objects.remove(&key) {
            state.version += 1;
            gone["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.remember(key.0, "DELETED", gone);
            self.ring();
        }
    }

    pub(crate) fn backup(&self) -> Backup {
        let state = self.state.lock().unwrap();
        Backup {
            objects: state.objects.clone(),
            version: state.version,
        }
    }

    /// Everything is as it was then, and counts on from there. Watches go on from the version that they have seen.
    pub(crate) fn restore(&self, backup: Backup) {
        let mut state = self.state.lock().unwrap();
        state.history.retain(|past| past.version <= backup.version);
        state.objects = backup.objects;
        state.version = backup.version;
    }

    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let of = |((of, _), object): (&(String, String), &Value)| (of == resource).then(|| object.clone());
        state.objects.iter().filter_map(of).collect()
    }

    /// Reasons and notes of the events so far.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let state = self.state.lock().unwrap();
        let of = |event: &Value| (text(&event["reason"]), text(&event["note"]));
        state.events.iter().map(of).collect()
    }

    /// Requests so far that begin like this, for example `POST /apis/railhead.dev`.
    pub(crate) fn requests(&self, beginning: &str) -> usize {
        let state = self.state.lock().unwrap();
        state
            .requests
            .iter()
            .filter(|request| request.starts_with(beginning))
            .count()
    }
}
