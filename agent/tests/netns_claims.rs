//! The agent's Prepare, Unprepare and collector on the real kernel, with stand-ins for ports: killed at any request, beside another
//! agent, over damaged plans. Whatever happens, in the end host, PFs, files and API are as they were.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod bed;

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bed::{ports::Ports, uid};
use railhead_agent::{
    agent::Agent,
    claims::{NodeClaims, gc},
    kubelet::{ClaimRef, Claims, PreparedDevice},
};
use railhead_host::{
    FileLock, PciAddress, VfKnob, VfSettings, VfState,
    testing::{in_a_namespace, ip},
};
use railhead_plan::Layout;
use railhead_standin::pf::PfFiles;
use railhead_vf::{HostError, PfSide};
use tokio_util::sync::CancellationToken;

/// kubelet's call to an agent.
async fn asks_prepare(agent: Arc<Agent>, claim: ClaimRef) -> Result<Vec<PreparedDevice>, String> {
    NodeClaims::new(agent).prepare(claim).await
}

async fn asks_unprepare(agent: Arc<Agent>, claim: ClaimRef) -> Result<(), String> {
    NodeClaims::new(agent).unprepare(claim).await
}

/// Prepares a claim with an agent that has just started.
fn prepare(ports: &Ports, claim: &ClaimRef) {
    let prepared = ports.run(|agent| asks_prepare(agent, claim.clone()));
    let devices = prepared.unwrap_or_else(|error| panic!("{}: {error}", claim.name));
    assert_eq!(devices.len(), 2, "one per rail: {devices:?}");
}

fn unprepare(ports: &Ports, claim: &ClaimRef) {
    let released = ports.run(|agent| asks_unprepare(agent, claim.clone()));
    released.unwrap_or_else(|error| panic!("{}: {error}", claim.name));
}

/// A collector that runs until it has seen for long enough that the pod is gone.
fn collect(ports: &Ports, claim: &ClaimRef) {
    ports.api.delete("pods", &claim.name);
    ports.api.delete("resourceclaims", &claim.name);
    run_collector(ports);
}

/// A collector that runs for longer than a pod has to be gone.
fn run_collector(ports: &Ports) {
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

/// What comes after an agent was killed.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// kubelet asks the next agent for the same again, and later for the end of it.
    Again,
    /// The pod was deleted meanwhile.
    Unprepare,
    /// Nobody asks any more: pod and claim are gone.
    Collector,
}

const WAYS: [Way; 3] = [Way::Again, Way::Unprepare, Way::Collector];

#[test]
fn a_prepare_killed_at_any_request_leaves_nothing_whatever_comes_next() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let mut killed = 0;
        for done in [false, true] {
            for n in 0.. {
                let mut ended = false;
                for way in WAYS {
                    let when = format!("killed at request {n} (done: {done}), then {way:?}");
                    let claim = ports.add_pod("llama-2", Some(2));
                    let prepared = ports.run_until(n, done, |agent| asks_prepare(agent, claim.clone()));
                    ended = prepared.is_some();
                    killed += usize::from(!ended);
                    match way {
                        Way::Again => {
                            prepare(&ports, &claim);
                            ports.assert_prepared(&claim, &when);
                            unprepare(&ports, &claim);
                        }
                        Way::Unprepare => unprepare(&ports, &claim),
                        Way::Collector => collect(&ports, &claim),
                    }
                    ports.assert_as_before(&when);
                }
                if ended {
                    break;
                }
            }
        }
        // Claim, pod, network, slice and attachment at least, three ways each, before and after.
        assert!(killed >= 5 * 3 * 2, "{killed} cases");
    });
}

#[test]
fn an_unprepare_killed_at_any_request_leaves_nothing_whatever_comes_next() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let mut killed = 0;
        for done in [false, true] {
            for n in 0.. {
                let mut ended = false;
                for way in WAYS {
                    let when = format!("killed at request {n} (done: {done}), then {way:?}");
                    let claim = ports.add_pod("llama-2", Some(2));
                    prepare(&ports, &claim);
                    let released = ports.run_until(n, done, |agent| asks_unprepare(agent, claim.clone()));
                    ended = released.is_some();
                    killed += usize::from(!ended);
                    match way {
                        Way::Again => {
                            prepare(&ports, &claim);
                            ports.assert_prepared(&claim, &when);
                            unprepare(&ports, &claim);
                        }
                        Way::Unprepare => unprepare(&ports, &claim),
                        Way::Collector => collect(&ports, &claim),
                    }
                    ports.assert_as_before(&when);
                }
                if ended {
                    break;
                }
            }
        }
        assert!(killed >= 3 * 2, "{killed} cases");
    });
}

