//! A pod's sandbox: a network namespace, and the calls of the CNI binary for it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use railhead_standin::namespace::Namespace;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::runtime::{CNI_BINARIES, CNI_VERSION, NETWORK, has_entry};

/// What tells the sandboxes of this process from those of one before it, whose journals may still be there: when it began, in
/// milliseconds.
static RUN: LazyLock<String> = LazyLock::new(|| {
    let began = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{:x}", began.as_millis())
});

/// A sandbox whose namespace lives as long as it.
pub(crate) struct Sandbox {
    root: PathBuf,
    namespace: Namespace,
    id: String,
    arguments: String,
    annotations: Value,
    chained: bool,
}

impl Sandbox {
    /// A new one for a pod; `attempt` tells those of one pod apart.
    pub(crate) fn new(root: &Path, pod: &Pod, attempt: u32) -> Result<Self> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let uid = pod.uid().context("a pod without UID")?;
        let id = format!("{}{}x{attempt}", uid.replace('-', ""), *RUN);
        Ok(Self {
            root: root.to_owned(),
            namespace: Namespace::new()?,
            arguments: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
            ),
            annotations: json!(pod.annotations()),
            chained: has_entry(root),
            id,
        })
    }

    /// ADD, if the binary is in the chain.
    pub(crate) async fn add(&self) -> Result<()> {
        if self.chained { self.call("ADD").await } else { Ok(()) }
    }

    /// DEL with the chain of the ADD, which the runtime keeps.
    pub(crate) async fn del(&self) -> Result<()> {
        if self.chained { self.call("DEL").await } else { Ok(()) }
    }

    async fn call(&self, verb: &str) -> Result<()> {
        let binary = self.root.join(CNI_BINARIES).join("railhead");
        let path = self.namespace.path();
        let mut child = Command::new(&binary)
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", &path)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.root.join(CNI_BINARIES))
            .env("CNI_ARGS", &self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let configuration = json!({
            "cniVersion": CNI_VERSION, "name": NETWORK, "type": "railhead",
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": self.annotations},
            "prevResult": {
                "cniVersion": CNI_VERSION,
                "interfaces": [{"name": "eth0", "sandbox": path}],
                "ips": [{"address": "10.244.0.5/24", "interface": 0}],
            },
        });
        // Closed behind the last byte, which is how the binary knows that it has all.
        let mut input = child.stdin.take().context("no standard input")?;
        input.write_all(configuration.to_string().as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "{verb}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
