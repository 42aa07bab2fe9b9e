//! The deadline of requests: one for each, and one for all that somebody waits for.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::client::Body;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

/// The API server did not say anything.
#[derive(Clone, Copy, Debug, Error)]
#[error("no answer within {} s; is the API server reachable from this node?", .waited.as_secs_f32())]
pub struct NoAnswer {
    /// How long was waited.
    pub waited: Duration,
}

/// Ends what asks the API server at `deadline`, whatever it waits for by then.
pub async fn within<T>(
    deadline: Instant,
    asking: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    let start = Instant::now();
    match timeout_at(deadline, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(kube::Error::Service(Box::new(NoAnswer {
            waited: start.elapsed(),
        }))),
    }
}

/// Ends each request that is no watch, its body included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeadlineLayer {
    answer: Duration,
}

impl DeadlineLayer {
    pub(crate) fn new(answer: Duration) -> Self {
        Self { answer }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline {
            inner,
            answer: self.answer,
        }
    }
}

/// [`DeadlineLayer`] around a service.
#[derive(Clone, Debug)]
pub(crate) struct Deadline<S> {
    inner: S,
    answer: Duration,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let waited = self.answer;
        let deadline = Instant::now() + waited;
        let watch = is_watch(request.uri());
        let asking = self.inner.call(request);
        Box::pin(async move {
            let none = |_| BoxError::from(NoAnswer { waited });
            let response = timeout_at(deadline, asking).await.map_err(none)??;
            if watch {
                return Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()));
            }
            let (head, body) = response.into_parts();
            let body = timeout_at(deadline, body.collect()).await.map_err(none)?;
            let whole = Full::new(body.map_err(Into::into)?.to_bytes());
            Ok(Response::from_parts(
                head,
                whole.map_err(|never| match never {}).boxed_unsync(),
            ))
        })
    }
}

/// Whether the answer goes on for as long as the API server has news.
fn is_watch(uri: &http::Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

/// A client of `service`, which stands for an API server, with the deadline that [`crate::client`] has. For tests.
pub fn client_of<S, B>(service: S, answer: Duration) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(DeadlineLayer::new(answer).layer(service), "default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_asks_for_too_long_is_ended_at_the_callers_deadline() {
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = within::<()>(deadline, std::future::pending()).await.unwrap_err();
        assert!(crate::chain(&error).contains("no answer within"), "{error}");
        assert!(
            within(deadline, async { Ok(1) }).await.is_ok(),
            "what is there is taken"
        );
    }

    #[test]
    fn only_a_watch_may_go_on() {
        let is = |uri: &str| is_watch(&uri.parse().unwrap());
        assert!(is("/api/v1/pods?&watch=true&timeoutSeconds=290"));
        assert!(!is("/api/v1/pods?labelSelector=watch%3Dtrue"));
        assert!(!is("/api/v1/pods"));
    }
}
