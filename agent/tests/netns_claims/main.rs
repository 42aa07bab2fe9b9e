//! The agent's Prepare, Unprepare and collector on the real kernel, with stand-ins for ports. Whatever happens, in the end host, PFs,
//! files and API are as they were.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

#[path = "../bed/mod.rs"]
mod bed;
mod damaged;
mod killed;
mod locks;
mod many;

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bed::ports::Ports;
use railhead_agent::{
    agent::Agent,
    claims::{NodeClaims, gc},
    kubelet::{ClaimRef, Claims, PreparedDevice},
};
use railhead_host::testing::{in_a_namespace, ip};
use tokio_util::sync::CancellationToken;

/// kubelet's call to an agent.
pub(crate) async fn asks_prepare(agent: Arc<Agent>, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
    NodeClaims::new(agent).prepare(claim).await
}

pub(crate) async fn asks_unprepare(agent: Arc<Agent>, claim: ClaimRef) -> Result<(), String> {
    NodeClaims::new(agent).unprepare(claim).await
}

/// Prepares a claim with an agent that has just started.
pub(crate) fn prepare(ports: &Ports, claim: &ClaimRef) {
    let prepared = ports.run(|agent| asks_prepare(agent, claim.clone()));
    let devices = prepared.unwrap_or_else(|error| panic!("{}: {error}", claim.name));
    assert_eq!(devices.len(), 2, "one per rail: {devices:?}");
}

pub(crate) fn unprepare(ports: &Ports, claim: &ClaimRef) {
    let released = ports.run(|agent| asks_unprepare(agent, claim.clone()));
    released.unwrap_or_else(|error| panic!("{}: {error}", claim.name));
}

/// A collector that runs until it has seen for long enough that the pod is gone.
pub(crate) fn collect(ports: &Ports, claim: &ClaimRef) {
    ports.api.delete("pods", &claim.name);
    ports.api.delete("resourceclaims", &claim.name);
    run_collector(ports);
}

/// A collector that runs for longer than a pod has to be gone.
pub(crate) fn run_collector(ports: &Ports) {
    ports.run(|agent| async {
        let stop = CancellationToken::new();
        let running = tokio::spawn(gc::run(agent, stop.clone()));
        tokio::time::sleep(Duration::from_mins(5)).await;
        stop.cancel();
        running.await.unwrap();
    });
}

#[test]
fn a_claim_is_programmed_planned_and_given_back() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let claim = ports.add_pod("llama-2", Some(2));
        prepare(&ports, &claim);
        ports.assert_prepared(&claim, "prepared");
        let plan = ports.plans().remove(0);
        assert_eq!(plan.rails[1].addresses[0].to_string(), "10.1.64.2/16");
        // kubelet asks again after it has started, and gets the same.
        prepare(&ports, &claim);
        assert_eq!(ports.plans(), [plan]);
        let second = ports.add_pod("llama-0", Some(0));
        prepare(&ports, &second);
        ports.assert_prepared(&second, "beside another pod");
        unprepare(&ports, &claim);
        ports.assert_prepared(&second, "after the other pod");
        unprepare(&ports, &second);
        unprepare(&ports, &second);
        ports.assert_as_before("given back");
    });
}

/// All the functions are held: the third pod is refused and takes nothing with it, and has them when one pod goes.
#[test]
fn a_pod_without_a_free_function_leaves_nothing_behind() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let (first, second) = (ports.add_pod("llama-0", Some(0)), ports.add_pod("llama-1", Some(1)));
        prepare(&ports, &first);
        let refused = ports.run(|agent| asks_prepare(agent, second.clone()));
        assert!(
            refused.as_ref().is_err_and(|error| error.contains("rail0")),
            "{refused:?}"
        );
        ports.assert_prepared(&first, "the other one is refused");
        unprepare(&ports, &first);
        prepare(&ports, &second);
        ports.assert_prepared(&second, "when there is room");
        unprepare(&ports, &second);
        ports.assert_as_before("given back");
    });
}

/// The API server is away when a pod ends, and comes back: kubelet's next call, or the collector, does the rest.
#[test]
fn a_pod_that_is_gone_is_collected_with_everything_it_had() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let (gone, stays) = (ports.add_pod("llama-2", Some(2)), ports.add_pod("llama-3", Some(3)));
        prepare(&ports, &gone);
        prepare(&ports, &stays);
        collect(&ports, &gone);
        ports.assert_prepared(&stays, "the collector went by");
        assert_eq!(ports.plans().len(), 1);
        unprepare(&ports, &stays);
        ports.assert_as_before("collected");
    });
}

