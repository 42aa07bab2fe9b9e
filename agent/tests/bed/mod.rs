//! An agent for tests: a folder that stands for the node, an API server that answers from memory.

#![allow(dead_code)] // Each test binary uses its own part.
#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

pub(crate) mod api;
pub(crate) mod ports;

use std::{path::PathBuf, sync::Arc};

use railhead_agent::{
    agent::{Agent, Phase},
    claims::{NodeClaims, Turns, plans},
    events::Events,
    inventory::Inventory,
    kubelet::{ClaimRef, Registered, SocketPaths},
    metrics::Metrics,
};
use railhead_plan::{Layout, PEERS_FILE};
use railhead_service::Passes;
use railhead_vf::{PfSide, testing::PfTable};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use self::api::Api;

pub(crate) const NODE: &str = "gpu-1";
pub(crate) const NAMESPACE: &str = "team-a";
pub(crate) const SLICE: &str = "llama-7f3a9c21";
const NETWORK_UID: &str = "7f3a9c21-0000-4000-8000-000000000001";

/// One node with its agent.
pub(crate) struct Bed {
    folder: tempfile::TempDir,
    pub(crate) api: Api,
    pub(crate) agent: Arc<Agent>,
}

impl Bed {
    /// An agent that knows its ports, and an API server with the network `llama` of so many pods on no rail at all: what is
    /// tested here happens in files and requests.
    pub(crate) fn new(pods: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::default();
        let layout = Layout::under(folder.path());
        plans::make_folders(&layout).unwrap();
        let agent = agent(&api, layout, Arc::new(PfTable::default()), without_ports());
        put_network(&api, pods, &json!([]));
        Self { folder, api, agent }
    }

    /// The node's other agent, as there is one in a rolling update.
    pub(crate) fn another_agent(&self) -> Arc<Agent> {
        let layout = self.agent.layout.clone();
        agent(&self.api, layout, Arc::new(PfTable::default()), without_ports())
    }

    pub(crate) fn claims(&self) -> NodeClaims {
        NodeClaims::new(self.agent.clone())
    }

    /// Adds a pod, of an Indexed Job if it has an index, with its claim.
    pub(crate) fn add_pod(&self, name: &str, index: Option<u32>) -> ClaimRef {
        add_pod(&self.api, name, index, &json!([]))
    }

    /// For which pods a claim is reserved, as the scheduler writes it.
    pub(crate) fn reserve(&self, claim: &ClaimRef, pods: &[&str]) {
        let claims = self.api.all("resourceclaims");
        let found = claims.into_iter().find(|found| found["metadata"]["name"] == claim.name);
        let mut found = found.unwrap();
        let pods: Vec<Value> = pods
            .iter()
            .map(|pod| json!({"resource": "pods", "name": pod, "uid": uid(pod)}))
            .collect();
        found["status"]["reservedFor"] = json!(pods);
        self.api.put("resourceclaims", &found);
    }

    /// Another pod has the index.
    pub(crate) fn hold(&self, index: u32, pod: &str) {
        self.api.put(
            "networkattachments",
            &json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
                "metadata": {"name": format!("{SLICE}-{index}"), "namespace": NAMESPACE, "uid": format!("a-{index}")},
                "spec": {"sliceName": SLICE, "index": index, "podName": pod, "podUID": uid(pod),
                    "claimUID": format!("claim-{pod}"), "nodeName": "gpu-2"},
            }),
        );
    }

    /// Leaves what ADD leaves of a pod with index 2.
    pub(crate) fn wire(&self, pod: &str, rails: &Value) {
        let record = json!({
            "version": 1, "containerId": "c1", "pod": {"namespace": NAMESPACE, "name": pod, "uid": uid(pod)},
            "network": {"name": "llama", "uid": "n-1"}, "sliceName": SLICE, "index": 2, "pods": 4, "wiredInMs": 1,
            "rails": rails,
        });
        let layout = &self.agent.layout;
        std::fs::create_dir_all(layout.attachment(&uid(pod))).unwrap();
        std::fs::write(layout.record(&uid(pod)), record.to_string()).unwrap();
        std::fs::write(layout.attachment(&uid(pod)).join(PEERS_FILE), "").unwrap();
    }

    /// Names of the pods that hold indices, by attachment.
    pub(crate) fn holders(&self) -> Vec<(String, String)> {
        let of = |attachment: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&attachment["metadata"]["name"]),
                text(&attachment["spec"]["podName"]),
            )
        };
        self.api.all("networkattachments").iter().map(of).collect()
    }
}

