//! Nothing of one pod reaches the next: what a pod that may change its interfaces leaves on its VF, on the real kernel over
//! stand-ins; iproute2 is the witness where it knows the thing.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    collections::BTreeSet,
    io::Read,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
};

use node::{Node, PATIENCE};
use railhead_host::{
    EthtoolSocket, LinkSettings, LinkSettingsSocket, Netns, RouteSocket, VfKnob, VfSettings,
    testing::{another_namespace, in_a_namespace, ip},
};
use railhead_plan::VfPlan;
use railhead_vf::{
    PfSide, VfOriginal, program, restore,
    testing::{StandIn, VF_INDEX},
};

/// Puts a program that drops every frame on the link whose name is the first argument, as a pod with CAP_BPF and CAP_NET_ADMIN
/// can: by one netlink message, or (second argument `link`) by a bpf_link, which nobody else can take off and which lives as
/// long as this process.
const ATTACH_XDP: &str = r#"
import ctypes, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"))
    done = libc.syscall({"x86_64": 321, "aarch64": 280}[os.uname().machine], command, buffer, 128)
    if done < 0:
        sys.exit("bpf: " + os.strerror(ctypes.get_errno()))
    return done
code = struct.pack("<BBhi", 0xb7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = XDP_DROP; exit
instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
program = bpf(5, struct.pack("=IIQQIIQII", 6, 2, ctypes.addressof(instructions), ctypes.addressof(licence), 0, 0, 0, 0, 0))
index = socket.if_nametoindex(sys.argv[1])
if sys.argv[2] == "tc":
    program = bpf(5, struct.pack("=IIQQIIQII", 3, 2, ctypes.addressof(instructions), ctypes.addressof(licence), 0, 0, 0, 0, 0))
    bpf(8, struct.pack("=IIII", index, program, 46, 0))  # BPF_TCX_INGRESS; it outlives this process
    sys.exit()
if sys.argv[2] == "link":
    held = bpf(28, struct.pack("=IIII", program, index, 37, 2))
    print("held", flush=True)
    time.sleep(600)
nla = lambda kind, value: (struct.pack("=HH", 4 + len(value), kind) + value).ljust((len(value) + 7) // 4 * 4, b"\0")
payload = struct.pack("=BxHiII", 0, 0, index, 0, 0) + nla(43 | 0x8000, nla(1, struct.pack("=i", program)) + nla(3, struct.pack("=I", 2)))
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.send(struct.pack("=IHHII", 16 + len(payload), 19, 5, 1, 0) + payload)
error = struct.unpack("=i", netlink.recv(4096)[16:20])[0]
if error:
    sys.exit("attach: " + os.strerror(-error))
"#;

fn python(link: &str, how: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", ATTACH_XDP, link, how]).stdin(Stdio::null());
    command
}

/// A process that holds an XDP program on a link, until it is dropped.
struct HeldXdp(Child);

impl HeldXdp {
    fn on(link: &str) -> Self {
        let mut child = python(link, "link")
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let mut said = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"held\n");
        Self(child)
    }
}

impl Drop for HeldXdp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn settings(link: &str) -> LinkSettings {
    let index = RouteSocket::open()
        .unwrap()
        .link_named(&link.parse().unwrap())
        .unwrap()
        .unwrap()
        .index;
    LinkSettingsSocket::open().unwrap().read(index).unwrap().unwrap()
}

/// Prepare, as the agent does it.
fn prepare(node: &Node) -> VfOriginal {
    let (mut host, rail) = (node.host(), node.rail());
    let original = node.record();
    node.originals().lend(&mut host, &rail.vf).unwrap();
    program(&mut host, &rail).unwrap();
    original
}

/// What a pod does that may change its interfaces and load programs.
fn spoil() {
    ip("link set rail0 arp off multicast off promisc on allmulticast on txqueuelen 7 gso_max_size 4096 gso_max_segs 3");
    let index = RouteSocket::open()
        .unwrap()
        .link_named(&"rail0".parse().unwrap())
        .unwrap()
        .unwrap()
        .index;
    let mut ethtool = EthtoolSocket::open().unwrap().unwrap();
    let found = ethtool.settings(index).unwrap();
    let mut changed = found.clone();
    changed.features.remove("tx-generic-segmentation");
    changed.features.remove("tx-tcp-segmentation");
    let queues = changed.channels.as_mut().unwrap();
    (queues.rx, queues.tx) = (Some(1), Some(1));
    let refused = ethtool.restore(index, &found, &changed);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(
        python("rail0", "netlink")
            .status()
            .expect("this test needs python3")
            .success()
    );
    assert!(ip("link show rail0").contains("prog/xdp"));
}

/// The pod's whole life: its VF goes into a namespace of its own and comes back as `inside` left it.
fn pod(node: &Node, inside: impl FnOnce() + Send) {
    let (host, namespace) = (Netns::current().unwrap(), another_namespace());
    let mut route = RouteSocket::open().unwrap();
    let index = |route: &mut RouteSocket, name: &str| route.link_named(&name.parse().unwrap()).unwrap().unwrap().index;
    let vf = index(&mut route, node.vf.name.as_str());
    route.move_to(vf, &namespace).unwrap();
    namespace
        .run(|| {
            ip(&format!("link set {} name rail0 up", node.vf.name));
            inside();
            ip(&format!("link set rail0 down name {}", node.vf.name));
            let mut route = RouteSocket::open().unwrap();
            let vf = index(&mut route, node.vf.name.as_str());
            route.move_to(vf, &host).unwrap();
        })
        .unwrap();
    node.sysfs.wait_for(node.vf.name.as_str());
}

#[test]
fn what_a_pod_set_on_its_link_is_gone_after_the_give_back() {
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "iavf");
        let before = settings(node.vf.name.as_str());
        prepare(&node);
        let original = node.originals().vf(&node.vf.pci_address).unwrap().unwrap();
        assert_eq!(original.settings.as_ref(), Some(&before));
        pod(&node, spoil);
        assert_ne!(settings(node.vf.name.as_str()), before);
        restore(&mut node.host(), &original).unwrap();
        assert_eq!(settings(node.vf.name.as_str()), before);
        node.vf.assert_at_home("after the give-back");
        let shown = ip(&format!("-d link show {}", node.vf.name));
        assert!(!shown.contains("NOARP") && !shown.contains("xdp"), "{shown}");
        assert_eq!(driver.binds.load(Ordering::Relaxed), 0, "requests were enough");
    });
}

