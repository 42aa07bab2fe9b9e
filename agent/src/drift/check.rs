//! Runs the CNI binary's CHECK for a sandbox: one code says what is as wired, for the runtime and for the agent.

use std::{path::Path, process::Stdio, time::Duration};

use railhead_plan::{AttachmentPlan, AttachmentRecord, Layout};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::claims::journals;

/// How long a CHECK may take: it waits for nothing but locks.
const CHECK: Duration = Duration::from_secs(30);
/// What CHECK gets on its standard input. It compares with the record, so that the result of ADD need not be whole.
const CONFIG: &[u8] =
    br#"{"cniVersion":"1.0.0","name":"railhead","type":"railhead","prevResult":{"cniVersion":"1.0.0"}}"#;
/// The binary's code for an attachment that is not as ADD made it.
const DRIFTED: u32 = 101;

/// What CHECK said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Everything that ADD made is there.
    AsWired,
    /// What differs, the first first.
    Drifted(Vec<String>),
    /// It could not be compared.
    Unknown(String),
}

/// Compares the sandbox that a pod's record names; `None` when the pod is not wired.
pub(super) async fn sandbox(layout: &Layout, binary: &Path, plan: &AttachmentPlan) -> Option<Checked> {
    let record: AttachmentRecord = railhead_store::read(&layout.record(&plan.pod.uid)).ok()?;
    let journal = journals::of_sandbox(layout, &record.container_id)?.head?;
    let pod = &plan.pod;
    let started = tokio::process::Command::new(binary)
        .env_clear()
        .env("CNI_COMMAND", "CHECK")
        .env("CNI_CONTAINERID", &record.container_id)
        .env("CNI_NETNS", &journal.netns)
        .env("CNI_IFNAME", &journal.if_name)
        .env("CNI_PATH", binary.parent().unwrap_or(binary))
        .env(
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
                pod.namespace, pod.name, pod.uid
            ),
        )
        // What is lost and can be set again without harm is set again.
        .env("RAILHEAD_REPAIR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Some(Checked::Unknown(error.to_string())),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A binary that ends before it has read everything says why on stdout.
        let _ = stdin.write_all(CONFIG).await;
    }
    let output = match tokio::time::timeout(CHECK, child.wait_with_output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Some(Checked::Unknown(error.to_string())),
        Err(_) => return Some(Checked::Unknown(format!("CHECK took more than {} s", CHECK.as_secs()))),
    };
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        tracing::warn!(pod = format!("{}/{}", pod.namespace, pod.name), line, "said by CHECK");
    }
    // DEL may have come meanwhile, and then nothing is missed.
    if !layout.record(&pod.uid).exists() {
        return None;
    }
    Some(answer(output.status.success(), &output.stdout))
}

fn answer(success: bool, stdout: &[u8]) -> Checked {
    #[derive(Deserialize)]
    struct Error {
        code: u32,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    if success {
        return Checked::AsWired;
    }
    match serde_json::from_slice::<Error>(stdout) {
        Ok(error) if error.code == DRIFTED => {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            // A binary of the release before tells all in one sentence.
            let details = if error.details.is_empty() {
                &error.msg
            } else {
                &error.details
            };
            Checked::Drifted(lines(details))
        }
        Ok(error) => Checked::Unknown(error.msg),
        Err(_) => Checked::Unknown(String::from_utf8_lossy(stdout).chars().take(200).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use railhead_plan::RECORD_VERSION;

    use super::*;
    use crate::claims::plans::tests::plan;

    /// A wired pod's files, and a binary that tells what it was called with.
    fn wired(layout: &Layout, plan: &AttachmentPlan) -> PathBuf {
        for folder in [layout.attachment(&plan.pod.uid), layout.journals()] {
            fs::create_dir_all(folder).unwrap();
        }
        let record = AttachmentRecord {
            version: RECORD_VERSION,
            container_id: "c1".to_owned(),
            pod: plan.pod.clone(),
            network: plan.network.clone(),
            slice_name: plan.slice_name.clone(),
            index: plan.index,
            pods: plan.pods,
            wired_in_ms: 1,
            rails: Vec::new(),
        };
        fs::write(layout.record(&plan.pod.uid), serde_json::to_vec(&record).unwrap()).unwrap();
        fs::write(
            layout.journal("c1"),
            r#"{"version":1,"bootId":"b","containerId":"c1","ifName":"eth0","netns":"/var/run/netns/cni-1",
                "pod":{"namespace":"a","name":"p","uid":"u"}}"#,
        )
        .unwrap();
        let binary = layout.journals().join("railhead");
        let script = r#"#!/bin/sh
cat >/dev/null
printf '{"code":101,"msg":"drift","details":"%s"}' "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $RAILHEAD_REPAIR $CNI_ARGS"
exit 1
"#;
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        binary
    }

    #[tokio::test]
    async fn the_binary_compares_the_sandbox_that_the_record_names_and_may_repair() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let binary = wired(&layout, &plan);
        let mut checked = sandbox(&layout, &binary, &plan).await;
        // Another test's fork may hold the script open for writing for a moment.
        while matches!(&checked, Some(Checked::Unknown(why)) if why.contains("busy")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            checked = sandbox(&layout, &binary, &plan).await;
        }
        let said = match checked {
            Some(Checked::Drifted(lines)) => lines.join(""),
            other => panic!("{other:?}"),
        };
        assert!(said.starts_with("CHECK c1 /var/run/netns/cni-1 1 "), "{said}");
        assert!(said.contains("K8S_POD_UID=u"), "{said}");
        fs::remove_file(layout.record("u")).unwrap();
        assert_eq!(sandbox(&layout, &binary, &plan).await, None, "not wired");
    }

    #[test]
    fn only_the_code_for_drift_is_drift() {
        assert_eq!(answer(true, b""), Checked::AsWired);
        let drifted = br#"{"cniVersion":"1.0.0","code":101,"msg":"pod a/b is not ...","details":"rail0: it has no carrier\nrail1: its MTU is 1500"}"#;
        assert_eq!(
            answer(false, drifted),
            Checked::Drifted(vec![
                "rail0: it has no carrier".to_owned(),
                "rail1: its MTU is 1500".to_owned()
            ])
        );
        let before = br#"{"code":101,"msg":"pod a/b is not wired as planned"}"#;
        assert!(matches!(answer(false, before), Checked::Drifted(all) if all.len() == 1));
        let gone = br#"{"code":4,"msg":"CNI_NETNS: no such file"}"#;
        assert_eq!(
            answer(false, gone),
            Checked::Unknown("CNI_NETNS: no such file".to_owned())
        );
        assert!(matches!(answer(false, b"killed"), Checked::Unknown(_)));
    }
}