fn without_ports() -> Inventory {
    Inventory {
        fabric: "backend".to_owned(),
        ..Inventory::default()
    }
}

/// An agent that knows its ports, over these folders. Its client belongs to the runtime in which it is made.
pub(crate) fn agent(api: &Api, layout: Layout, pf_side: Arc<dyn PfSide>, inventory: Inventory) -> Arc<Agent> {
    Arc::new(Agent {
        node: NODE.to_owned(),
        client: api.client(),
        events: Events::new(api.client(), None),
        boot_id: "boot".to_owned(),
        cni_binary: PathBuf::from("/bin/false"),
        sockets: SocketPaths::new(&layout.locks(), "railhead.dev", None),
        metrics: Metrics::default(),
        pf_side,
        turns: Turns::default(),
        passes: Passes::default(),
        inventory: watch::Sender::new(Some(Arc::new(inventory))),
        drift: watch::Sender::new(railhead_agent::drift::Drift::default()),
        shared: watch::Sender::default(),
        phase: watch::Sender::new(Phase::Serving),
        registered: watch::Sender::new(Registered::default()),
        node_changed: Notify::new(),
        claims_changed: Notify::new(),
        attachments_changed: Notify::new(),
        layout,
    })
}

/// Adds the network `llama` of so many pods, on these rails.
pub(crate) fn put_network(api: &Api, pods: u32, rails: &Value) {
    api.put("trainingnetworks", &network(pods));
    api.put("networkslices", &slice(pods, rails));
}

/// Adds a pod, of an Indexed Job if it has an index, with its claim, for which the scheduler has allocated `results`.
pub(crate) fn add_pod(api: &Api, name: &str, index: Option<u32>, results: &Value) -> ClaimRef {
    let (pod_uid, claim_uid) = (uid(name), format!("claim-{name}"));
    let annotations = match index {
        Some(index) => json!({"batch.kubernetes.io/job-completion-index": index.to_string()}),
        None => json!({}),
    };
    api.put(
        "pods",
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": pod_uid, "annotations": annotations,
                "labels": {"railhead.dev/network": "llama"}},
            "spec": {"nodeName": NODE, "containers": []},
            "status": {"resourceClaimStatuses": [{"name": "railhead", "resourceClaimName": name}]},
        }),
    );
    api.put("resourceclaims", &json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": claim_uid,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod_uid}]},
        "spec": {"devices": {"config": [{"opaque": {"driver": "railhead.dev", "parameters": {
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkClaim", "network": "llama", "networkUID": NETWORK_UID}}}]}},
        "status": {"reservedFor": [{"resource": "pods", "name": name, "uid": pod_uid}],
            "allocation": {"devices": {"results": results}}},
    }));
    ClaimRef {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        uid: claim_uid,
    }
}

/// UID of a pod.
pub(crate) fn uid(pod: &str) -> String {
    format!("uid-{pod}")
}

fn network(pods: u32) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
        "metadata": {"name": "llama", "namespace": NAMESPACE, "uid": NETWORK_UID},
        "spec": {"pods": pods},
    })
}

fn slice(pods: u32, rails: &Value) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice",
        "metadata": {"name": SLICE, "namespace": NAMESPACE, "uid": "s-1"},
        "spec": {
            "network": {"name": "llama", "uid": NETWORK_UID},
            "fabric": {"name": "backend", "uid": "f-1", "mtu": 9000, "linkType": "Ethernet", "softRoCE": "Never"},
            "pods": pods, "base": 64, "capacity": pods.next_power_of_two(), "ledgerSequence": 1, "rails": rails,
            "qos": {"className": "gold", "dscp": 26, "priority": 3, "guaranteed": "1G", "trust": false, "spoofCheck": true},
        },
    })
}
