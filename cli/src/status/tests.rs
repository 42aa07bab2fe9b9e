use serde_json::{Value, json};

use crate::{
    exit::Exit,
    fixtures,
    output::{Format, Report as _, render},
    status::report,
};

/// What is shown of these objects, without colours.
fn shown(objects: Vec<Value>, format: Format) -> (String, Exit) {
    let mut cluster = fixtures::cluster(objects);
    cluster.namespace = None;
    let report = report(&cluster);
    let text = render(format, &cluster, &report);
    (anstream::adapter::strip_str(&text).to_string(), report.exit())
}

fn change(kind: &str, name: &str, change: impl Fn(&mut Value)) -> Vec<Value> {
    let mut objects = fixtures::all();
    let mut found = objects
        .iter_mut()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    change(found.next().expect("the object"));
    objects
}

#[test]
fn a_cluster_in_which_a_pod_is_awaited_and_another_waits() {
    let mut objects = fixtures::all();
    objects.push(fixtures::pod("llama-0-new", 0, Some("gpu-1")));
    let (text, exit) = shown(objects, Format::Table);
    assert_eq!(
        text,
        "\
Fabric backend  Ready  2/2 nodes  2 rails  RailSubnet  VLANs 1/1000
  rail0  2/2 ports healthy  14/16 VFs free  pool 1% used  largest free /17
  rail1  2/2 ports healthy  14/16 VFs free  pool 1% used  largest free /17

Networks 1  1 ready, 0 with all pods attached
  team-a/llama  1/2  WaitingForPods  10m  1/2 attached, index 1 waits
    pod llama-0-new (index 0) waits 10m: index 0 is held by pod llama-0 on gpu-0: it lives; two pods want one index: end one of them, or give each Job a network of its own
"
    );
    assert_eq!(exit, Exit::Wrong);
}

#[test]
fn what_is_as_it_should_be_takes_no_line_but_with_wide() {
    let objects = change("TrainingNetwork", "llama", |network| {
        network["status"]["conditions"][2] = fixtures::condition("Attached", "True", "AllAttached", "1/1 attached");
    });
    let (text, exit) = shown(objects.clone(), Format::Table);
    assert!(
        text.ends_with("Networks 1  1 ready, 1 with all pods attached\n"),
        "{text}"
    );
    assert_eq!(exit, Exit::Fine);
    let (text, _) = shown(objects, Format::Wide);
    assert!(text.ends_with("\n  team-a/llama  1/2  Ready\n"), "{text}");
}

#[test]
fn a_lost_node_one_with_a_broken_port_and_one_without_an_agent_say_why_and_who_is_there() {
    let lost = change("Node", "gpu-0", |node| {
        node["status"]["conditions"][0]["status"] = json!("Unknown");
    });
    let (text, exit) = shown(lost, Format::Table);
    assert!(
        text.contains("Nodes not ready 1\n  gpu-0  NodeLost  6m  1 pod attached  node gpu-0, which is not Ready\n"),
        "{text}"
    );
    assert_eq!(exit, Exit::Wrong);
    let down = change("NodeNetwork", "gpu-1", |node| {
        node["status"]["conditions"][0] =
            fixtures::condition("Ready", "False", "PortDown", "rail1 (eth_r1) has no signal");
        node["status"]["ports"][1]["state"] = json!("Down");
    });
    let (text, _) = shown(down, Format::Table);
    assert!(text.contains("rail1  1/2 ports healthy"), "{text}");
    assert!(
        text.contains("  gpu-1  PortDown  10m    rail1 (eth_r1) has no signal\n"),
        "{text}"
    );
    let silent = change("NodeNetwork", "gpu-1", |node| node["status"] = Value::Null);
    let (text, _) = shown(silent, Format::Table);
    assert!(
        text.contains("AgentNotReporting  10m    no word from the agent of gpu-1"),
        "{text}"
    );
}

#[test]
fn a_fabric_that_says_something_unexpected_has_a_line_for_it() {
    let objects = change("Fabric", "backend", |fabric| {
        let said = fixtures::condition(
            "VlansShared",
            "True",
            "VlansShared",
            "Fabric storage has VLANs 1000 to 1999 as well",
        );
        fabric["status"]["conditions"].as_array_mut().unwrap().push(said);
    });
    let (text, exit) = shown(objects, Format::Table);
    let line = "  VlansShared: VlansShared  Fabric storage has VLANs 1000 to 1999 as well  (10m)\n";
    assert!(text.contains(line), "{text}");
    assert_eq!(exit, Exit::Wrong);
}

#[test]
fn a_cluster_without_anything_says_what_comes_first() {
    let (text, exit) = shown(Vec::new(), Format::Table);
    assert!(text.starts_with("There is no Fabric yet"), "{text}");
    assert!(
        text.ends_with("Networks 0  0 ready, 0 with all pods attached\n"),
        "{text}"
    );
    assert_eq!(exit, Exit::Fine);
}

#[test]
fn names_and_messages_of_others_write_nothing_to_a_terminal() {
    let long = "n".repeat(253);
    let message = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nFabric backend  Ready <script>alert(1)</script>";
    let mut objects = change("NodeNetwork", "gpu-1", |node| {
        node["status"]["conditions"][0] = fixtures::condition("Ready", "False", "Evil\u{9b}", message);
    });
    for object in objects
        .iter_mut()
        .filter(|object| object["metadata"]["name"] == "gpu-1")
    {
        object["metadata"]["name"] = json!(long);
    }
    for format in [Format::Table, Format::Wide, Format::Json, Format::Yaml] {
        let mut cluster = fixtures::cluster(objects.clone());
        cluster.namespace = None;
        let text = render(format, &cluster, &report(&cluster));
        // Colours of our own are all that is left for a terminal.
        let text = text.replace("\u{1b}[", "");
        let obeyed: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert!(obeyed.is_empty(), "{format:?}: {obeyed:?} in {text}");
        assert!(text.contains(&long), "{format:?}");
        assert!(
            !text.contains("\nFabric backend  Ready <script>"),
            "a line that is none of ours: {text}"
        );
        if format == Format::Json {
            let report: Value = serde_json::from_str(&text).unwrap();
            assert!(report["nodesNotReady"].to_string().contains("owned"), "{report}");
        }
    }
}

#[test]
fn who_looks_at_a_namespace_sees_the_fabrics_of_its_networks_only() {
    let mut other = fixtures::fabric();
    other["metadata"]["name"] = json!("storage");
    let mut objects = fixtures::all();
    objects.push(other);
    let of_namespace = report(&fixtures::cluster(objects.clone()));
    assert_eq!(of_namespace.fabrics.len(), 1);
    let mut whole = fixtures::cluster(objects);
    whole.namespace = None;
    assert_eq!(report(&whole).fabrics.len(), 2);
}
