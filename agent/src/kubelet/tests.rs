//! What kubelet sees, over real unix sockets.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{ClaimRef, Claims, PreparedDevice, Registered, SocketPaths, Sockets};
use crate::proto::{
    dra::{Claim, NodePrepareResourcesRequest, NodeUnprepareResourcesRequest, dra_plugin_client::DraPluginClient},
    registration::{InfoRequest, RegistrationStatus, registration_client::RegistrationClient},
};

/// Claims called `bad` fail, all others have one device.
struct OneDevice;

impl Claims for OneDevice {
    async fn prepare(&self, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
        if claim.name == "bad" {
            return Err("no".to_owned());
        }
        Ok(vec![PreparedDevice {
            request: "rail0".to_owned(),
            pool: "node1".to_owned(),
            device: "rail0".to_owned(),
            share_id: Some("share".to_owned()),
            cdi_device_ids: vec![format!("railhead.dev/rail={}", claim.uid)],
        }])
    }

    async fn unprepare(&self, claim: ClaimRef) -> Result<(), String> {
        if claim.name == "bad" {
            Err("no".to_owned())
        } else {
            Ok(())
        }
    }
}

async fn connect(path: &std::path::Path) -> Channel {
    let path = path.to_owned();
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

fn claim(name: &str) -> Claim {
    Claim {
        namespace: "team-a".to_owned(),
        uid: format!("uid-{name}"),
        name: name.to_owned(),
    }
}

struct Running {
    _folder: tempfile::TempDir,
    paths: SocketPaths,
    registered: watch::Receiver<Registered>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), super::ServeError>>,
}

fn run() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let paths = SocketPaths::new(folder.path(), "railhead.dev", Some("0815"));
    let sockets = Sockets::open(paths.clone(), "railhead.dev").unwrap();
    let (sender, registered) = watch::channel(Registered::default());
    let stop = CancellationToken::new();
    let served = tokio::spawn(sockets.serve(Arc::new(OneDevice), sender, stop.clone()));
    Running {
        _folder: folder,
        paths,
        registered,
        stop,
        served,
    }
}

#[tokio::test]
async fn kubelet_learns_the_plugin_and_its_notice_is_passed_on() {
    let mut running = run();
    assert!(
        running
            .paths
            .registration
            .ends_with("plugins_registry/railhead.dev-0815@reg.sock")
    );
    let mut client = RegistrationClient::new(connect(&running.paths.registration).await);
    let info = client.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (info.r#type.as_str(), info.name.as_str()),
        ("DRAPlugin", "railhead.dev")
    );
    assert_eq!(info.supported_versions, ["v1.DRAPlugin"]);
    assert_eq!(info.endpoint, running.paths.plugin.display().to_string());

    client
        .notify_registration_status(RegistrationStatus {
            plugin_registered: true,
            error: String::new(),
        })
        .await
        .unwrap();
    let waited = tokio::time::timeout(
        Duration::from_secs(5),
        running.registered.wait_for(|registered| registered.accepted),
    );
    assert!(waited.await.unwrap().is_ok());
}

#[tokio::test]
async fn every_claim_of_a_request_has_an_answer_and_one_failure_spoils_no_other() {
    let running = run();
    let mut client = DraPluginClient::new(connect(&running.paths.plugin).await);
    let request = NodePrepareResourcesRequest {
        claims: vec![claim("good"), claim("bad")],
    };
    let answers = client.node_prepare_resources(request).await.unwrap();
    let claims = answers.into_inner().claims;
    assert_eq!(claims.len(), 2);
    assert_eq!(claims["uid-bad"].error, "no");
    let device = &claims["uid-good"].devices[0];
    assert_eq!(device.request_names, ["rail0"]);
    assert_eq!(device.share_id.as_deref(), Some("share"));
    assert_eq!(device.cdi_device_ids, ["railhead.dev/rail=uid-good"]);

    let request = NodeUnprepareResourcesRequest {
        claims: vec![claim("good"), claim("bad")],
    };
    let answers = client.node_unprepare_resources(request).await.unwrap();
    let claims = answers.into_inner().claims;
    assert_eq!(claims["uid-good"].error, "");
    assert_eq!(claims["uid-bad"].error, "no");
}

#[tokio::test]
async fn both_sockets_are_gone_when_the_agent_has_ended_even_with_kubelet_connected() {
    let running = run();
    let mut client = DraPluginClient::new(connect(&running.paths.plugin).await);
    client
        .node_prepare_resources(NodePrepareResourcesRequest::default())
        .await
        .unwrap();
    running.stop.cancel();
    let served = tokio::time::timeout(Duration::from_secs(5), running.served).await;
    served.unwrap().unwrap().unwrap();
    assert!(!running.paths.plugin.exists() && !running.paths.registration.exists());
}

#[tokio::test]
async fn sockets_of_killed_agents_are_removed_and_those_of_living_ones_are_not() {
    let running = run();
    let folder = running.paths.registration.parent().unwrap();
    let dead = folder.join("railhead.dev-dead@reg.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let foreign = folder.join("other.dev-reg.sock");
    drop(std::os::unix::net::UnixListener::bind(&foreign).unwrap());

    let root = folder.parent().unwrap();
    let second = SocketPaths::new(root, "railhead.dev", Some("4711"));
    let _sockets = Sockets::open(second, "railhead.dev").unwrap();
    assert!(!dead.exists(), "the dead agent's socket is left");
    assert!(running.paths.registration.exists(), "a living agent lost its socket");
    assert!(foreign.exists(), "another driver's socket was taken");
}
