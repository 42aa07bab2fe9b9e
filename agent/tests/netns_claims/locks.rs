//! What is locked while ports are slow, and what is not.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use railhead_host::{FileLock, PciAddress, VfKnob, VfSettings, VfState, testing::in_a_namespace};
use railhead_plan::Layout;
use railhead_standin::pf::PfFiles;
use railhead_vf::{HostError, PfSide};

use crate::{
    asks_prepare, asks_unprepare,
    bed::{ports::Ports, uid},
    prepare,
};

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
