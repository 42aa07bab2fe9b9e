//! A node's whole path on the real kernel, with stand-ins for ports: the agent prepares a claim, the CNI binary wires the pod, the
//! agent looks after it, tells of it and takes it apart when the runtime does not.
//!
//! Agent and binary are two processes over the same folders, as on a node: this program is the binary when it is called so.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod bed;

use std::{future::Future, process::ExitCode, sync::Arc, time::Duration};

use bed::{NODE, ports::Ports, uid};
use libtest_mimic::{Arguments, Failed, Trial};
use railhead_agent::{
    agent::Agent,
    attachments,
    claims::{NodeClaims, gc},
    drift,
    kubelet::{ClaimRef, Claims},
};
use railhead_host::testing::in_a_namespace;
use railhead_standin::{
    call::{self, CHILD},
    namespace::{Namespace, ip},
    observe::{assert_empty, come_home},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A test by its name.
type Test = (&'static str, fn());

const TESTS: [Test; 6] = [
    (
        "a_claim_says_what_the_kernel_has_and_a_rail_that_goes_down",
        a_claim_says_what_the_kernel_has_and_a_rail_that_goes_down,
    ),
    (
        "a_pod_whose_del_never_came_is_taken_apart_by_unprepare",
        a_pod_whose_del_never_came_is_taken_apart_by_unprepare,
    ),
    (
        "a_pod_whose_functions_came_home_with_its_namespace_is_given_back_by_unprepare",
        a_pod_whose_functions_came_home_with_its_namespace_is_given_back_by_unprepare,
    ),
    (
        "a_wired_pod_that_is_gone_is_collected",
        a_wired_pod_that_is_gone_is_collected,
    ),
    (
        "a_damaged_plan_of_a_wired_pod_is_given_back",
        a_damaged_plan_of_a_wired_pod_is_given_back,
    ),
    (
        "a_refused_prepare_takes_no_rail_from_a_pod_that_is_wired",
        a_refused_prepare_takes_no_rail_from_a_pod_that_is_wired,
    ),
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(CHILD) {
        return match call::child() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    // A fork of one test would hold the other's script open, which then cannot be started.
    arguments.test_threads = Some(1);
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            std::panic::catch_unwind(|| in_a_namespace(test)).map_err(|_| Failed::from("it panicked, see above"))
        })
    };
    libtest_mimic::run(&arguments, TESTS.into_iter().map(trial).collect()).exit_code()
}

fn ports(rails: u32, vfs: u32) -> Ports {
    Ports::with_binary(rails, vfs, 4, &std::env::current_exe().unwrap())
}

async fn prepare(agent: &Arc<Agent>, claim: &ClaimRef) {
    NodeClaims::new(agent.clone()).prepare(claim.clone()).await.unwrap();
}

async fn unprepare(agent: &Arc<Agent>, claim: &ClaimRef) {
    NodeClaims::new(agent.clone()).unprepare(claim.clone()).await.unwrap();
}

/// A pod that was prepared and is wired.
fn wired(ports: &Ports, name: &str, index: u32) -> (ClaimRef, Namespace) {
    let claim = ports.add_pod(name, Some(index));
    let prepared = &claim;
    ports.run_live(|agent| async move { prepare(&agent, prepared).await });
    let sandbox = Namespace::new().unwrap();
    ports.call("ADD", &format!("c-{name}"), name, &sandbox);
    (claim, sandbox)
}

/// Waits until `look` finds something.
async fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} does not come");
}

/// Runs `work` while the agent's loops run.
fn with_loops<F: Future<Output = ()>>(ports: &Ports, work: impl FnOnce(Arc<Agent>) -> F) {
    ports.run_live(|agent| async move {
        let stop = CancellationToken::new();
        let loops = [
            tokio::spawn(attachments::run(agent.clone(), stop.clone())),
            tokio::spawn(drift::run(agent.clone(), stop.clone())),
        ];
        work(agent).await;
        stop.cancel();
        for running in loops {
            running.await.unwrap();
        }
    });
}

