//! The built binary against what a runtime may send: good, bad and absurd. Nothing here has a plan, so nothing is changed.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

/// A UID that no pod has.
const POD: &str = "K8S_POD_NAMESPACE=ml;K8S_POD_NAME=train-0;K8S_POD_UID=00000000-0000-0000-0000-000000000000";
const ALL: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/proc/self/ns/net"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_ARGS", POD),
];

fn call(command: Option<&str>, environment: &[(&str, &str)], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_railhead"))
        .env_clear()
        .envs(environment.iter().copied())
        .envs(command.map(|command| ("CNI_COMMAND", command)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The binary reads no more than its limit and may close the pipe before all is written.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// The error that was printed; also that it is well-formed and that the exit code tells.
fn error(output: &Output) -> Value {
    assert!(!output.status.success());
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["cniVersion"].is_string(), "{error}");
    assert!(error["msg"].as_str().is_some_and(|text| text.len() > 20), "{error}");
    error
}

/// A configuration as libcni makes it for a list of this version, with a result of the plugins before us in the shape of
/// that version.
fn config(version: &str) -> Value {
    let result = match version {
        "" | "0.1.0" | "0.2.0" => json!({
            "cniVersion": version,
            "ip4": {"ip": "10.244.0.5/24", "gateway": "10.244.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "dns": {}
        }),
        "0.3.0" | "0.3.1" | "0.4.0" => json!({
            "cniVersion": version,
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [{"version": "4", "address": "10.244.0.5/24", "interface": 0}],
            "dns": {}
        }),
        _ => json!({
            "cniVersion": version,
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [{"address": "10.244.0.5/24", "interface": 0}],
            "dns": {}, "unknownToUs": {"a": [1, 2.5, null]}
        }),
    };
    json!({"cniVersion": version, "name": "pod", "type": "railhead", "prevResult": result})
}

/// All versions that there are, what libcni writes where a list names none, and versions that nobody has made yet.
const LISTS: [&str; 11] = [
    "",
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.3.1",
    "0.4.0",
    "1.0.0",
    "1.1.0",
    "1.2.0",
    "2.0.0-rc1",
    "latest",
];

#[test]
fn a_pod_without_plan_gets_the_previous_result_unchanged_in_every_version() {
    for version in LISTS {
        let config = config(version);
        let output = call(Some("ADD"), &ALL, config.to_string().as_bytes());
        assert!(output.status.success(), "{version}: {output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result, config["prevResult"], "{version}");
        assert!(output.stderr.is_empty(), "{version}");
    }
}

#[test]
fn a_pod_without_plan_is_checked_and_deleted_in_every_version() {
    for version in LISTS {
        for verb in ["CHECK", "DEL"] {
            let output = call(Some(verb), &ALL, config(version).to_string().as_bytes());
            assert!(output.status.success(), "{verb} {version}: {output:?}");
            assert!(output.stdout.is_empty(), "{verb} {version}: {output:?}");
        }
    }
}

#[test]
fn a_list_without_a_version_is_one_of_version_0_1_0() {
    let mut config = config("0.1.0");
    config.as_object_mut().unwrap().remove("cniVersion");
    let output = call(Some("ADD"), &ALL, config.to_string().as_bytes());
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result, config["prevResult"]);
    // And without a plugin before us.
    config.as_object_mut().unwrap().remove("prevResult");
    let output = call(Some("ADD"), &ALL, config.to_string().as_bytes());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result, json!({"cniVersion": "0.1.0"}));
}

#[test]
fn a_pod_whose_uid_is_no_file_name_has_no_plan_and_passes() {
    for uid in ["../../../etc/shadow", "a/b", ".", "static pod of node1"] {
        let arguments = format!("K8S_POD_NAMESPACE=ml;K8S_POD_NAME=train-0;K8S_POD_UID={uid}");
        let mut environment = ALL;
        environment[3].1 = &arguments;
        let config = config("1.0.0");
        let output = call(Some("ADD"), &environment, config.to_string().as_bytes());
        assert!(output.status.success(), "{uid}: {output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result, config["prevResult"], "{uid}");
    }
}

#[test]
fn a_pod_that_asks_for_a_network_and_has_no_plan_does_not_start() {
    let mut config = config("1.1.0");
    config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {"railhead.dev/attach": "train"}});
    let error = error(&call(Some("ADD"), &ALL, config.to_string().as_bytes()));
    assert_eq!(error["code"], 100);
    let text = error["msg"].as_str().unwrap();
    assert!(text.contains("pod ml/train-0 asks for network train"), "{text}");
    assert!(text.contains("railhead-agent"), "{text}");
}

/// 256 KiB of annotations, each byte of which takes six in JSON.
fn largest_annotations() -> Value {
    let value = "\u{1}".repeat(256 * 1024 - "a".len());
    json!({"io.kubernetes.cri.pod-annotations": {"a": value}})
}

#[test]
fn a_pod_with_as_many_annotations_as_kubernetes_takes_passes_every_verb() {
    let mut config = config("1.0.0");
    config["runtimeConfig"] = largest_annotations();
    let stdin = config.to_string();
    assert!(stdin.len() > 1_500_000, "{}", stdin.len());
    let arguments = format!("{};K8S_POD_INFRA_CONTAINER_ID={}", POD, "x".repeat(100_000));
    let mut environment = ALL;
    environment[3].1 = &arguments;
    for verb in ["ADD", "CHECK", "DEL"] {
        let output = call(Some(verb), &environment, stdin.as_bytes());
        assert!(
            output.status.success(),
            "{verb}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        if verb == "ADD" {
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(result, config["prevResult"]);
        }
    }
}

#[test]
fn an_annotation_of_any_length_makes_a_message_that_can_be_read() {
    let mut config = config("1.0.0");
    let network = "x".repeat(256 * 1024 - "railhead.dev/attach".len());
    config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {"railhead.dev/attach": network}});
    let output = call(Some("ADD"), &ALL, config.to_string().as_bytes());
    assert_eq!(error(&output)["code"], 100);
    assert!(output.stdout.len() < 1000, "{} bytes", output.stdout.len());
}

