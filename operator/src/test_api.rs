//! An API server for tests: it keeps what it was asked for, and answers as it is told.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// What was asked for: the method and the path.
pub(crate) type Asked = Arc<Mutex<Vec<(Method, String)>>>;

/// A client of it. `answer` gets path and body of each request; without an answer the server fails.
pub(crate) fn client(answer: fn(&str, Value) -> Option<Value>) -> (Client, Asked) {
    let asked = Asked::default();
    let keep = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let keep = Arc::clone(&keep);
        async move {
            let path = request.uri().path().to_owned();
            keep.lock().unwrap().push((request.method().clone(), path.clone()));
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let answer = answer(&path, serde_json::from_slice(&body).unwrap_or_default());
            let status = match answer {
                Some(_) => StatusCode::OK,
                None => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let body = answer.unwrap_or_else(|| json!({"kind": "Status", "status": "Failure", "code": 500}));
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    (Client::new(service, "default"), asked)
}

/// The last parts of the paths that were asked for with this method, sorted.
pub(crate) fn names(asked: &Asked, method: &Method) -> Vec<String> {
    let asked = asked.lock().unwrap();
    let paths = asked.iter().filter(|(by, _)| by == method).map(|(_, path)| path);
    let mut names: Vec<String> = paths
        .filter_map(|path| path.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names
}
