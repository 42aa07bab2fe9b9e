//! What the server answers: create, read, list, watch, patch, delete.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tower::BoxError;

use super::{Api, Mood, Past, When};

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl Api {
    pub(super) async fn answer(self, request: Request<Body>) -> Result<Answer, Infallible> {
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
            let is_from_memory = query.contains("resourceVersion=0");
            let is_shown = |object: &Value| {
                node.is_none_or(|node| object["spec"]["nodeName"] == node) && (!is_from_memory || state.shows(object))
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