#[test]
fn what_no_request_takes_off_a_link_goes_when_its_driver_is_bound_again() {
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "iavf");
        let before = settings(node.vf.name.as_str());
        prepare(&node);
        let original = node.originals().vf(&node.vf.pci_address).unwrap().unwrap();
        let held = HeldXdp::on(node.vf.name.as_str());
        restore(&mut node.host(), &original).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
        assert_eq!(settings(node.vf.name.as_str()), before);
        node.vf.assert_at_home("after its driver was bound again");
        drop(held);
    });
}

/// They move with the link and outlive the process that put them there.
#[test]
fn programs_at_the_tc_hooks_of_a_link_go_when_its_driver_is_bound_again() {
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "iavf");
        let before = settings(node.vf.name.as_str());
        if before.tc_programs.is_none() {
            println!("SKIP this kernel has no tc hooks for programs (before 6.6)");
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must run this test"
            );
            return;
        }
        prepare(&node);
        let original = node.originals().vf(&node.vf.pci_address).unwrap().unwrap();
        pod(&node, || {
            assert!(
                python("rail0", "tc")
                    .status()
                    .expect("this test needs python3")
                    .success()
            );
        });
        assert_eq!(settings(node.vf.name.as_str()).tc_programs, Some(1));
        restore(&mut node.host(), &original).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
        assert_eq!(settings(node.vf.name.as_str()), before);
        node.vf.assert_at_home("after its driver was bound again");
    });
}

#[test]
fn a_vf_whose_link_keeps_what_harms_the_next_pod_is_not_free() {
    in_a_namespace(|| {
        let node = Node::new();
        prepare(&node);
        let original = node.originals().vf(&node.vf.pci_address).unwrap().unwrap();
        // There is no driver that could be bound again.
        let held = HeldXdp::on(node.vf.name.as_str());
        let error = restore(&mut node.host(), &original).unwrap_err().to_string();
        assert!(
            error.contains("XDP program") && error.contains(node.vf.pci_address.as_str()),
            "{error}"
        );
        assert!(node.originals().is_lent(&node.vf.pci_address));
        drop(held);
        restore(&mut node.host(), &original).unwrap();
        assert!(!node.originals().is_lent(&node.vf.pci_address));
    });
}

/// Its plan was lost: nobody called for the give-back.
#[test]
fn a_vf_that_nobody_gave_back_is_given_back_before_the_next_pod_gets_it() {
    in_a_namespace(|| {
        let node = Node::new();
        let before = settings(node.vf.name.as_str());
        let enforced = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
        prepare(&node);
        let original = node.originals().vf(&node.vf.pci_address).unwrap().unwrap();
        pod(&node, spoil);
        assert_eq!(node.record(), original);
        assert_eq!(settings(node.vf.name.as_str()), before);
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), enforced);
        node.vf.assert_at_home("before the next pod");
    });
}

