//! The API server as its users meet it: through kubectl, as somebody. What the administrator only reads is read without it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::reader::Reader;
use crate::cluster::eventually;
use crate::lab::Lab;
use crate::lab::run::{Output, capture, capture_with_input};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Namespace of the Helm release.
pub const SYSTEM: &str = "railhead-system";
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// Who talks to the API server.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The file by which they do.
    pub kubeconfig: PathBuf,
}

/// The running control plane.
pub struct Cluster {
    /// Where it runs.
    pub lab: Lab,
    folder: TempDir,
    names: AtomicUsize,
    reader: Reader,
}

impl Cluster {
    /// The control plane of a lab that is up.
    pub fn new(lab: Lab) -> Result<Self> {
        let reader = Reader::new(&lab.kubeconfig());
        Ok(Self {
            reader,
            lab,
            folder: tempfile::tempdir()?,
            names: AtomicUsize::new(0),
        })
    }

    /// The cluster's administrator, member of system:masters.
    pub fn admin(&self) -> Identity {
        Identity {
            kubeconfig: self.lab.kubeconfig(),
        }
    }

    /// A service account, by a token that is bound to a pod if one is named: such a token carries the pod's node.
    pub fn service_account(&self, namespace: &str, account: &str, pod: Option<&str>) -> Result<Identity> {
        let mut arguments = vec!["create", "token", account, "--namespace", namespace, "--duration", "2h"];
        if let Some(pod) = pod {
            arguments.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
        }
        let token = self.ok(&arguments)?;
        let view = self.ok(&["config", "view", "--raw", "--output", "json"])?;
        let mut config: Value = serde_json::from_str(&view)?;
        config["users"] = json!([{"name": "account", "user": {"token": token.trim()}}]);
        config["contexts"][0]["context"]["user"] = json!("account");
        self.identity(account, &config)
    }

    /// Somebody with this kubeconfig.
    pub fn identity(&self, name: &str, config: &Value) -> Result<Identity> {
        let kubeconfig = self.folder.path().join(format!("{name}-{}.json", self.number()));
        std::fs::write(&kubeconfig, config.to_string())?;
        Ok(Identity { kubeconfig })
    }

    fn number(&self) -> usize {
        self.names.fetch_add(1, Ordering::Relaxed)
    }

    fn command(&self, who: &Identity, arguments: &[&str]) -> Command {
        let mut command = self.lab.command("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", &who.kubeconfig)
            .env("KUBECACHEDIR", self.folder.path().join("cache"));
        command
    }

    /// Runs kubectl as somebody; a refusal is an answer here, not an error.
    pub fn kubectl(&self, who: &Identity, arguments: &[&str]) -> Result<Output> {
        capture(&mut self.command(who, arguments), COMMAND_LIMIT)
    }

