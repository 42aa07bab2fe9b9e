//! A node for tests: a network namespace that stands for the host, veth pairs that stand for functions and their cables,
//! a folder that stands for `/`. The kernel, the namespaces and the netlink calls are real; the PF side, which no veth has,
//! is a table.

#![allow(dead_code)] // Each test binary uses its own part.

use std::{
    collections::HashMap,
    fs,
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use railhead_cni::{Context, Environment, Outcome, PfSide, PfSideError, Step, run};
use railhead_host::{Netns, PciAddress, VfKnob, VfSettings, VfState};
use railhead_plan::{
    AttachmentPlan, Layout, NcclSetting, NetworkRef, PLAN_VERSION, PodRef, RailPlan, RdmaPlan, VfPlan, Vlan,
};
use serde_json::{Value, json};

pub(crate) const POD_UID: &str = "6f1c0a52-0000-4000-8000-000000000001";
pub(crate) const CLAIM_UID: &str = "77aa0a52-0000-4000-8000-000000000001";

/// Runs a test inside a namespace of its own, or says why it cannot.
pub(crate) fn on_a_node(test: impl FnOnce(&Node) + Send + 'static) {
    if !nix::unistd::Uid::effective().is_root() {
        println!("SKIP network namespaces need root");
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI must run the tests that need root"
        );
        return;
    }
    let finished = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for the test");
        ip("link set lo up");
        test(&Node::new());
    })
    .join();
    if let Err(panic) = finished {
        std::panic::resume_unwind(panic);
    }
}

/// One node with its folders and functions.
pub(crate) struct Node {
    folder: tempfile::TempDir,
    pf: PfTable,
}

impl Node {
    fn new() -> Self {
        let node = Self {
            folder: tempfile::tempdir().unwrap(),
            pf: PfTable::default(),
        };
        fs::create_dir_all(node.layout().plans()).unwrap();
        node
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::under(self.folder.path())
    }

    pub(crate) fn pf(&self) -> &PfTable {
        &self.pf
    }

    /// A context for one call; patience is short because nothing here is slow.
    pub(crate) fn context(&self) -> Context {
        let mut context = Context::new(self.layout());
        context.pf_side = Box::new(self.pf.clone());
        context.proof_patience = Duration::from_millis(300);
        context.return_patience = Duration::from_millis(300);
        context.lock_patience = Duration::from_millis(300);
        context
    }

    /// A context whose ADD is cut off after a step, as by a kill.
    pub(crate) fn context_killed_after(&self, last: Step) -> Context {
        let mut context = self.context();
        context.after_step = Box::new(move |_, step| step != last);
        context
    }

    /// A function of rail `rail` and the other end of its cable, `leaf<rail>`.
    pub(crate) fn add_function(&self, rail: u32) -> Function {
        let function = Function {
            pci_address: format!("0000:18:0{rail}.3"),
            name: format!("enp24s{rail}v3"),
            mac: format!("02:aa:00:00:0{rail}:09"),
            altname: format!("enp24s0f{rail}v3-of-the-host"),
        };
        let Function { name, mac, altname, .. } = &function;
        ip(&format!("link add {name} type veth peer name leaf{rail}"));
        ip(&format!("link set {name} address {mac} mtu 1500 alias before"));
        ip(&format!("link property add dev {name} altname {altname}"));
        ip(&format!("link set leaf{rail} mtu 9000 up"));
        fs::create_dir_all(self.sysfs_device(&function.pci_address).join("net").join(name)).unwrap();
        self.pf
            .0
            .lock()
            .unwrap()
            .insert((pf_address(rail), 2), settings_to_state(&pf_settings(&rail_plan(rail))));
        function
    }

    fn sysfs_device(&self, pci_address: &str) -> PathBuf {
        self.layout().sysfs().join("bus/pci/devices").join(pci_address)
    }

    pub(crate) fn write_plan(&self, plan: &AttachmentPlan) {
        let path = self.layout().plan(&plan.pod.uid);
        fs::write(path, serde_json::to_vec(plan).unwrap()).unwrap();
    }

