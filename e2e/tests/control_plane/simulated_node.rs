//! Nodes without a machine: what an agent would write about them, written with an agent's real identity.

use std::sync::Mutex;

use anyhow::{Context, Result};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cluster::{Cluster, Identity, SYSTEM};

/// Nodes that must seem alive.
static ALIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A node with one port per rail.
pub(crate) struct SimulatedNode {
    pub(crate) name: String,
    /// The node's agent: a token of the agent's service account that is bound to a pod on this node.
    pub(crate) agent: Identity,
}

impl SimulatedNode {
    /// Adds a node to the cluster, and nothing of Railhead on it but the agent's identity.
    pub(crate) fn add(cluster: &Cluster, name: &str, fabric: &str) -> Result<Self> {
        let now = OffsetDateTime::now_utc().format(&Rfc3339)?;
        let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        cluster.create(&cluster.admin(), &[json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "test.railhead.dev/fabric": fabric}},
            "status": {
                "capacity": resources,
                "allocatable": resources,
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated",
                    "lastHeartbeatTime": now, "lastTransitionTime": now,
                }],
            },
        })])?;
        ALIVE
            .lock()
            .expect("no holder of this lock panics")
            .push(name.to_owned());
        heartbeat(cluster)?;
        let pod = format!("agent-of-{name}");
        cluster.create(&cluster.admin(), &[json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod, "namespace": SYSTEM},
            "spec": {"nodeName": name, "serviceAccountName": "railhead-agent", "containers": [{"name": "agent", "image": "agent"}]},
        })])?;
        Ok(Self {
            name: name.to_owned(),
            agent: cluster.service_account(SYSTEM, "railhead-agent", Some(&pod))?,
        })
    }

    /// Adds a node and does for it what its agent does at its start: publishes the ports, reports what it found.
    pub(crate) fn join(cluster: &Cluster, name: &str, fabric: &str, speeds: &[&str]) -> Result<Self> {
        let node = Self::add(cluster, name, fabric)?;
        eventually(&format!("the operator makes NodeNetwork {name}"), || {
            cluster.get("default", "nodenetwork", name)
        })?;
        node.publish(cluster, fabric, speeds)?;
        node.report(cluster, speeds)?;
        Ok(node)
    }

    /// One device per rail, with the capacities of its port.
    fn publish(&self, cluster: &Cluster, fabric: &str, speeds: &[&str]) -> Result<()> {
        let devices: Vec<Value> = speeds
            .iter()
            .enumerate()
            .map(|(rail, speed)| {
                json!({
                    "name": format!("rail{rail}"),
                    "allowMultipleAllocations": true,
                    "attributes": {
                        "rail": {"int": rail},
                        "fabric": {"string": fabric},
                        "resource.kubernetes.io/pciBusID": {"string": format!("0000:18:00.{rail}")},
                    },
                    "capacity": {
                        "bandwidth": {"value": speed, "requestPolicy": {"default": "1M", "validRange": {"min": "1M", "step": "1M"}}},
                        "vfs": {"value": "8", "requestPolicy": {"default": "1", "validRange": {"min": "1", "max": "1"}}},
                    },
                })
            })
            .collect();
        cluster.create(
            &self.agent,
            &[json!({
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceSlice",
                "metadata": {"name": format!("railhead-{}", self.name)},
                "spec": {
                    "driver": "railhead.dev",
                    "nodeName": self.name,
                    "pool": {"name": self.name, "generation": 1, "resourceSliceCount": 1},
                    "devices": devices,
                },
            })],
        )
    }

    /// The status of the NodeNetwork.
    fn report(&self, cluster: &Cluster, speeds: &[&str]) -> Result<()> {
        let ports: Vec<Value> = speeds
            .iter()
            .enumerate()
            .map(|(rail, speed)| {
                json!({
                    "rail": rail, "pciAddress": format!("0000:18:00.{rail}"), "netdev": format!("eth{rail}"), "driver": "mlx5_core",
                    "speed": speed, "vfs": {"used": 0, "total": 8}, "state": "Healthy",
                })
            })
            .collect();
        let rails = speeds.len();
        self.write_status(
            cluster,
            "default",
            "NodeNetwork",
            &self.name,
            &json!({
                "observedGeneration": 1,
                "summary": {"rails": format!("{rails}/{rails}"), "vfs": format!("0/{}", 8 * rails)},
                "ports": ports,
                "conditions": [condition("Ready", "True", "Ready", "simulated")?],
            }),
        )
    }

    /// Takes an index of a network for a pod, and reports it wired.
    pub(crate) fn attach(&self, cluster: &Cluster, namespace: &str, slice: &str, index: u32) -> Result<String> {
        let attachment = crate::samples::attachment(namespace, slice, index, &self.name);
        cluster.create(&self.agent, std::slice::from_ref(&attachment))?;
        let name = attachment["metadata"]["name"]
            .as_str()
            .context("a sample without a name")?
            .to_owned();
        self.write_status(
            cluster,
            namespace,
            "NetworkAttachment",
            &name,
            &json!({
                "summary": "2/2",
                "conditions": [condition("Wired", "True", "Wired", "simulated")?],
            }),
        )?;
        Ok(name)
    }

    /// Says that the node gave back what was changed on it, as it is asked to now.
    pub(crate) fn torn_down(&self, cluster: &Cluster) -> Result<()> {
        let generation = cluster.get("default", "nodenetwork", &self.name)?["metadata"]["generation"].clone();
        let generation = generation.as_i64().context("a NodeNetwork without a generation")?;
        self.torn_down_of(cluster, generation)
    }

    /// The same of a wish that may be an earlier one.
    pub(crate) fn torn_down_of(&self, cluster: &Cluster, generation: i64) -> Result<()> {
        let mut torn_down = condition("TornDown", "True", "TornDown", "simulated")?;
        torn_down["observedGeneration"] = json!(generation);
        let status = json!({"observedGeneration": generation, "conditions": [torn_down]});
        self.write_status(cluster, "default", "NodeNetwork", &self.name, &status)
    }

    /// Writes a status in one request, as an agent does: it may patch a status, and read the object beside it.
    pub(crate) fn write_status(
        &self,
        cluster: &Cluster,
        namespace: &str,
        kind: &str,
        name: &str,
        status: &Value,
    ) -> Result<()> {
        let object = json!({
            "apiVersion": "railhead.dev/v1alpha1",
            "kind": kind,
            "metadata": if kind == "NodeNetwork" { json!({"name": name}) } else { json!({"name": name, "namespace": namespace}) },
            "status": status,
        });
        // Without the spec, which kubectl would miss.
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--subresource",
            "status",
            "--validate=false",
            "--filename",
            "-",
        ];
        cluster.feed(&self.agent, &arguments, &[object])?.ok()?;
        Ok(())
    }
}

/// A condition that changed just now.
fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Result<Value> {
    let now = OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?;
    Ok(json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}))
}

/// Renews the nodes' leases, as their kubelets would; without it they count as lost after 50 s.
pub(crate) fn heartbeat(cluster: &Cluster) -> Result<()> {
    let names = ALIVE.lock().expect("no holder of this lock panics").clone();
    if names.is_empty() {
        return Ok(());
    }
    let now = OffsetDateTime::now_utc().replace_nanosecond(1_000)?.format(&Rfc3339)?;
    let leases: Vec<Value> = names
        .iter()
        .map(|name| {
            json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
            })
        })
        .collect();
    cluster
        .feed(
            &cluster.admin(),
            &["apply", "--server-side", "--force-conflicts", "--filename", "-"],
            &leases,
        )?
        .ok()?;
    Ok(())
}
