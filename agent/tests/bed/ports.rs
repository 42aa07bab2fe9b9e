//! A node with ports: veth pairs of a network namespace stand for VFs and cables, a folder for sysfs and Railhead's own, files for
//! what PFs enforce. The agent is the real one; what came of it is read by `ip`.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use railhead_agent::{
    agent::Agent,
    claims::plans,
    inventory::{Eswitch, FoundPort, Inventory},
    kubelet::ClaimRef,
};
use railhead_plan::{AttachmentPlan, Layout};
use railhead_standin::{
    call::{CHILD, Call, ROOT},
    namespace::{Namespace, ip_json},
    node::{Node, Vf},
    observe::{HostState, assert_as_before},
    pf::PfFiles,
};
use railhead_vf::PfSide;
use serde_json::{Value, json};

use super::{NODE, agent, api::Api};

/// The node. Make it in a namespace of its own.
pub(crate) struct Ports {
    node: Node,
    pub(crate) api: Api,
    before: HostState,
    enforced: Vec<(String, String)>,
    cni_binary: Option<PathBuf>,
}

impl Ports {
    /// So many ports with so many VFs each, and the network `llama` of so many pods on all of them.
    pub(crate) fn new(rails: u32, vfs: u32, pods: u32) -> Self {
        let (node, api) = (Node::new(rails, vfs, false).unwrap(), Api::default());
        let devices = node.layout().sysfs().join("bus/pci/devices");
        for vf in node.all_vfs() {
            let pf = devices.join(&vf.pf);
            fs::create_dir_all(&pf).unwrap();
            symlink(format!("../{}", vf.pci), pf.join(format!("virtfn{}", vf.index))).unwrap();
        }
        let rail = |rail: u32| json!({"id": rail, "name": format!("rail{rail}"), "vlan": 1012, "prefixes": [{"prefix": format!("10.{rail}.64.0/26"), "pool": format!("10.{rail}.0.0/16")}]});
        super::put_network(&api, pods, &(0..rails).map(rail).collect());
        plans::make_folders(&node.layout()).unwrap();
        let before = HostState::read().unwrap();
        assert_eq!(before.vf_count(), (rails * vfs) as usize, "the stand-ins are seen");
        let enforced = node.enforced().unwrap();
        Self {
            node,
            api,
            before,
            enforced,
            cni_binary: None,
        }
    }

    /// The same with a CNI binary: `program cni`, which is [`railhead_standin::call::child`].
    pub(crate) fn with_binary(rails: u32, vfs: u32, pods: u32, program: &Path) -> Self {
        let mut ports = Self::new(rails, vfs, pods);
        let binary = ports.node.root().join("railhead");
        let script = format!(
            "#!/bin/sh\n{ROOT}={} exec {} {CHILD}\n",
            ports.node.root().display(),
            program.display()
        );
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        ports.cni_binary = Some(binary);
        ports
    }

    /// The runtime's call for a sandbox of a pod.
    pub(crate) fn call(&self, verb: &'static str, container: &str, pod: &str, sandbox: &Namespace) {
        let call = Call {
            verb,
            container: container.to_owned(),
            pod: super::uid(pod),
            netns: Some(sandbox.path()),
        };
        let program = std::env::current_exe().unwrap();
        let ended = call.run(&program, &self.node).unwrap();
        ended.ok(verb).unwrap_or_else(|error| panic!("{container}: {error:#}"));
    }

    pub(crate) fn layout(&self) -> Layout {
        self.node.layout()
    }

    /// An agent on this node; several are as in a rolling update. In a runtime only.
    pub(crate) fn agent(&self) -> Arc<Agent> {
        self.agent_through(Arc::new(self.pf_side()))
    }

    /// The PFs as they are.
    pub(crate) fn pf_side(&self) -> PfFiles {
        PfFiles::below(self.node.root())
    }

    /// An agent that reaches the PFs through `pf_side`.
    pub(crate) fn agent_through(&self, pf_side: Arc<dyn PfSide>) -> Arc<Agent> {
        let ports = self
            .node
            .vfs(0)
            .iter()
            .map(|vf| port(vf, self.node.vfs_per_port()))
            .collect();
        let inventory = Inventory {
            fabric: "backend".to_owned(),
            ports,
            ..Inventory::default()
        };
        let mut agent = agent(&self.api, self.layout(), pf_side, inventory);
        let new = Arc::get_mut(&mut agent).unwrap();
        // The CNI binary asks the kernel which boot it is.
        new.boot_id = railhead_host::boot_id(Layout::boot_id()).unwrap();
        if let Some(binary) = &self.cni_binary {
            new.cni_binary.clone_from(binary);
        }
        agent
    }

    /// Adds a pod with its claim on every port.
    pub(crate) fn add_pod(&self, name: &str, index: Option<u32>) -> ClaimRef {
        let result = |rail: u32| {
            json!({"driver": "railhead.dev", "pool": NODE, "device": format!("rail{rail}"), "request": format!("rail{rail}"),
                "consumedCapacity": {"bandwidth": "1G", "vfs": "1"}})
        };
        super::add_pod(&self.api, name, index, &(0..self.node.rails()).map(result).collect())
    }

