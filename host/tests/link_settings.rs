//! What a pod can do to its link, seen and taken back on real veth pairs; iproute2 is the witness where it knows the thing.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use railhead_host::{
    EthtoolSocket, LinkSetting, LinkSettings, LinkSettingsSocket, Netns, RouteSocket, XdpMode,
    testing::{self, another_namespace, ip},
};

/// Runs a test in a namespace of its own with a veth pair `va` and `vb` of four queues.
fn in_a_namespace(test: impl FnOnce(u32, &mut LinkSettingsSocket) + Send + 'static) {
    testing::in_a_namespace(move || {
        ip("link add va numrxqueues 4 numtxqueues 4 type veth peer name vb numrxqueues 4 numtxqueues 4");
        let va = RouteSocket::open()
            .unwrap()
            .link_named(&"va".parse().unwrap())
            .unwrap()
            .unwrap();
        test(va.index, &mut LinkSettingsSocket::open().unwrap());
    });
}

fn set(settings: &[LinkSetting]) -> BTreeSet<LinkSetting> {
    settings.iter().copied().collect()
}

#[test]
fn a_fresh_link_differs_from_itself_in_nothing() {
    in_a_namespace(|va, socket| {
        let original = socket.read(va).unwrap().unwrap();
        assert_eq!(original.differences(&original), set(&[]));
        assert_eq!(socket.restore(va, &original).unwrap(), set(&[]));
        assert_eq!(socket.read(4711).unwrap(), None);
        // What is written to a file is read back as the same.
        let text = serde_json::to_string(&original).unwrap();
        assert_eq!(serde_json::from_str::<LinkSettings>(&text).unwrap(), original);
        // And a file of a release that knew less can be read.
        serde_json::from_str::<LinkSettings>("{}").unwrap();
        let ethtool = original.ethtool;
        assert!(ethtool.features.contains("tx-generic-segmentation"), "{ethtool:?}");
        assert_eq!(ethtool.channels.unwrap().rx, Some(4), "{ethtool:?}");
    });
}

#[test]
fn what_a_pod_set_on_its_link_comes_home_with_it_is_seen_and_taken_back() {
    in_a_namespace(|va, socket| {
        let original = socket.read(va).unwrap().unwrap();
        let host = Netns::current().unwrap();
        let pod = another_namespace();
        RouteSocket::open().unwrap().move_to(va, &pod).unwrap();
        pod.run(|| {
            ip("link set va arp off multicast off promisc on allmulticast on txqueuelen 7 gso_max_size 4096 gso_max_segs 3");
            let va = RouteSocket::open()
                .unwrap()
                .link_named(&"va".parse().unwrap())
                .unwrap()
                .unwrap()
                .index;
            let mut ethtool = EthtoolSocket::open().unwrap().unwrap();
            let found = ethtool.settings(va).unwrap();
            let mut changed = found.clone();
            changed.features.remove("tx-generic-segmentation");
            changed.features.remove("tx-tcp-segmentation");
            let queues = changed.channels.as_mut().unwrap();
            (queues.rx, queues.tx) = (Some(1), Some(1));
            let refused = ethtool.restore(va, &found, &changed);
            assert!(refused.is_empty(), "{refused:?}");
            RouteSocket::open().unwrap().move_to(va, &host).unwrap();
        })
        .unwrap();
        let va = RouteSocket::open()
            .unwrap()
            .link_named(&"va".parse().unwrap())
            .unwrap()
            .unwrap()
            .index;
        let found = socket.read(va).unwrap().unwrap();
        let expected = [
            LinkSetting::Promiscuous,
            LinkSetting::AllMulticast,
            LinkSetting::Flags,
            LinkSetting::TxQueueLen,
            LinkSetting::OffloadSizes,
            LinkSetting::Features,
            LinkSetting::Channels,
        ];
        assert_eq!(found.differences(&original), set(&expected));
        assert_eq!(socket.restore(va, &original).unwrap(), set(&[]));
        assert_eq!(socket.read(va).unwrap().unwrap(), original);
        let shown = ip("-d link show dev va");
        assert!(
            !shown.contains("NOARP")
                && shown.contains("MULTICAST")
                && !shown.contains("PROMISC")
                && !shown.contains("ALLMULTI")
                && shown.contains("qlen 1000"),
            "{shown}"
        );
    });
}

/// Loads a program that drops every frame and puts it on `va`, as a pod with CAP_BPF and CAP_NET_ADMIN can. Python has no BPF
/// of its own either: it is the system call and one netlink message.
const ATTACH_XDP: &str = r#"
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = struct.pack("<BBhi", 0xb7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = XDP_DROP; exit
instructions = ctypes.create_string_buffer(code)
licence = ctypes.create_string_buffer(b"GPL")
attributes = struct.pack("=IIQQIIQII", 6, 2, ctypes.addressof(instructions), ctypes.addressof(licence), 0, 0, 0, 0, 0)
buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"))
number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
program = libc.syscall(number, 5, buffer, 128)
if program < 0:
    sys.exit("bpf: " + os.strerror(ctypes.get_errno()))
nla = lambda kind, value: (struct.pack("=HH", 4 + len(value), kind) + value).ljust((len(value) + 7) // 4 * 4, b"\0")
xdp = nla(43 | 0x8000, nla(1, struct.pack("=i", program)) + nla(3, struct.pack("=I", int(sys.argv[1]))))
payload = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex("va"), 0, 0) + xdp
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.send(struct.pack("=IHHII", 16 + len(payload), 19, 5, 1, 0) + payload)
error = struct.unpack("=i", netlink.recv(4096)[16:20])[0]
if error:
    sys.exit("attach: " + os.strerror(-error))
"#;

#[test]
fn an_xdp_program_is_seen_and_taken_off() {
    in_a_namespace(|va, socket| {
        let original = socket.read(va).unwrap().unwrap();
        // XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE; veth knows both.
        for (flag, mode) in [("2", XdpMode::Generic), ("4", XdpMode::Driver)] {
            let status = Command::new("python3")
                .args(["-c", ATTACH_XDP, flag])
                .stdin(Stdio::null())
                .status()
                .expect("this test needs python3");
            assert!(status.success());
            let found = socket.read(va).unwrap().unwrap();
            assert_eq!(found.options.xdp, [mode]);
            assert!(ip("link show dev va").contains("prog/xdp"));
            assert!(found.differences(&original).contains(&LinkSetting::Xdp));
            assert_eq!(socket.restore(va, &original).unwrap(), set(&[]));
            assert!(!ip("link show dev va").contains("prog/xdp"));
        }
    });
}