#[test]
fn bad_standard_input_is_refused_with_its_code() {
    let twenty_megabytes = format!("{{\"cniVersion\":\"1.1.0\",\"name\":\"{}\"}}", "x".repeat(20_000_000));
    for (what, stdin, code) in [
        ("empty", "", 6),
        ("white space", " \n", 6),
        ("not JSON", "not json", 6),
        ("cut off", "{\"cniVersion\": \"1.1.0\", \"na", 6),
        ("a list", "[]", 6),
        ("a wrong type", "{\"cniVersion\": 1}", 6),
        ("20 MB", twenty_megabytes.as_str(), 6),
        (
            "a previous result that is text",
            "{\"cniVersion\":\"1.1.0\",\"name\":\"n\",\"prevResult\":\"x\"}",
            6,
        ),
        ("no name", "{\"cniVersion\":\"1.1.0\"}", 7),
    ] {
        for verb in ["ADD", "DEL"] {
            let error = error(&call(Some(verb), &ALL, stdin.as_bytes()));
            assert_eq!(error["code"], code, "{verb}, {what}: {error}");
        }
    }
}

#[test]
fn status_never_makes_a_node_unready_whatever_is_sent() {
    let config = config("1.1.0").to_string();
    for stdin in ["", "{}", "not json", config.as_str(), r#"{"cniVersion":"3.0.0"}"#] {
        let output = call(Some("STATUS"), &[], stdin.as_bytes());
        assert!(output.status.success(), "{stdin}: {output:?}");
        assert!(output.stdout.is_empty(), "{stdin}: {output:?}");
    }
}

#[test]
fn gc_frees_nothing_in_a_version_whose_list_it_may_misread() {
    for version in LISTS {
        let output = call(Some("GC"), &ALL, config(version).to_string().as_bytes());
        if version == "1.1.0" {
            assert!(output.status.success(), "{output:?}");
        } else {
            assert_eq!(error(&output)["code"], 1, "{version}");
        }
    }
}

#[test]
fn a_missing_or_wrong_environment_is_code_4() {
    let config = config("1.1.0").to_string();
    for (verb, missing) in [
        ("ADD", "CNI_CONTAINERID"),
        ("ADD", "CNI_NETNS"),
        ("ADD", "CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID"),
        ("CHECK", "CNI_NETNS"),
    ] {
        let rest: Vec<_> = ALL.into_iter().filter(|(name, _)| *name != missing).collect();
        let error = error(&call(Some(verb), &rest, config.as_bytes()));
        assert_eq!(error["code"], 4);
        assert!(error["msg"].as_str().unwrap().contains(missing), "{error}");
    }
    let unknown = error(&call(Some("FROBNICATE"), &ALL, config.as_bytes()));
    assert_eq!(unknown["code"], 4);
}

#[test]
fn del_succeeds_for_sandboxes_that_nobody_knows() {
    let bare = r#"{"cniVersion":"1.0.0","name":"railhead","type":"railhead"}"#;
    for environment in [&ALL[..], &ALL[..1]] {
        let output = call(Some("DEL"), environment, bare.as_bytes());
        assert!(output.status.success());
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn version_lists_what_is_spoken_whatever_is_sent() {
    for stdin in ["", "{}", "x", r#"{"cniVersion":"0.4.0"}"#] {
        let output = call(Some("VERSION"), &[], stdin.as_bytes());
        assert!(output.status.success(), "{stdin}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            answer["supportedVersions"],
            json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]),
            "a runtime that asks takes no list of another version"
        );
    }
}

#[test]
fn without_a_command_the_binary_says_what_it_is() {
    let output = call(None, &[], b"");
    assert!(output.status.success());
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("CNI_COMMAND"));
}