/// The plan's file was cut short by a full disk, filled with zeros by a lost power, or replaced.
#[test]
fn a_damaged_plan_is_given_back_before_a_new_one_is_made_and_by_whoever_comes() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let other = ports.add_pod("llama-0", Some(0));
        prepare(&ports, &other);
        for damage in [&b"{\"version\":1,\"bo"[..], b"", &[0; 4096]] {
            for way in WAYS {
                let when = format!("{} bytes, then {way:?}", damage.len());
                let claim = ports.add_pod("llama-2", Some(2));
                prepare(&ports, &claim);
                fs::write(ports.layout().plan(&uid("llama-2")), damage).unwrap();
                match way {
                    Way::Again => {
                        prepare(&ports, &claim);
                        ports.assert_prepared(&claim, &when);
                        unprepare(&ports, &claim);
                    }
                    Way::Unprepare => unprepare(&ports, &claim),
                    Way::Collector => collect(&ports, &claim),
                }
                ports.assert_prepared(&other, &when);
                assert_eq!(ports.plans().len(), 1, "{when}");
                assert_eq!(ports.holders().len(), 1, "{when}: {:?}", ports.holders());
            }
        }
        unprepare(&ports, &other);
        ports.assert_as_before("given back");
    });
}

/// Somebody deleted the attachment too, so that nothing tells whose the plan was: it would keep every VF that a pod left from being
/// taken back until the next boot.
#[test]
fn a_damaged_plan_whose_attachment_is_gone_is_given_back_when_its_pod_is_gone() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let claim = ports.add_pod("llama-2", Some(2));
        prepare(&ports, &claim);
        let plan = ports.layout().plan(&uid("llama-2"));
        fs::write(&plan, "{\"version\":1,\"bo").unwrap();
        ports.api.delete("networkattachments", &format!("{}-2", bed::SLICE));
        // The pod runs, though lists from memory do not show it yet.
        ports.api.behind("llama-2");
        run_collector(&ports);
        assert!(plan.exists(), "the pod is there");
        collect(&ports, &claim);
        ports.assert_as_before("collected");
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

/// A port whose driver asks its firmware for every VF, which takes long: nobody else may have to wait for it.
struct SlowPort {
    pfs: PfFiles,
    layout: Layout,
}

impl SlowPort {
    fn nobody_waits(&self) {
        // A program that another test has just started may have the file open until it is that program.
        let lock = FileLock::take(&self.layout.node_lock(), Duration::from_secs(5));
        assert!(lock.is_ok(), "a port is asked while the node's lock is held: {lock:?}");
    }
}

impl PfSide for SlowPort {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        self.nobody_waits();
        self.pfs.read(pf, vf)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        self.nobody_waits();
        self.pfs.set(pf, vf, knob, wanted)
    }
}

#[test]
fn no_port_is_asked_while_the_nodes_lock_is_held() {
    in_a_namespace(|| {
        // One rail: two would ask at the same time, and each would find the other's try.
        let ports = Ports::new(1, 3, 4);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let agent = ports.agent_through(Arc::new(SlowPort {
                pfs: ports.pf_side(),
                layout: ports.layout(),
            }));
            let claim = ports.add_pod("llama-2", Some(2));
            asks_prepare(agent.clone(), claim.clone()).await.unwrap();
            ports.assert_prepared(&claim, "prepared");
            asks_unprepare(agent.clone(), claim.clone()).await.unwrap();
            // Nor where somebody removed a plan, and the look at the ports takes its VF back.
            asks_prepare(agent.clone(), claim.clone()).await.unwrap();
            let plan = ports.layout().plan(&uid("llama-2"));
            fs::remove_file(&plan).unwrap();
            let worker = agent.clone();
            tokio::task::spawn_blocking(move || railhead_agent::node::take_back(&worker))
                .await
                .unwrap();
            asks_unprepare(agent.clone(), claim.clone()).await.unwrap();
            ports.assert_as_before("taken back");
            // Nor for a VF that a plan may have which cannot be read, nor when what it held is given back.
            asks_prepare(agent.clone(), claim.clone()).await.unwrap();
            fs::write(&plan, "{").unwrap();
            let other = ports.add_pod("llama-0", Some(0));
            asks_prepare(agent.clone(), other.clone()).await.unwrap();
            assert_eq!(
                ports.plans()[0].rails[0].vf.index,
                1,
                "the first may be the other pod's"
            );
            asks_unprepare(agent.clone(), claim).await.unwrap();
            ports.assert_prepared(&other, "the damaged plan is given back");
            asks_unprepare(agent, other).await.unwrap();
        });
        ports.assert_as_before("given back");
    });
}