    /// Everything that an attachment leaves on the host while it lives.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        [self.layout().journals(), self.layout().attachments()]
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .map(|entry| entry.unwrap().path().display().to_string())
            .collect()
    }
}

/// One call of the library as the runtime would make it.
pub(crate) fn call(context: &Context, verb: &str, sandbox: &Sandbox) -> Outcome {
    call_with(context, verb, sandbox, &json!({}))
}

/// As [`call`], with other keys in the configuration.
pub(crate) fn call_with(context: &Context, verb: &str, sandbox: &Sandbox, extra: &Value) -> Outcome {
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "pod", "type": "railhead",
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"railhead.dev/attach": "train"}},
        "prevResult": {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [{"address": "10.244.0.5/24", "interface": 0}]
        }
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    let environment = Environment {
        command: Some(verb.to_owned()),
        container_id: Some(sandbox.container_id.clone()),
        netns: sandbox.path(),
        if_name: Some("eth0".to_owned()),
        arguments: Some(format!(
            "K8S_POD_NAMESPACE=ml;K8S_POD_NAME=train-0;K8S_POD_UID={}",
            sandbox.pod_uid
        )),
    };
    run(context, &environment, &mut config.to_string().as_bytes())
}

/// A stand-in for a VF as it is on the host before anybody uses it.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) pci_address: String,
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) altname: String,
}

impl Function {
    /// Fails unless the function is on the host exactly as it was made.
    pub(crate) fn assert_at_home(&self, when: &str) {
        let links = ip_json("-d link show");
        let link = links
            .as_array()
            .unwrap()
            .iter()
            .find(|link| link["ifname"] == self.name.as_str())
            .unwrap_or_else(|| panic!("{when}: {} is not on the host: {links:#}", self.name));
        assert_eq!(link["address"], self.mac.as_str(), "{when}");
        assert_eq!(link["mtu"], 1500, "{when}");
        assert_eq!(link["altnames"], json!([self.altname]), "{when}");
        assert_eq!(link["ifalias"], "before", "{when}");
        assert_eq!(link["operstate"], "DOWN", "{when}");
    }
}

/// A sandbox: a namespace and an id.
pub(crate) struct Sandbox {
    pub(crate) container_id: String,
    pub(crate) pod_uid: String,
    netns: Option<Netns>,
}

impl Sandbox {
    pub(crate) fn new(container_id: &str) -> Self {
        let netns = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            Netns::current().unwrap()
        })
        .join()
        .unwrap();
        Self {
            container_id: container_id.to_owned(),
            pod_uid: POD_UID.to_owned(),
            netns: Some(netns),
        }
    }

    /// The sandbox of another pod.
    pub(crate) fn of_pod(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.pod_uid);
        self
    }

    /// A sandbox that shares the host's namespace.
    pub(crate) fn of_the_host(container_id: &str) -> Self {
        Self {
            netns: Some(Netns::current().unwrap()),
            ..Self::new(container_id)
        }
    }

    /// The same id after its namespace ended.
    pub(crate) fn without_netns(&self) -> Self {
        Self {
            container_id: self.container_id.clone(),
            pod_uid: self.pod_uid.clone(),
            netns: None,
        }
    }

    pub(crate) fn netns(&self) -> &Netns {
        self.netns.as_ref().unwrap()
    }

    pub(crate) fn path(&self) -> Option<String> {
        use std::os::fd::AsFd;
        let fd = self.netns.as_ref()?.as_fd().as_raw_fd();
        Some(format!("/proc/{}/fd/{fd}", std::process::id()))
    }

    /// Runs `ip` inside.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.netns().run(|| ip(arguments)).unwrap()
    }

    pub(crate) fn ip_json(&self, arguments: &str) -> Value {
        self.netns().run(|| ip_json(arguments)).unwrap()
    }
}