    /// What kubectl prints for the administrator.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.kubectl(&self.admin(), arguments)?.ok()?.stdout)
    }

    /// Runs kubectl with these objects on its standard input, as for `apply -f -`.
    pub fn feed(&self, who: &Identity, arguments: &[&str], objects: &[Value]) -> Result<Output> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        capture_with_input(&mut self.command(who, arguments), list.into_bytes(), COMMAND_LIMIT)
    }

    /// Runs kubectl with one object as it is on its standard input, as for `create --raw`.
    pub fn raw(&self, who: &Identity, arguments: &[&str], object: &Value) -> Result<Output> {
        let input = object.to_string().into_bytes();
        capture_with_input(&mut self.command(who, arguments), input, COMMAND_LIMIT)
    }

    /// Creates objects as somebody who may.
    pub fn create(&self, who: &Identity, objects: &[Value]) -> Result<()> {
        self.feed(who, &["create", "--filename", "-"], objects)?.ok()?;
        Ok(())
    }

    /// Tries to create an object, and checks that it is refused with a message that holds all these words, and not stored.
    pub fn refused(&self, who: &Identity, object: &Value, words: &[&str]) -> Result<()> {
        let output = self.feed(who, &["create", "--filename", "-"], std::slice::from_ref(object))?;
        expect_refusal(&output, words)?;
        let kind = object["kind"].as_str().context("the object has no kind")?;
        let name = object["metadata"]["name"].as_str().context("the object has no name")?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        if let Some(stored) = self.reader.get(namespace, kind, name)? {
            bail!("{kind} {name} was refused, but this is there now: {stored:#}");
        }
        Ok(())
    }

    /// Merges a patch into an object of a namespace, as somebody; with options of `kubectl patch`.
    pub fn patch(
        &self,
        who: &Identity,
        (namespace, kind, name): (&str, &str, &str),
        patch: &Value,
        options: &[&str],
    ) -> Result<Output> {
        let patch = patch.to_string();
        let arguments = [
            "patch",
            kind,
            name,
            "--namespace",
            namespace,
            "--type",
            "merge",
            "--patch",
            &patch,
        ];
        self.kubectl(who, &[&arguments[..], options].concat())
    }

    /// A namespace for one test.
    pub fn namespace(&self, purpose: &str) -> Result<String> {
        let name = format!("{purpose}-{}", self.number());
        self.create(
            &self.admin(),
            &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})],
        )?;
        // Pods need the account that the controllers make for each namespace.
        eventually("the namespace has its default service account", || {
            self.get(&name, "serviceaccount", "default")
        })?;
        Ok(name)
    }

    /// An object as it is now.
    pub fn get(&self, namespace: &str, kind: &str, name: &str) -> Result<Value> {
        let found = self.reader.get(namespace, kind, name)?;
        found.with_context(|| format!("there is no {kind} {name} in {namespace}"))
    }

    /// All objects of a kind in a namespace.
    pub fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        self.reader.list(Some(namespace), kind)
    }

    /// All objects of a kind in all namespaces.
    pub fn list_everywhere(&self, kind: &str) -> Result<Vec<Value>> {
        self.reader.list(None, kind)
    }

    /// Asks as somebody for the deletion of these objects, and does not wait for it; what is gone already is fine. They are read
    /// from standard input: kubectl sends five requests a second for what its command line names, and for what it waits for.
    pub fn delete(&self, who: &Identity, objects: &[Value]) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let named: Vec<Value> = objects
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                json!({
                    "apiVersion": object["apiVersion"], "kind": object["kind"],
                    "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                })
            })
            .collect();
        let arguments = ["delete", "--wait=false", "--ignore-not-found", "--filename", "-"];
        self.feed(who, &arguments, &named)?.ok()?;
        Ok(())
    }

    /// Waits until a condition has this status and reason, and gives its message.
    pub fn condition(&self, object: (&str, &str, &str), kind: &str, status: &str, reason: &str) -> Result<String> {
        let (_, resource, name) = object;
        eventually(&format!("{resource} {name} has {kind}={status} for {reason}"), || {
            self.message(object, kind, status, reason)
        })
    }

    /// The message of a condition that has this status and reason now.
    pub fn message(
        &self,
        (namespace, resource, name): (&str, &str, &str),
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        let object = self.get(namespace, resource, name)?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions
            .iter()
            .find(|c| c["type"] == kind && c["status"] == status && c["reason"] == reason);
        let message =
            found.with_context(|| format!("its conditions are {}", Value::Array(conditions.clone())))?["message"]
                .as_str();
        Ok(message.unwrap_or_default().to_owned())
    }

    /// Waits for an event with this reason on an object, and gives its message.
    pub fn event(&self, namespace: &str, name: &str, reason: &str) -> Result<String> {
        eventually(&format!("{name} has an event {reason}"), || {
            let message = self.events(namespace, name, reason)?.pop();
            message.with_context(|| match self.ok(&["get", "events", "--namespace", namespace]) {
                Ok(events) => format!("the events there are:\n{events}"),
                Err(error) => error.to_string(),
            })
        })
    }

    /// The messages of all events with this reason on an object.
    pub fn events(&self, namespace: &str, name: &str, reason: &str) -> Result<Vec<String>> {
        let events = self.list(namespace, "events")?;
        let its = events
            .iter()
            .filter(|event| event["involvedObject"]["name"] == name && event["reason"] == reason);
        Ok(its
            .map(|event| event["message"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Waits until an object is gone.
    pub fn gone(&self, namespace: &str, kind: &str, name: &str) -> Result<()> {
        eventually(&format!("{kind} {name} is gone"), || {
            match self.reader.get(namespace, kind, name)? {
                None => Ok(()),
                Some(found) => bail!("it is still there:\n{found:#}"),
            }
        })
    }
}

/// Checks that kubectl failed and that its message holds all these words.
pub fn expect_refusal(output: &Output, words: &[&str]) -> Result<()> {
    if output.success() {
        bail!("this should have been refused: {output}");
    }
    contains(&output.stderr, words)
}

/// Checks that a text for people holds all these words.
pub fn contains(text: &str, words: &[&str]) -> Result<()> {
    match words.iter().find(|word| !text.contains(**word)) {
        None => Ok(()),
        Some(missing) => bail!("{missing:?} is missing in: {text}"),
    }
}
