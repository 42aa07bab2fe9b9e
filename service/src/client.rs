//! The way to the API server: no request without a deadline, no dead connection that is used again.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config, Error,
    client::{Body, ConfigExt},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::deadline::DeadlineLayer;

/// How long a connection may take. One that was begun before the node's service rules were there is never answered, and the
/// agent often starts just then; a new one is.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the kernel lets a connection be silent before it asks whether the other end is still there, and how often it asks.
const PROBE: Duration = Duration::from_secs(10);
/// How many unanswered probes are enough.
const PROBES: u32 = 2;
/// How long sent bytes may stay unacknowledged. The kernel's own patience (`tcp_retries2`) is about 15 minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// A client with the credentials of the pod, or those of `KUBECONFIG`. A request that is not a watch ends after `answer`,
/// with its body.
pub async fn connect(answer: Duration) -> Result<Client, Error> {
    let config = Config::infer().await.map_err(Error::InferConfig)?;
    with_config(config, answer)
}

/// The same with a configuration that is known.
///
/// Requests are not tried again here, as kube's own client does for up to 164 s inside of one call: callers have deadlines of
/// their own. A watch begins within `answer`; after that its silence is kube-runtime's to judge, and that of a connection whose
/// other end is gone the kernel's.
pub fn with_config(config: Config, answer: Duration) -> Result<Client, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(PROBE));
    tcp.set_keepalive_interval(Some(PROBE));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_write_timeout(Some(answer));
    let hyper: legacy::Client<_, Body> = legacy::Builder::new(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(answer))
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(hyper);
    Ok(Client::new(service.boxed(), config.default_namespace))
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Instant,
    };

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::WatchParams};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    /// Far more than [`SHORT`], far less than for ever.
    const LONG: Duration = Duration::from_secs(5);

    /// A server that does `with` each connection, and a client for it.
    async fn server<F, R>(with: F) -> (Client, Arc<AtomicUsize>)
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(with(stream));
            }
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        (with_config(config, SHORT).unwrap(), connections)
    }

    async fn read_request(stream: &mut TcpStream) {
        let mut buffer = vec![0; 4096];
        let _ = stream.read(&mut buffer).await;
    }

    async fn get(client: Client) -> (Result<ConfigMap, Error>, Duration) {
        let start = Instant::now();
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        let answer = tokio::time::timeout(LONG, api.get("a")).await;
        (answer.expect("a request without a deadline"), start.elapsed())
    }

    #[tokio::test]
    async fn a_request_that_is_never_answered_ends() {
        let (client, connections) = server(|mut stream| async move {
            read_request(&mut stream).await;
            std::future::pending::<()>().await;
        })
        .await;
        for _ in 0..2 {
            let (answer, took) = get(client.clone()).await;
            let error = crate::chain(&answer.unwrap_err());
            assert!(error.contains("no answer within"), "{error}");
            assert!(took >= SHORT && took < LONG, "{took:?}");
        }
        assert_eq!(
            connections.load(Ordering::Relaxed),
            2,
            "a connection that swallows requests is not used again"
        );
    }

    #[tokio::test]
    async fn an_answer_whose_body_never_ends_is_none() {
        let (client, _) = server(|mut stream| async move {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"kind\":";
            let _ = stream.write_all(head).await;
            std::future::pending::<()>().await;
        })
        .await;
        let (answer, took) = get(client).await;
        assert!(answer.is_err());
        assert!(took < LONG, "{took:?}");
    }

    #[tokio::test]
    async fn a_server_that_is_too_busy_is_asked_once_and_the_caller_decides() {
        let (client, connections) = server(|mut stream| async move {
            read_request(&mut stream).await;
            let busy = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(busy).await;
        })
        .await;
        let (answer, _) = get(client).await;
        assert!(matches!(answer, Err(Error::Api(status)) if status.code == 503));
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_watch_outlives_the_time_that_an_answer_may_take() {
        let (client, _) = server(|mut stream| async move {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(head).await;
            tokio::time::sleep(SHORT * 3).await;
            let event = b"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"late\"}}}\n";
            let _ = stream.write_all(event).await;
        })
        .await;
        let api: Api<ConfigMap> = Api::namespaced(client, "default");
        let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        let event = tokio::time::timeout(LONG, events.next()).await.unwrap();
        assert!(
            matches!(&event, Some(Ok(kube::api::WatchEvent::Added(map))) if map.metadata.name.as_deref() == Some("late")),
            "{event:?}"
        );
    }
}