/// Reason and message of Ready, and the network data, of a rail in the claim.
fn told(ports: &Ports, rail: &str) -> Option<(String, String, Value)> {
    let claim = ports.api.all("resourceclaims").remove(0);
    let devices = claim["status"]["devices"].as_array()?.clone();
    let device = devices.iter().find(|device| device["device"] == rail)?;
    assert_eq!(
        (&device["driver"], &device["pool"]),
        (&json!("railhead.dev"), &json!(NODE))
    );
    let ready = &device["conditions"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some((
        text(&ready["reason"]),
        text(&ready["message"]),
        device["networkData"].clone(),
    ))
}

fn a_claim_says_what_the_kernel_has_and_a_rail_that_goes_down() {
    let ports = &ports(2, 1);
    let (claim, sandbox) = wired(ports, "llama-2", 2);
    let inside = sandbox.ip_json("-4 address show").unwrap();
    with_loops(ports, |agent| async move {
        for rail in ["rail0", "rail1"] {
            let link = inside
                .as_array()
                .unwrap()
                .iter()
                .find(|link| link["ifname"] == rail)
                .unwrap();
            let links = sandbox.ip_json(&format!("link show {rail}")).unwrap();
            let address = &link["addr_info"][0];
            let wanted = json!({
                "interfaceName": rail, "hardwareAddress": links[0]["address"],
                "ips": [format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"])],
            });
            let (reason, _, network) = eventually("the claim", || told(ports, rail)).await;
            assert_eq!((reason.as_str(), &network), ("Wired", &wanted));
        }
        sandbox.run(|| ip("link set rail1 down").map(drop)).unwrap();
        let down = || told(ports, "rail1").filter(|told| told.0 == "RailDown");
        let (_, message, _) = eventually("the news of the rail", down).await;
        assert!(message.starts_with("rail1: "), "{message}");
        assert_eq!(told(ports, "rail0").unwrap().0, "Wired", "the other one is as it was");
        // Routes that went with it are set again by CHECK.
        sandbox.run(|| ip("link set rail1 up").map(drop)).unwrap();
        eventually("the rail", || told(ports, "rail1").filter(|told| told.0 == "Wired")).await;
        ports.call("DEL", "c-llama-2", "llama-2", &sandbox);
        let gone = || told(ports, "rail0").filter(|told| told.0 == "NotWired");
        let (_, _, network) = eventually("the end of the sandbox", gone).await;
        assert!(network.is_null(), "{network}");
        assert_empty(&sandbox).unwrap();
        unprepare(&agent, &claim).await;
        ports.assert_as_before("given back");
    });
}

fn a_pod_whose_del_never_came_is_taken_apart_by_unprepare() {
    let ports = &ports(2, 2);
    let (claim, sandbox) = wired(ports, "llama-2", 2);
    let (other, others) = wired(ports, "llama-0", 0);
    // kubelet asks again when it has started; the functions are in the pod and stay there.
    ports.run_live(|agent| async move {
        prepare(&agent, &claim).await;
        unprepare(&agent, &claim).await;
        unprepare(&agent, &claim).await;
    });
    assert_empty(&sandbox).unwrap();
    others.ip_json("link show rail1").unwrap();
    ports.call("DEL", "c-llama-0", "llama-0", &others);
    ports.run_live(|agent| async move { unprepare(&agent, &other).await });
    ports.assert_as_before("given back");
}

fn a_pod_whose_functions_came_home_with_its_namespace_is_given_back_by_unprepare() {
    let ports = &ports(2, 1);
    let (claim, sandbox) = wired(ports, "llama-2", 2);
    come_home(&sandbox).unwrap();
    ports.run_live(|agent| async move { unprepare(&agent, &claim).await });
    ports.assert_as_before("given back");
}

fn a_wired_pod_that_is_gone_is_collected() {
    let ports = &ports(2, 2);
    let (claim, sandbox) = wired(ports, "llama-2", 2);
    let (other, others) = wired(ports, "llama-0", 0);
    ports.api.delete("pods", &claim.name);
    ports.api.delete("resourceclaims", &claim.name);
    ports.run_live(|agent| async move {
        let stop = CancellationToken::new();
        let collecting = tokio::spawn(gc::run(agent.clone(), stop.clone()));
        // The last thing that a round asks for.
        let rounds = || ports.api.requests("GET /apis/railhead.dev/v1alpha1/networkattachments");
        eventually("the first round", || (rounds() > 0).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(ports.plans().len(), 2, "it may come back for a minute");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        eventually("the collector", || (ports.plans().len() == 1).then_some(())).await;
        stop.cancel();
        collecting.await.unwrap();
        assert_empty(&sandbox).unwrap();
        others.ip_json("link show rail1").unwrap();
        ports.call("DEL", "c-llama-0", "llama-0", &others);
        unprepare(&agent, &other).await;
        ports.assert_as_before("collected");
    });
}

fn a_damaged_plan_of_a_wired_pod_is_given_back() {
    let ports = &ports(2, 2);
    let (claim, sandbox) = wired(ports, "llama-2", 2);
    let (other, others) = wired(ports, "llama-0", 0);
    std::fs::write(ports.layout().plan(&uid("llama-2")), "{\"version\":1,").unwrap();
    ports.run_live(|agent| async move { unprepare(&agent, &claim).await });
    assert_empty(&sandbox).unwrap();
    others.ip_json("link show rail1").unwrap();
    ports.call("DEL", "c-llama-0", "llama-0", &others);
    ports.run_live(|agent| async move { unprepare(&agent, &other).await });
    ports.assert_as_before("given back");
}

/// kubelet has lost its own state and asks again, and by now somebody has taken a role from the agent.
fn a_refused_prepare_takes_no_rail_from_a_pod_that_is_wired() {
    let ports = &ports(2, 1);
    let (claim, sandbox) = wired(ports, "llama-2", 2);
    let inside = || sandbox.ip_json("-4 address show").unwrap();
    let (was, held, plans) = (inside(), ports.holders(), ports.plans());
    ports.api.refuse("PATCH /apis/railhead.dev");
    let again = &claim;
    let refused = ports.run_live(|agent| async move { NodeClaims::new(agent).prepare(again.clone()).await });
    assert!(
        refused.as_ref().is_err_and(|error| error.contains("Forbidden")),
        "{refused:?}"
    );
    assert_eq!(inside(), was, "its rails");
    assert_eq!(
        (ports.holders(), ports.plans()),
        (held, plans),
        "its index and its plan"
    );
    ports.api.refuse_no_more();
    ports.run_live(|agent| async move { prepare(&agent, again).await });
    ports.call("CHECK", "c-llama-2", "llama-2", &sandbox);
    ports.call("DEL", "c-llama-2", "llama-2", &sandbox);
    ports.run_live(|agent| async move { unprepare(&agent, &claim).await });
    ports.assert_as_before("given back");
}