/// A pod that may change its interfaces had them.
#[test]
fn what_a_pod_set_on_its_functions_reaches_no_other_pod() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let spoil = || ip("link set p0v0 arp off multicast off promisc on txqueuelen 7 gso_max_segs 3");
        let (first, second) = (ports.add_pod("llama-0", Some(0)), ports.add_pod("llama-1", Some(1)));
        prepare(&ports, &first);
        spoil();
        unprepare(&ports, &first);
        ports.assert_as_before("given back");
        // Nor when nobody gives them back, since somebody removed the plan.
        prepare(&ports, &first);
        spoil();
        let plan = ports.plans().remove(0);
        fs::remove_file(ports.layout().plan(&plan.pod.uid)).unwrap();
        prepare(&ports, &second);
        let shown = ip("-d link show p0v0");
        assert!(
            !shown.contains("NOARP") && !shown.contains("PROMISC") && shown.contains("MULTICAST"),
            "{shown}"
        );
        assert!(shown.contains("qlen 1000"), "{shown}");
        unprepare(&ports, &first);
        unprepare(&ports, &second);
        ports.assert_as_before("given back by who came next");
    });
}

/// Plays the driver of a function that has an RDMA device until `test` has ended; returns how often it was bound.
fn with_driver(ports: &Ports, function: &str, test: impl FnOnce()) -> u32 {
    let sysfs = ports.layout().sysfs();
    let (device, driver) = (
        sysfs.join("bus/pci/devices").join(function),
        sysfs.join("bus/pci/drivers/mlx5_core"),
    );
    let verbs = sysfs.join("class/infiniband_verbs/uverbs9");
    fs::create_dir_all(device.join("infiniband/mlx5_9")).unwrap();
    fs::write(device.join("infiniband/mlx5_9/node_guid"), "0200:00ff:fe00:0001\n").unwrap();
    fs::create_dir_all(&verbs).unwrap();
    fs::write(verbs.join("ibdev"), "mlx5_9\n").unwrap();
    fs::create_dir_all(&driver).unwrap();
    let (link, target) = (device.join("driver"), "../../drivers/mlx5_core");
    let _ = fs::remove_file(&link);
    symlink(target, &link).unwrap();
    let told = |name: &str| {
        let file = driver.join(name);
        let told = fs::read_to_string(&file).is_ok_and(|text| text == function);
        if told {
            fs::write(&file, "").unwrap();
        }
        told
    };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let played = scope.spawn(|| {
            let mut binds = 0;
            while !ended.load(Ordering::Relaxed) {
                if told("unbind") {
                    fs::remove_file(&link).unwrap();
                }
                if told("bind") {
                    symlink(target, &link).unwrap();
                    binds += 1;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            binds
        });
        test();
        ended.store(true, Ordering::Relaxed);
        played.join().unwrap()
    })
}

/// The collector does not know whether a pod's programs have ended; kubelet does.
#[test]
fn a_function_is_taken_from_programs_where_nobody_says_that_they_have_ended() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let claim = ports.add_pod("llama-2", Some(2));
        prepare(&ports, &claim);
        let function = ports.plans().remove(0).rails[0].vf.pci_address.to_string();
        assert_eq!(with_driver(&ports, &function, || unprepare(&ports, &claim)), 0);
        prepare(&ports, &claim);
        assert_eq!(with_driver(&ports, &function, || collect(&ports, &claim)), 1);
        assert_eq!(ports.plans(), []);
    });
}

/// What the host did with a free function since is the host's, and the next pod does not get that one.
#[test]
fn a_function_that_the_host_took_is_nobody_elses() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        ip("address add 192.168.7.1/24 dev p0v0");
        let claim = ports.add_pod("llama-2", Some(2));
        prepare(&ports, &claim);
        let plan = ports.plans().remove(0);
        assert_eq!((plan.rails[0].vf.index, plan.rails[1].vf.index), (1, 0));
        unprepare(&ports, &claim);
        ip("address del 192.168.7.1/24 dev p0v0");
        ports.assert_as_before("given back");
    });
}
