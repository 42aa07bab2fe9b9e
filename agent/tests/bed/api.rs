//! An API server in memory: objects by resource, namespace and name; create, read, list, watch, patch, delete. It can fall
//! silent or refuse everything, as real ones do.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, broadcast};
use tower::{BoxError, ServiceExt};

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

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
    /// Pods that lists from memory do not show.
    behind: Vec<String>,
    gates: Vec<Gate>,
}

/// Something that a watch tells of.
#[derive(Clone)]
struct Past {
    version: u64,
    resource: String,
    kind: &'static str,
    object: Value,
}

/// Requests that wait.
struct Gate {
    beginning: String,
    when: When,
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
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

    /// Whether memory has this object by now.
    fn shows(&self, object: &Value) -> bool {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        !self.behind.iter().any(|behind| behind == name)
    }
}

/// The request at which the client is to be killed.
struct Hold {
    /// Requests that are answered first; events do not count, which come when they come.
    after: usize,
    /// Whether the server does what it is asked before the client is killed.
    done: bool,
    reached: Arc<Notify>,
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

    /// Answers `after` more requests and none any more; whether it does what the next one asks is `done`. Tells when that came.
    pub(crate) fn hold_at(&self, after: usize, done: bool) -> Arc<Notify> {
        let reached = Arc::new(Notify::new());
        self.state.lock().unwrap().hold = Some(Hold {
            after,
            done,
            reached: reached.clone(),
        });
        reached
    }

