//! The DRA plugin service: kubelet's messages to [`Claims`] and back.

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;
use tonic::{Request, Response, Status};

use super::{ClaimRef, Claims, PreparedDevice};
use crate::proto::dra::{
    Device, NodePrepareResourceResponse, NodePrepareResourcesRequest, NodePrepareResourcesResponse,
    NodeUnprepareResourceResponse, NodeUnprepareResourcesRequest, NodeUnprepareResourcesResponse,
    dra_plugin_server::DraPlugin,
};

/// The service on the plugin socket.
#[derive(Debug)]
pub struct Plugin<C> {
    claims: Arc<C>,
}

impl<C> Plugin<C> {
    /// A service that hands every claim to `claims`.
    pub fn new(claims: Arc<C>) -> Self {
        Self { claims }
    }
}

#[tonic::async_trait]
impl<C: Claims> DraPlugin for Plugin<C> {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        // One claim that has to wait must not hold up the others: kubelet wants all answers within its one deadline.
        let answers = request.into_inner().claims.into_iter().map(|claim| async {
            let uid = claim.uid.clone();
            let prepared = match ClaimRef::try_from(claim) {
                Ok(claim) => self.claims.prepare(claim).await,
                Err(error) => Err(error.to_string()),
            };
            let answer = match prepared {
                Ok(devices) => NodePrepareResourceResponse {
                    devices: devices.into_iter().map(Device::from).collect(),
                    error: String::new(),
                },
                Err(error) => NodePrepareResourceResponse {
                    devices: Vec::new(),
                    error,
                },
            };
            (uid, answer)
        });
        let claims: HashMap<_, _> = join_all(answers).await.into_iter().collect();
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let answers = request.into_inner().claims.into_iter().map(|claim| async {
            let uid = claim.uid.clone();
            let released = match ClaimRef::try_from(claim) {
                Ok(claim) => self.claims.unprepare(claim).await,
                Err(error) => Err(error.to_string()),
            };
            let error = released.err().unwrap_or_default();
            (uid, NodeUnprepareResourceResponse { error })
        });
        let claims: HashMap<_, _> = join_all(answers).await.into_iter().collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}

impl From<PreparedDevice> for Device {
    fn from(device: PreparedDevice) -> Self {
        Self {
            request_names: vec![device.request],
            pool_name: device.pool,
            device_name: device.device,
            cdi_device_ids: device.cdi_device_ids,
            share_id: device.share_id,
        }
    }
}
