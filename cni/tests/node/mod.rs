//! A node for tests: a network namespace that stands for the host, veth pairs that stand for functions and their cables,
//! a folder that stands for `/`. The kernel, the namespaces and the netlink calls are real; the PF side, which no veth has,
//! is a table.

#![allow(dead_code)] // Each test binary uses its own part.

use std::{fs, os::fd::AsRawFd, time::Duration};

use railhead_cni::{Context, Environment, Outcome, Step, run};
pub(crate) use railhead_host::testing::{ip, ip_json};
use railhead_host::{
    Netns,
    testing::{another_namespace, in_a_namespace},
};
use railhead_plan::{
    AttachmentPlan, Layout, NcclSetting, NetworkRef, PLAN_VERSION, PodRef, RailPlan, RdmaPlan, VfPlan, Vlan,
};
use railhead_vf::testing::{PfTable, VF_INDEX};
pub(crate) use railhead_vf::{
    PfSide, pf_settings,
    testing::{StandIn, pf_address},
};
use serde_json::{Value, json};

pub(crate) const POD_UID: &str = "6f1c0a52-0000-4000-8000-000000000001";
pub(crate) const CLAIM_UID: &str = "77aa0a52-0000-4000-8000-000000000001";

/// Runs a test inside a namespace of its own, or says why it cannot.
pub(crate) fn on_a_node(test: impl FnOnce(&Node) + Send + 'static) {
    in_a_namespace(|| {
        ip("link set lo up");
        test(&Node::new());
    });
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
        context.proof_patience = Duration::from_secs(1);
        context.return_patience = Duration::from_secs(1);
        context.lock_patience = Duration::from_secs(1);
        context
    }

    /// A context whose ADD is cut off after a step, as by a kill.
    pub(crate) fn context_killed_after(&self, last: Step) -> Context {
        let mut context = self.context();
        context.after_step = Box::new(move |_, step| step != last);
        context
    }

    /// A VF of rail `rail`, programmed as the plan wants it.
    pub(crate) fn add_function(&self, rail: u32) -> StandIn {
        let vf = StandIn::new(&self.layout(), &self.pf, rail);
        self.pf.apply(&vf.pf, VF_INDEX, &pf_settings(&rail_plan(rail))).unwrap();
        vf
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

/// A sandbox: a namespace and an id.
pub(crate) struct Sandbox {
    pub(crate) container_id: String,
    pub(crate) pod_uid: String,
    netns: Option<Netns>,
}

impl Sandbox {
    pub(crate) fn new(container_id: &str) -> Self {
        let netns = another_namespace();
        netns.run(|| ip("link set lo up")).unwrap();
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
        claim_name: None,
        network: NetworkRef {
            name: "train".to_owned(),
            uid: "u".to_owned(),
        },
        block: None,
        slice_name: "train-00000000".to_owned(),
        index: 0,
        pods: 2,
        rails: rails.iter().map(|rail| rail_plan(*rail)).collect(),
        nccl_file: true,
        nccl_by_variable: false,
        nccl: vec![NcclSetting {
            name: "NCCL_IB_TC".to_owned(),
            value: "104".to_owned(),
            origin: "dscp 26 of QosClass roce".to_owned(),
        }],
        nccl_environment: Vec::new(),
        traffic_class: None,
    }
}

fn rail_plan(rail: u32) -> RailPlan {
    RailPlan {
        rail,
        name: format!("rail{rail}").parse().unwrap(),
        vf: VfPlan {
            pci_address: format!("0000:18:0{rail}.3").parse().unwrap(),
            pf_pci_address: pf_address(rail),
            index: VF_INDEX,
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

/// The JSON on standard output.
pub(crate) fn answer(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", outcome.stdout))
}

#[track_caller]
pub(crate) fn succeeded(outcome: &Outcome) {
    assert!(outcome.success, "{} {:?}", outcome.stdout, outcome.log);
}