    pub(crate) fn hold_no_more(&self) {
        self.state.lock().unwrap().hold = None;
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

    /// Lists from memory do not show this pod yet.
    pub(crate) fn behind(&self, pod: &str) {
        self.state.lock().unwrap().behind.push(pod.to_owned());
    }

    /// Holds up the next request that begins like this, for example `DELETE /apis/railhead.dev`.
    pub(crate) fn hold(&self, beginning: &str, when: When) -> Held {
        let (arrived, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        self.state.lock().unwrap().gates.push(Gate {
            beginning: beginning.to_owned(),
            when,
            arrived: arrived.clone(),
            open: open.clone(),
        });
        Held { arrived, open }
    }

    async fn pass(&self, request: &str, when: When) {
        let gate = {
            let mut state = self.state.lock().unwrap();
            let of = |gate: &Gate| gate.when == when && request.starts_with(&gate.beginning);
            let found = state.gates.iter().position(of);
            found.map(|found| state.gates.remove(found))
        };
        if let Some(gate) = gate {
            gate.arrived.add_permits(1);
            gate.open.acquire().await.unwrap().forget();
        }
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

    async fn answer(self, request: Request<Body>) -> Result<Answer, Infallible> {
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let line = format!("{} {}", head.method, head.uri);
        let (mood, refused) = {
            let mut state = self.state.lock().unwrap();
            let refused = state
                .refused
                .as_ref()
                .is_some_and(|beginning| line.starts_with(beginning));
            state.requests.push(line.clone());
            if head.method == Method::POST && !line.contains("/events") {
                body["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut state.creating);
            }
            (state.mood, refused)
        };
        if refused {
            return Ok(failure(403, "Forbidden"));
        }
        match mood {
            Mood::Silent => return std::future::pending().await,
            Mood::Busy => return Ok(failure(503, "ServiceUnavailable")),
            Mood::Well => {}
        }
        let query = head.uri.query().unwrap_or_default();
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        // api/v1/... or apis/group/v1/..., then perhaps namespaces/<namespace>.
        let rest = &path[if path[0] == "api" { 2 } else { 3 }..];
        let rest = if rest[0] == "namespaces" && rest.len() > 2 {
            &rest[2..]
        } else {
            rest
        };
        let kept = self.held(rest[0]);
        if kept == Some(false) {
            return std::future::pending().await;
        }
        self.pass(&line, When::Before).await;
        let answer = if query.contains("watch=true") {
            self.watch(rest[0], query)
        } else {
            let answer = self.act(&head.method, rest, query, &body);
            self.ring();
            answer
        };
        self.pass(&line, When::After).await;
        match kept {
            Some(_) => std::future::pending().await,
            None => Ok(answer),
        }
    }

    /// Whether the request is one that is not answered, and if so, whether it is carried out.
    fn held(&self, resource: &str) -> Option<bool> {
        let mut state = self.state.lock().unwrap();
        let hold = state.hold.as_mut().filter(|_| resource != "events")?;
        let Some(after) = hold.after.checked_sub(1) else {
            hold.reached.notify_one();
            // Only the first one of them.
            return Some(std::mem::take(&mut hold.done));
        };
        hold.after = after;
        None
    }

    fn act(&self, method: &Method, path: &[&str], query: &str, body: &Value) -> Answer {
        let mut state = self.state.lock().unwrap();
        let resource = path[0].to_owned();
        if resource == "events" {
            state.events.push(body.clone());
            return ok(body);
        }
        let Some(name) = path.get(1).map(|&name| name.to_owned()) else {
            if method == Method::POST {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let key = (resource, name.clone());
                if state.objects.contains_key(&key) {
                    return failure(409, "AlreadyExists");
                }
                let mut object = body.clone();
                object["metadata"]["uid"] = json!(format!("uid-{}-of-{name}", state.version));
                return ok(&state.store(key, object));
            }
            let node = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("fieldSelector=spec.nodeName%3D"));
            let from_memory = query.contains("resourceVersion=0&") || query.ends_with("resourceVersion=0");
            let is_shown = |object: &Value| {
                node.is_none_or(|node| object["spec"]["nodeName"] == node) && (!from_memory || state.shows(object))
            };
            let items: Vec<&Value> = state
                .objects
                .iter()
                .filter_map(|((of, _), object)| (*of == resource && is_shown(object)).then_some(object))
                .collect();
            return ok(
                &json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": state.version.to_string()}, "items": items}),
            );
        };
        let key = (resource, name);
        let Some(found) = state.objects.get(&key).cloned() else {
            return failure(404, "NotFound");
        };
        match *method {
            Method::DELETE => {
                let other = |field| {
                    let wanted = &body["preconditions"][field];
                    !wanted.is_null() && *wanted != found["metadata"][field]
                };
                if other("uid") || other("resourceVersion") {
                    return failure(409, "Conflict");
                }
                if has_finalizers(&found) {
                    let mut marked = found;
                    marked["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                    return ok(&state.store(key, marked));
                }
                drop(state);
                self.delete(&key.0, &key.1);
                ok(&json!({"apiVersion": "v1", "kind": "Status", "status": "Success", "code": 200}))
            }
            Method::PATCH => {
                let wanted = &body["metadata"]["resourceVersion"];
                if !wanted.is_null() && *wanted != found["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                let mut object = found.clone();
                // Several write there, each its own fields.
                for (field, value) in body["status"].as_object().into_iter().flatten() {
                    object["status"][field] = value.clone();
                }
                if !body["metadata"]["finalizers"].is_null() {
                    object["metadata"]["finalizers"] = body["metadata"]["finalizers"].clone();
                }
                // A patch that changes nothing is no new version.
                if object == found {
                    return ok(&object);
                }
                if !object["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&object) {
                    drop(state);
                    self.delete(&key.0, &key.1);
                    return ok(&object);
                }
                ok(&state.store(key, object))
            }
            _ => ok(&found),
        }
    }

    /// What comes, changes and goes of the objects that the query selects by name or node, after the version that it names, for as long
    /// as somebody listens.
    fn watch(&self, resource: &str, query: &str) -> Answer {
        let value = |key: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(key))
                .map(str::to_owned)
        };
        let name = value("fieldSelector=metadata.name%3D");
        let node = value("fieldSelector=spec.nodeName%3D");
        let after: u64 = value("resourceVersion=")
            .and_then(|version| version.parse().ok())
            .unwrap_or(0);
        let (api, resource) = (self.clone(), resource.to_owned());
        let events = futures::stream::unfold((self.changed.subscribe(), after), move |(mut changed, mut after)| {
            let (api, resource, name, node) = (api.clone(), resource.clone(), name.clone(), node.clone());
            async move {
                loop {
                    let next = {
                        let state = api.state.lock().unwrap();
                        let is_next = |past: &&Past| {
                            past.version > after
                                && past.resource == resource
                                && name
                                    .as_ref()
                                    .is_none_or(|name| past.object["metadata"]["name"] == **name)
                                && node
                                    .as_ref()
                                    .is_none_or(|node| past.object["spec"]["nodeName"] == **node)
                                && state.shows(&past.object)
                        };
                        state.history.iter().find(is_next).cloned()
                    };
                    if let Some(past) = next {
                        after = past.version;
                        let line = format!("{}\n", json!({"type": past.kind, "object": past.object}));
                        let frame = http_body::Frame::data(Bytes::from(line));
                        return Some((Ok::<_, BoxError>(frame), (changed, after)));
                    }
                    match changed.recv().await {
                        Ok(()) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            }
        });
        Response::new(BodyExt::boxed_unsync(StreamBody::new(events)))
    }
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| !all.is_empty())
}

fn ok(object: &Value) -> Answer {
    answer(200, object)
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
    answer(code, &status)
}

fn answer(code: u16, object: &Value) -> Answer {
    let body = Full::new(Bytes::from(object.to_string())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}