/// The port of the second rail is slow to take its settings back, and tells whether the first rail's VF may be wired meanwhile.
struct SlowGiveBack {
    pfs: PfFiles,
    layout: Layout,
    slow: PciAddress,
    first_vf: PciAddress,
    asked: AtomicBool,
}

impl PfSide for SlowGiveBack {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        self.pfs.read(pf, vf)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        if *pf == self.slow {
            std::thread::sleep(Duration::from_millis(300));
            let path = self.layout.function_lock(self.first_vf.as_str());
            let lock = FileLock::take(&path, Duration::ZERO);
            assert!(
                lock.is_err(),
                "an ADD could wire a VF of a plan that is being given back"
            );
            self.asked.store(true, Ordering::Relaxed);
        }
        self.pfs.set(pf, vf, knob, wanted)
    }
}

/// A sandbox may be made while the claim is given back, and the plan is there until the last VF is as before.
#[test]
fn no_vf_of_a_plan_can_be_wired_until_the_plan_is_gone() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 1, 4);
        let claim = ports.add_pod("llama-2", Some(2));
        prepare(&ports, &claim);
        let plan = ports.plans().remove(0);
        let pf_side = Arc::new(SlowGiveBack {
            pfs: ports.pf_side(),
            layout: ports.layout(),
            slow: plan.rails[1].vf.pf_pci_address.clone(),
            first_vf: plan.rails[0].vf.pci_address.clone(),
            asked: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(async { asks_unprepare(ports.agent_through(pf_side.clone()), claim).await })
            .unwrap();
        assert!(pf_side.asked.load(Ordering::Relaxed), "the second port was set");
        ports.assert_as_before("given back");
    });
}

/// All pods of a job come at once, to both agents of a rolling update, and there are just as many VFs as they need.
#[test]
fn a_burst_of_pods_has_every_vf_once() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 4, 8);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let agents = [ports.agent(), ports.agent()];
            for round in 0..20 {
                let claims: Vec<ClaimRef> = (0..4).map(|pod| ports.add_pod(&format!("pod-{pod}"), None)).collect();
                let at_once = claims.iter().enumerate().map(|(n, claim)| {
                    let (agent, claim) = (agents[n % 2].clone(), claim.clone());
                    tokio::spawn(asks_prepare(agent, claim))
                });
                for prepared in futures::future::join_all(at_once).await {
                    let prepared = prepared.unwrap();
                    assert!(prepared.is_ok(), "round {round}: {prepared:?}");
                }
                for claim in &claims {
                    ports.assert_prepared(claim, &format!("round {round}"));
                }
                assert_eq!(ports.plans().len(), 4, "round {round}");
                for claim in claims {
                    asks_unprepare(agents[0].clone(), claim).await.unwrap();
                }
                ports.assert_as_before(&format!("round {round}"));
            }
        });
    });
}

/// Two agents of a rolling update serve the same folders and both hear of everything, as when kubelet asks one and then the other.
#[test]
fn two_agents_that_race_for_claims_leak_nothing_and_give_nothing_twice() {
    in_a_namespace(|| {
        let ports = Ports::new(2, 2, 4);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (one, two) = (NodeClaims::new(ports.agent()), NodeClaims::new(ports.agent()));
            for round in 0..100 {
                let claims = [ports.add_pod("llama-a", None), ports.add_pod("llama-b", None)];
                let [a, b] = &claims;
                let prepared = tokio::join!(
                    one.prepare(a.clone()),
                    two.prepare(a.clone()),
                    two.prepare(b.clone()),
                    one.prepare(b.clone())
                );
                for prepared in [&prepared.0, &prepared.1, &prepared.2, &prepared.3] {
                    assert!(prepared.is_ok(), "round {round}: {prepared:?}");
                }
                for claim in &claims {
                    ports.assert_prepared(claim, &format!("round {round}"));
                }
                assert_eq!(ports.holders().len(), 2, "round {round}: {:?}", ports.holders());
                let released = tokio::join!(
                    one.unprepare(a.clone()),
                    two.unprepare(a.clone()),
                    two.unprepare(b.clone()),
                    one.unprepare(b.clone())
                );
                for released in [&released.0, &released.1, &released.2, &released.3] {
                    assert!(released.is_ok(), "round {round}: {released:?}");
                }
                ports.assert_as_before(&format!("round {round}"));
            }
        });
    });
}
