//! Kubernetes as a person sees it: through kubectl, as JSON, waiting for what should become true.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::lab::{Lab, run::Output};

/// How long anything that comes by itself may take in the lab: far more than a slow machine needs, and less than the five minutes
/// after which the operator looks at everything again, which would hide news that it has missed.
pub const PATIENCE: Duration = Duration::from_mins(4);
/// [`PATIENCE`], for kubectl's commands that wait.
pub const PATIENCE_FLAG: &str = "--timeout=4m";
/// How long a command on a node may take. It takes a fraction of a second: a node that needs longer hangs.
pub const NODE_LIMIT: Duration = Duration::from_mins(1);

/// Waits until `probe` succeeds, asking twice a second; the last error says what was still missing.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("waited {} s until {what}", PATIENCE.as_secs()));
            }
            Err(_) => thread::sleep(Duration::from_millis(500)),
        }
    }
}

impl Lab {
    /// An object, or a list of them, as `kubectl get ARGUMENTS -o json` prints it.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?.ok()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("kubectl get {arguments:?} printed no JSON"))
    }

    /// The items of a list; an unknown kind is an error, an empty list is not.
    pub fn list(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        match self.get(arguments)?["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("kubectl get {arguments:?} answered no list but {other}"),
        }
    }

    /// `kubectl apply` of a manifest.
    pub fn apply(&self, namespace: &str, manifest: &str) -> Result<()> {
        self.try_apply(namespace, manifest)?.ok().map(drop)
    }

    /// `kubectl apply` of a manifest that may be refused.
    pub fn try_apply(&self, namespace: &str, manifest: &str) -> Result<Output> {
        self.kubectl_with_input(&["apply", "-n", namespace, "-f", "-"], manifest)
    }

    /// Runs a shell command in a pod's first container.
    pub fn exec(&self, namespace: &str, pod: &str, command: &str) -> Result<Output> {
        self.kubectl(&["exec", "-n", namespace, pod, "--", "sh", "-c", command])
    }

    /// A condition of an object, as it is now.
    pub fn condition(&self, object: &[&str], condition: &str) -> Result<Value> {
        let found = self.get(object)?;
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = conditions.iter().find(|c| c["type"] == condition).cloned();
        is.ok_or_else(|| anyhow!("there is no condition {condition} among {conditions:?}"))
    }

    /// Waits until a condition of an object has the given status, and answers with the condition.
    pub fn wait_condition(&self, object: &[&str], condition: &str, status: &str) -> Result<Value> {
        eventually(&format!("{object:?} has {condition}={status}"), || {
            let is = self.condition(object, condition)?;
            ensure!(is["status"] == status, "it is {is}");
            Ok(is)
        })
    }

    /// Waits for a condition with this reason, and returns it: a condition is often False for another reason before.
    pub fn wait_reason(&self, object: &[&str], condition: &str, status: &str, reason: &str) -> Result<Value> {
        eventually(&format!("{object:?} has {condition}={status}, {reason}"), || {
            let is = self.condition(object, condition)?;
            ensure!(is["status"] == status && is["reason"] == reason, "it is {is}");
            Ok(is)
        })
    }

    /// The names of a job's running pods by completion index, once there are `count` of them.
    pub fn running_pods(&self, namespace: &str, selector: &str, count: usize) -> Result<Vec<Value>> {
        eventually(&format!("{count} pods {selector} in {namespace} run"), || {
            let mut pods = self.list(&["pods", "-n", namespace, "-l", selector])?;
            pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let states: Vec<String> = pods
                .iter()
                .map(|p| format!("{}: {}", p["metadata"]["name"], p["status"]["phase"]))
                .collect();
            let running = pods.iter().filter(|pod| {
                pod["status"]["containerStatuses"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|c| !c["state"]["running"].is_null()))
            });
            ensure!(
                running.count() == count && pods.len() == count,
                "pods: {}",
                states.join(", ")
            );
            pods.sort_by_key(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"].to_string());
            Ok(pods)
        })
    }

    /// Texts of the events about one object, newest last: `Reason: message`.
    pub fn events(&self, namespace: &str, kind: &str, name: &str) -> Result<Vec<String>> {
        let fields = format!("regarding.kind={kind},regarding.name={name}");
        let mut events = self.list(&["events.events.k8s.io", "-n", namespace, "--field-selector", &fields])?;
        events.sort_by_key(|event| event["metadata"]["creationTimestamp"].to_string());
        Ok(events
            .iter()
            .map(|event| format!("{}: {}", text(&event["reason"]), text(&event["note"])))
            .collect())
    }

    /// Waits for an event about an object whose `Reason: message` contains all `parts`.
    pub fn wait_event(&self, namespace: &str, kind: &str, name: &str, parts: &[&str]) -> Result<String> {
        eventually(
            &format!("{kind} {namespace}/{name} has an event with {parts:?}"),
            || {
                let events = self.events(namespace, kind, name)?;
                let found = events
                    .iter()
                    .rev()
                    .find(|event| parts.iter().all(|part| event.contains(part)));
                found.cloned().ok_or_else(|| anyhow!("its events: {events:#?}"))
            },
        )
    }
}

/// A JSON string without its quotes; anything else as JSON.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