    /// Runs `work` as an agent's process does: nothing of it goes on afterwards. Time is the test's own, and passes when
    /// nothing else happens.
    pub(crate) fn run<T, F: Future<Output = T>>(&self, work: impl FnOnce(Arc<Agent>) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async { work(self.agent()).await })
    }

    /// The same in the time of the world, for what waits for other processes.
    pub(crate) fn run_live<T, F: Future<Output = T>>(&self, work: impl FnOnce(Arc<Agent>) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { work(self.agent()).await })
    }

    /// The same as [`Self::run`], but the process is killed at its `n`th request, counted from 0, before the server does what is asked or when it
    /// has. `None` says that it was; else `work` has ended with fewer requests.
    pub(crate) fn run_until<T, F: Future<Output = T>>(
        &self,
        n: usize,
        done: bool,
        work: impl FnOnce(Arc<Agent>) -> F,
    ) -> Option<T> {
        let reached = self.api.hold_at(n, done);
        let ended = self.run(|agent| async {
            tokio::select! {
                ended = work(agent) => Some(ended),
                () = reached.notified() => None,
            }
        });
        self.api.hold_no_more();
        ended
    }

    /// Plans that can be read.
    pub(crate) fn plans(&self) -> Vec<AttachmentPlan> {
        plans::all(&self.layout()).unwrap()
    }

    /// Fails unless a plan is there, complete and in force: kernel, PFs, CDI spec and index.
    pub(crate) fn assert_prepared(&self, claim: &ClaimRef, when: &str) {
        let plans = self.plans();
        let plan = plans.iter().find(|plan| plan.claim_uid == claim.uid);
        let plan = plan.unwrap_or_else(|| panic!("{when}: no plan of {}", claim.name));
        assert_eq!(plan.rails.len(), self.node.rails() as usize, "{when}");
        let links = ip_json("-d link show").unwrap();
        for rail in &plan.rails {
            let vf = self
                .node
                .all_vfs()
                .into_iter()
                .find(|vf| vf.pci == rail.vf.pci_address.as_str());
            let vf = vf.unwrap_or_else(|| panic!("{when}: {} is no VF of this node", rail.vf.pci_address));
            let link = links
                .as_array()
                .unwrap()
                .iter()
                .find(|link| link["ifname"] == vf.name.as_str());
            assert_eq!(link.unwrap()["address"], rail.mac.to_string(), "{when}: {}", vf.name);
            let pf_side = PfFiles::below(self.node.root());
            let state = pf_side.read(&rail.vf.pf_pci_address, rail.vf.index).unwrap();
            assert_eq!((state.mac, state.vlan), (rail.mac, rail.vf.vlan), "{when}: {}", vf.name);
            assert_eq!(state.min_rate_mbps, 1000, "{when}: {}", vf.name);
        }
        let functions: Vec<_> = plans
            .iter()
            .flat_map(|plan| &plan.rails)
            .map(|rail| &rail.vf.pci_address)
            .collect();
        let distinct: BTreeSet<_> = functions.iter().collect();
        assert_eq!(
            functions.len(),
            distinct.len(),
            "{when}: a VF is in two plans: {functions:?}"
        );
        assert!(
            self.layout().cdi_spec(&claim.uid).exists(),
            "{when}: no CDI spec of {}",
            claim.name
        );
        let holders = self.holders();
        let its = holders.iter().filter(|(_, pod)| *pod == claim.name).collect::<Vec<_>>();
        assert_eq!(its.len(), 1, "{when}: indices {holders:?}");
        assert!(
            its[0].0.ends_with(&format!("-{}", plan.index)),
            "{when}: {its:?} and {}",
            plan.index
        );
    }

    /// Fails unless host, PFs, files and API are as they were before any claim.
    pub(crate) fn assert_as_before(&self, when: &str) {
        assert_as_before(&self.node, &self.before).unwrap_or_else(|error| panic!("{when}: {error:#}"));
        assert_eq!(self.node.enforced().unwrap(), self.enforced, "{when}");
        assert_eq!(self.holders(), [], "{when}: indices are held");
        let layout = self.layout();
        let left = [layout.plans(), layout.cdi(), layout.locks()].map(|folder| {
            let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            let names = names.map(|name| name.to_string_lossy().into_owned());
            // A VF's lock and the node's outlive claims.
            names
                .filter(|name| !name.contains(".lock") || name.starts_with("claim-"))
                .collect::<Vec<_>>()
        });
        assert_eq!(left, [const { Vec::<String>::new() }; 3], "{when}");
    }

    /// Attachments with their pods.
    pub(crate) fn holders(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attachments = self.api.all("networkattachments");
        let of = |found: &Value| (text(&found["metadata"]["name"]), text(&found["spec"]["podName"]));
        attachments.iter().map(of).collect()
    }
}

fn port(first: &Vf, vfs: u32) -> FoundPort {
    let name = format!("rail{}", first.rail);
    let rail = json!({"id": first.rail, "name": name, "pciAddress": first.pf, "vfs": vfs});
    FoundPort {
        rail: serde_json::from_value(rail).unwrap(),
        pci_address: first.pf.parse().unwrap(),
        netdev: format!("p{}", first.rail),
        driver: "mlx5_core".to_owned(),
        speed: None,
        carrier: true,
        mtu: Some(9000),
        numa_node: None,
        pcie_root: None,
        rdma_device: None,
        total_functions: vfs,
        eswitch: Eswitch::Legacy,
        functions: Vec::new(),
    }
}
