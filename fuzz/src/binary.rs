//! What is fuzzed: everything that the CNI binary reads, and what must hold whatever that is.

use std::{cell::RefCell, fs};

use railhead_cni::{Context, Environment, Journal, run};
use railhead_plan::{AttachmentPlan, AttachmentRecord, Layout, Versioned};
use serde_json::Value;

/// One call: the environment, one `NAME=value` a line, an empty line, and standard input. The node has no plan and no
/// journal, so nothing may happen but an answer.
pub fn call(input: &[u8]) {
    let (environment, stdin) = split(input);
    let folder = tempfile::tempdir().expect("a folder for the node");
    let context = Context::new(Layout::under(folder.path()));
    let outcome = run(&context, &environment, &mut &*stdin);
    let answer = answer(&outcome.stdout, outcome.success);
    assert!(outcome.log.iter().all(|line| line.len() < 4096), "{:?}", outcome.log);
    assert_eq!(
        fs::read_dir(folder.path()).expect("the node's folder").count(),
        0,
        "a pod without rails leaves nothing on the disk"
    );
    let command = environment.command.as_deref();
    if command == Some("STATUS") {
        assert!(outcome.success, "STATUS makes no node unready");
    }
    if command == Some("ADD") && outcome.success {
        // Bytes of keys that nobody asks for may be no text at all.
        let config: Value = serde_json::from_slice(stdin).unwrap_or_default();
        let previous = config.get("prevResult").filter(|result| !result.is_null());
        if let Some(previous) = previous {
            assert_eq!(
                answer.as_ref(),
                Some(previous),
                "a pod without rails gets back what came in"
            );
        }
    }
}

/// A plan file of a pod whose namespace does not exist: it is refused, and nothing is left.
pub fn plan(input: &[u8]) {
    reads_what_it_wrote(AttachmentPlan::parse, input);
    let uid = match AttachmentPlan::parse(input) {
        Ok(plan) if is_uid(&plan.pod.uid) => plan.pod.uid,
        _ => "6f1c0a52".to_owned(),
    };
    thread_local! {
        // One folder for all runs: making it costs more than the rest.
        static NODE: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("a folder for the node"));
    }
    NODE.with_borrow(|folder| {
        let layout = Layout::under(folder.path());
        fs::create_dir_all(layout.plans()).expect("the folder of plans");
        let file = layout.plan(&uid);
        fs::write(&file, input).expect("the plan");
        let environment = Environment {
            command: Some("ADD".to_owned()),
            container_id: Some("c0ffee".to_owned()),
            netns: Some("/nonexistent/netns".to_owned()),
            if_name: Some("eth0".to_owned()),
            arguments: Some(format!("K8S_POD_UID={uid}")),
        };
        let annotated = br#"{"cniVersion":"1.1.0","name":"pod","prevResult":{},
            "runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"railhead.dev/attach":"train"}}}"#;
        let outcome = run(&Context::new(layout.clone()), &environment, &mut &annotated[..]);
        assert!(!outcome.success, "a pod with rails and without a namespace starts");
        answer(&outcome.stdout, false);
        fs::remove_file(&file).expect("the plan is still there");
        assert!(
            !layout.journals().exists() && !layout.attachments().exists(),
            "nothing was begun"
        );
    });
}

/// The record of a wired pod.
pub fn record(input: &[u8]) {
    reads_what_it_wrote(AttachmentRecord::parse, input);
}

/// The journal of a sandbox.
pub fn journal(input: &[u8]) {
    reads_what_it_wrote(Journal::parse, input);
}

/// What can be read can be written, and is the same when it is read again.
fn reads_what_it_wrote<T, E>(parse: impl Fn(&[u8]) -> Result<T, E>, input: &[u8])
where
    T: serde::Serialize + PartialEq + std::fmt::Debug,
    E: std::fmt::Display,
{
    match parse(input) {
        Ok(read) => {
            let written = serde_json::to_vec(&read).expect("what was read can be written");
            let again = parse(&written).map_err(|error| error.to_string());
            assert_eq!(again.as_ref(), Ok(&read));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 1024, "{} bytes of error", text.len());
        }
    }
}

/// What a runtime expects on standard output.
fn answer(stdout: &str, success: bool) -> Option<Value> {
    if success && stdout.is_empty() {
        return None;
    }
    let answer: Value = serde_json::from_str(stdout).expect("an answer is JSON");
    if !success {
        assert!(stdout.len() < 16 * 1024, "{} bytes of error", stdout.len());
        assert!(
            answer["code"].is_u64() && answer["msg"].is_string() && answer["cniVersion"].is_string(),
            "{answer}"
        );
    }
    Some(answer)
}

fn split(input: &[u8]) -> (Environment, &[u8]) {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, stdin) = match end {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, &[][..]),
    };
    let mut environment = Environment::default();
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match name {
            "CNI_COMMAND" => environment.command = value,
            "CNI_CONTAINERID" => environment.container_id = value,
            "CNI_NETNS" => environment.netns = value,
            "CNI_IFNAME" => environment.if_name = value,
            "CNI_ARGS" => environment.arguments = value,
            _ => {}
        }
    }
    (environment, stdin)
}

fn is_uid(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