#[test]
fn a_vlan_that_a_pod_left_is_told_from_one_that_an_administrator_set() {
    in_a_namespace(|| {
        let node = Node::new();
        let original = prepare(&node);
        let enforced = |vlan| VfSettings {
            vlan,
            ..original.enforced.clone()
        };
        let pods = node.rail().vf.vlan;
        // All but the VLAN was given back by hand.
        for knob in [VfKnob::Mac, VfKnob::Rate, VfKnob::SpoofCheck, VfKnob::Trust] {
            node.pf_side.set(&node.vf.pf, VF_INDEX, knob, &enforced(pods)).unwrap();
        }
        ip(&format!("link set {} address {}", node.vf.name, node.vf.mac));
        assert_eq!(node.record().enforced, enforced(None));
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap().vlan, None);
        // Nobody has the VF now, so this one is somebody's on purpose.
        node.pf_side
            .set(&node.vf.pf, VF_INDEX, VfKnob::Vlan, &enforced(pods))
            .unwrap();
        assert_eq!(node.record().enforced, enforced(pods));
    });
}

#[test]
fn vfs_that_nobody_gave_back_are_taken_back_unless_a_plan_or_the_host_has_them() {
    in_a_namespace(|| {
        let node = Node::new();
        prepare(&node);
        let (mut host, vf) = (node.host(), &node.vf.pci_address);
        let mut take_back = |taken: &[_]| {
            node.originals()
                .take_back(&mut host, || Some(taken.iter().cloned().collect()))
                .unwrap();
        };
        let programmed = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
        let is_programmed = || node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap() == programmed;
        take_back(std::slice::from_ref(vf));
        assert!(is_programmed(), "a plan names it");
        ip(&format!("address add 192.0.2.7/24 dev {}", node.vf.name));
        take_back(&[]);
        assert!(is_programmed(), "the host uses it");
        ip(&format!("address del 192.0.2.7/24 dev {}", node.vf.name));
        take_back(&[]);
        assert!(!is_programmed());
        node.vf.assert_at_home("after it was taken back");
        assert!(!node.originals().is_lent(vf));
        // Those that nobody lent are nobody's business.
        ip(&format!("link set {} mtu 9000", node.vf.name));
        take_back(&[]);
        assert!(ip(&format!("link show {}", node.vf.name)).contains("mtu 9000"));
    });
}

#[test]
fn a_vf_that_cannot_be_taken_back_keeps_no_other_from_it() {
    in_a_namespace(|| {
        let node = Node::new();
        prepare(&node);
        // It comes first in the folder of records or second, which nobody promises.
        for rail in [5, 6] {
            let stuck = StandIn::new(&node.layout(), &node.pf_side, rail);
            let vf = VfPlan {
                pci_address: stuck.pci_address.clone(),
                pf_pci_address: stuck.pf.clone(),
                ..node.rail().vf
            };
            let (mut host, originals) = (node.host(), node.originals());
            originals
                .record_vf(&mut host, &stuck.pci_address, &stuck.pf, VF_INDEX, PATIENCE)
                .unwrap();
            originals.lend(&mut host, &vf).unwrap();
            // There is no driver that could be bound again.
            let held = HeldXdp::on(stuck.name.as_str());
            let error = originals
                .take_back(&mut host, || Some(BTreeSet::new()))
                .unwrap_err()
                .to_string();
            assert!(error.contains(stuck.pci_address.as_str()), "{error}");
            assert!(!originals.is_lent(&node.vf.pci_address));
            assert!(originals.lent().unwrap().contains(&stuck.pci_address));
            // It is left alone for a while.
            originals.take_back(&mut host, || Some(BTreeSet::new())).unwrap();
            originals.lend(&mut host, &node.rail().vf).unwrap();
            drop(held);
        }
    });
}

/// The record says nothing of its link's settings.
#[test]
fn a_pod_that_the_release_before_prepared_leaves_no_program_and_no_flag() {
    in_a_namespace(|| {
        let node = Node::new();
        let original = node.record();
        assert_eq!(original.settings, None);
        program(&mut node.host(), &node.rail()).unwrap();
        pod(&node, spoil);
        restore(&mut node.host(), &original).unwrap();
        let shown = ip(&format!("-d link show {}", node.vf.name));
        assert!(
            !shown.contains("NOARP") && !shown.contains("xdp") && shown.contains("MULTICAST"),
            "{shown}"
        );
        node.vf.assert_at_home("after the give-back");
    });
}

#[test]
fn a_note_of_an_earlier_boot_says_nothing() {
    in_a_namespace(|| {
        let node = Node::new();
        prepare(&node);
        assert!(node.originals().is_lent(&node.vf.pci_address));
        let later = railhead_vf::Originals::new(&node.layout(), "the next boot");
        assert!(!later.is_lent(&node.vf.pci_address));
        later.take_back(&mut node.host(), || Some(BTreeSet::new())).unwrap();
    });
}