/// The PF side that a veth lacks: what is set is kept and reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct PfTable(pub(crate) Arc<Mutex<HashMap<(PciAddress, u32), VfState>>>);

impl PfSide for PfTable {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, PfSideError> {
        self.0
            .lock()
            .unwrap()
            .get(&(pf.clone(), vf))
            .cloned()
            .ok_or_else(|| PfSideError::NoLink { pf: pf.clone() })
    }

    fn apply(&self, pf: &PciAddress, vf: u32, wanted: &VfSettings) -> Result<(Vec<VfKnob>, VfState), PfSideError> {
        let set = self.read(pf, vf)?.differences(wanted);
        let state = settings_to_state(wanted);
        self.0.lock().unwrap().insert((pf.clone(), vf), state.clone());
        Ok((set, state))
    }
}

fn settings_to_state(settings: &VfSettings) -> VfState {
    VfState {
        index: 2,
        mac: settings.mac.unwrap(),
        vlan: settings.vlan,
        min_rate_mbps: settings.min_rate_mbps,
        max_rate_mbps: settings.max_rate_mbps,
        spoof_check: settings.spoof_check,
        trust: settings.trust,
    }
}

fn pf_settings(plan: &RailPlan) -> VfSettings {
    VfSettings {
        mac: Some(plan.mac),
        vlan: plan.vf.vlan,
        min_rate_mbps: 0,
        max_rate_mbps: 400,
        spoof_check: true,
        trust: false,
    }
}

pub(crate) fn pf_address(rail: u32) -> PciAddress {
    format!("0000:18:0{rail}.0").parse().unwrap()
}

/// The plan of a pod with the given rails.
pub(crate) fn plan(rails: &[u32]) -> AttachmentPlan {
    AttachmentPlan {
        version: PLAN_VERSION,
        boot_id: railhead_host::boot_id(Layout::boot_id()).unwrap(),
        pod: PodRef {
            namespace: "ml".to_owned(),
            name: "train-0".to_owned(),
            uid: POD_UID.to_owned(),
        },
        claim_uid: CLAIM_UID.to_owned(),
        network: NetworkRef {
            name: "train".to_owned(),
            uid: "u".to_owned(),
        },
        slice_name: "train-00000000".to_owned(),
        index: 0,
        pods: 2,
        rails: rails.iter().map(|rail| rail_plan(*rail)).collect(),
        nccl_file: true,
        nccl: vec![NcclSetting {
            name: "NCCL_IB_TC".to_owned(),
            value: "104".to_owned(),
            origin: "dscp 26 of QosClass roce".to_owned(),
        }],
    }
}

fn rail_plan(rail: u32) -> RailPlan {
    RailPlan {
        rail,
        name: format!("rail{rail}").parse().unwrap(),
        vf: VfPlan {
            pci_address: format!("0000:18:0{rail}.3").parse().unwrap(),
            pf_pci_address: pf_address(rail),
            index: 2,
            vlan: Some(Vlan::new(100, 3).unwrap()),
            max_rate_mbps: 400,
            min_rate_mbps: 0,
            spoof_check: true,
            trust: false,
        },
        mac: format!("02:00:00:00:0{rail}:01").parse().unwrap(),
        mtu: 9000,
        addresses: vec![format!("10.0.{rail}.7/24").parse().unwrap()],
        on_link: vec![],
        gateway: Some(format!("10.0.{rail}.1").parse().unwrap()),
        table: 1000 + rail,
        rdma: RdmaPlan::None,
    }
}

/// Runs `ip` in the namespace of the thread and fails with what it said.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the tests need iproute2");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn ip_json(arguments: &str) -> Value {
    let text = ip(&format!("-j {arguments}"));
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
}

/// The JSON on standard output.
pub(crate) fn answer(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", outcome.stdout))
}

#[track_caller]
pub(crate) fn succeeded(outcome: &Outcome) {
    assert!(outcome.success, "{} {:?}", outcome.stdout, outcome.log);
}
