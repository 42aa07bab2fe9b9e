//! What kubelet says of device plugins: their devices, by the PodResources API.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use crate::{
    proto::pod_resources::{
        AllocatableResourcesRequest, AllocatableResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
        pod_resources_lister_client::PodResourcesListerClient,
    },
    unix_channel,
};

/// How long kubelet may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Why it is not known what device plugins serve.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DevicesError {
    /// The socket.
    #[error("connect to kubelet at {socket}: {source}; is the folder mounted into the agent?")]
    Connect {
        /// Which socket.
        socket: PathBuf,
        /// What happened.
        #[source]
        source: tonic::transport::Error,
    },
    /// The call.
    #[error("ask kubelet at {socket} for the devices of device plugins: {source}")]
    Call {
        /// Which socket.
        socket: PathBuf,
        /// What it answered.
        #[source]
        source: Box<tonic::Status>,
    },
}

/// The devices of all device plugins of the node, those that pods have and those that they may get: by the plugin's own id of
/// the device, which for SR-IOV plugins is the VF's PCI address, the name of the resource.
pub async fn plugin_devices(socket: &Path) -> Result<BTreeMap<String, String>, DevicesError> {
    let channel = unix_channel::connect(socket, ANSWER)
        .await
        .map_err(|source| DevicesError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
    let call = |source| DevicesError::Call {
        socket: socket.to_owned(),
        source: Box::new(source),
    };
    let mut kubelet = PodResourcesListerClient::new(channel);
    let allocatable = kubelet
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await
        .map_err(call)?
        .into_inner();
    // A plugin that has gone away keeps what its pods have.
    let listed = kubelet
        .list(ListPodResourcesRequest {})
        .await
        .map_err(call)?
        .into_inner();
    Ok(by_id(allocatable, listed))
}

/// The devices in kubelet's two answers by their id, the longest name of a resource being 253 + 1 + 63 characters
/// (`IsQualifiedName`, k8s.io/apimachinery).
pub fn by_id(allocatable: AllocatableResourcesResponse, listed: ListPodResourcesResponse) -> BTreeMap<String, String> {
    let of_pods = listed
        .pod_resources
        .into_iter()
        .flat_map(|pod| pod.containers)
        .flat_map(|container| container.devices);
    let devices = allocatable.devices.into_iter().chain(of_pods);
    devices
        .flat_map(|devices| {
            let resource: String = devices.resource_name.chars().take(317).collect();
            devices.device_ids.into_iter().map(move |id| (id, resource.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::{Request, Response, Status, transport::Server};

    use super::*;
    use crate::proto::pod_resources::{
        ContainerDevices, ContainerResources, PodResources,
        pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer},
    };

    struct Kubelet;

    fn devices(resource: &str, ids: &[&str]) -> ContainerDevices {
        ContainerDevices {
            resource_name: resource.to_owned(),
            device_ids: ids.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    #[tonic::async_trait]
    impl PodResourcesLister for Kubelet {
        async fn list(
            &self,
            _: Request<ListPodResourcesRequest>,
        ) -> Result<Response<ListPodResourcesResponse>, Status> {
            let container = ContainerResources {
                name: "train".to_owned(),
                devices: vec![devices("intel.com/sriov", &["0000:18:00.2"])],
            };
            let pod = PodResources {
                name: "a".to_owned(),
                namespace: "ml".to_owned(),
                containers: vec![container],
            };
            Ok(Response::new(ListPodResourcesResponse {
                pod_resources: vec![pod],
            }))
        }

        async fn get_allocatable_resources(
            &self,
            _: Request<AllocatableResourcesRequest>,
        ) -> Result<Response<AllocatableResourcesResponse>, Status> {
            Ok(Response::new(AllocatableResourcesResponse {
                devices: vec![
                    devices("intel.com/sriov", &["0000:18:00.3"]),
                    devices("nvidia.com/gpu", &["GPU-1"]),
                ],
            }))
        }
    }

    #[tokio::test]
    async fn devices_of_plugins_are_known_whether_a_pod_has_them_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("kubelet.sock");
        let nobody = plugin_devices(&socket).await.unwrap_err().to_string();
        assert!(nobody.contains("kubelet.sock"), "{nobody}");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(PodResourcesListerServer::new(Kubelet))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        let devices = plugin_devices(&socket).await.unwrap();
        assert_eq!(devices.len(), 3);
        assert_eq!(devices["0000:18:00.2"], "intel.com/sriov");
        assert_eq!(devices["0000:18:00.3"], "intel.com/sriov");
    }
}
