//! Attachments that nobody gives back: their nodes are gone, or an administrator said that they are out of service.
//!
//! A node that does not answer may still run its pods with their addresses, so what it holds stays held. Only when the Node object
//! is gone, or has the taint `node.kubernetes.io/out-of-service` (by which Kubernetes too gives up what such a node holds), and the
//! pod is gone as well, its attachment is taken away.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use railhead_crds::{NetworkAttachment, names::ATTACHMENT_FINALIZER};
use railhead_service::chain;
use tracing::{info, warn};

use crate::{known::Pod, world::World, write};

/// How often.
const PERIOD: Duration = Duration::from_secs(15);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Runs for ever.
pub(crate) async fn run(client: Client, world: World) {
    loop {
        for (node, attachments) in left(&world) {
            match is_lost(&client, &node).await {
                Ok(false) => {}
                Ok(true) => {
                    for attachment in attachments {
                        if let Err(error) = take_away(&client, &attachment).await {
                            let (namespace, name) = (attachment.namespace(), attachment.name_any());
                            warn!(namespace, name, node, error = chain(&error), "trying again");
                        }
                    }
                }
                Err(error) => warn!(node, error = chain(&error), "cannot be read, trying again"),
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Attachments whose pods are gone, by node. Of most of them the node gives back what they hold within seconds.
fn left(world: &World) -> HashMap<String, Vec<Arc<NetworkAttachment>>> {
    let mut by_node: HashMap<String, Vec<_>> = HashMap::new();
    for attachment in world.attachments.state() {
        let namespace = attachment.namespace().unwrap_or_default();
        let pod = world
            .pods
            .get(&ObjectRef::new(&attachment.spec.pod_name).within(&namespace));
        if !pod.is_some_and(|pod| is_of(&attachment, &pod)) {
            by_node
                .entry(attachment.spec.node_name.clone())
                .or_default()
                .push(attachment);
        }
    }
    by_node
}

fn is_of(attachment: &NetworkAttachment, pod: &Pod) -> bool {
    pod.metadata.uid.as_ref() == Some(&attachment.spec.pod_uid)
}

async fn is_lost(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(nodes.get_opt(name).await?.is_none_or(|node| is_given_up(&node)))
}

/// Whether a taint says that nothing runs on its node any more.
pub(crate) fn is_out_of_service(taint: &Taint) -> bool {
    taint.key == OUT_OF_SERVICE
}

fn is_given_up(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(is_out_of_service)
}

/// Takes the attachment away as the watch told of it, unless its pod is there after all.
async fn take_away(client: &Client, attachment: &NetworkAttachment) -> Result<(), kube::Error> {
    let (namespace, name) = (attachment.namespace().unwrap_or_default(), attachment.name_any());
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = pods.get_opt(&attachment.spec.pod_name).await?;
    if pod.is_some_and(|pod| is_of(attachment, &pod)) {
        return Ok(());
    }
    let api: Api<NetworkAttachment> = Api::namespaced(client.clone(), &namespace);
    let as_known = DeleteParams::default().preconditions(Preconditions {
        uid: attachment.uid(),
        resource_version: attachment.resource_version(),
    });
    let marked = match api.delete(&name, &as_known).await {
        Err(error) if write::is_not_found(&error) => return Ok(()),
        deleted => deleted?.left(),
    };
    if let Some(marked) = marked {
        write::remove_finalizer(&api, &marked, ATTACHMENT_FINALIZER).await?;
    }
    info!(
        namespace,
        name,
        node = attachment.spec.node_name,
        "pod and node are gone: its index is free"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_does_not_answer_is_not_lost_and_one_out_of_service_is() {
        let tainted = |key: &str| -> Node {
            serde_json::from_value(json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]}})).unwrap()
        };
        assert!(!is_given_up(&tainted("node.kubernetes.io/unreachable")));
        assert!(is_given_up(&tainted(OUT_OF_SERVICE)));
    }
}
