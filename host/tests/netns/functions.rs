//! The links of PCI functions, and PFs without any.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use railhead_host::{Errno, Link, Netns, Sysfs, VfError, VfKnob, VfSettings, testing::ip};

use crate::{in_a_namespace, link, name};

/// A sysfs that names `link` as the link of a PCI function.
fn sysfs_with(function: &str, link: &Link) -> (tempfile::TempDir, Sysfs) {
    let folder = tempfile::tempdir().unwrap();
    let net = folder
        .path()
        .join("bus/pci/devices")
        .join(function)
        .join("net")
        .join(&link.name);
    std::fs::create_dir_all(&net).unwrap();
    std::fs::write(net.join("ifindex"), format!("{}\n", link.index)).unwrap();
    let sysfs = Sysfs::new(folder.path());
    (folder, sysfs)
}

#[test]
fn a_function_is_found_among_links_that_come_and_go() {
    in_a_namespace(|socket| {
        for number in 0..200 {
            ip(&format!("link add v{number} type veth peer name w{number}"));
        }
        let wanted = link(socket, "va");
        let (_folder, sysfs) = sysfs_with("0000:18:00.3", &wanted);
        let host = Netns::current().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let churn: Vec<_> = (0..4)
                .map(|number| {
                    let (host, over) = (&host, &over);
                    scope.spawn(move || {
                        host.run(|| {
                            let mut rounds = 0_u32;
                            while !over.load(Ordering::Relaxed) {
                                ip(&format!("link add c{number} type veth peer name d{number}"));
                                ip(&format!("link del c{number}"));
                                rounds += 1;
                            }
                            rounds
                        })
                        .unwrap()
                    })
                })
                .collect();
            let function = "0000:18:00.3".parse().unwrap();
            let mut failed = Vec::new();
            for _ in 0..1000 {
                match socket.function_link(&sysfs, &function) {
                    Ok(found) => assert_eq!(found.map(|link| link.index), Some(wanted.index)),
                    Err(error) => failed.push(error.to_string()),
                }
                // As long as a dump of these links takes, so that the churn meets every look-up.
                thread::sleep(Duration::from_millis(1));
            }
            over.store(true, Ordering::Relaxed);
            let rounds: u32 = churn.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert!(rounds > 4, "nothing came or went meanwhile");
            assert_eq!(failed, Vec::<String>::new());
        });
    });
}

#[test]
fn a_link_that_sysfs_names_and_that_is_gone_or_another_is_no_functions_link() {
    in_a_namespace(|socket| {
        let function = "0000:18:00.3".parse().unwrap();
        let wanted = link(socket, "va");
        let (_folder, sysfs) = sysfs_with("0000:18:00.3", &wanted);
        assert_eq!(socket.function_link(&sysfs, &function).unwrap(), Some(wanted.clone()));
        // The number is another link's by now.
        socket.rename(wanted.index, &name("somebody")).unwrap();
        assert_eq!(socket.function_link(&sysfs, &function).unwrap(), None);
        ip("link del vb");
        assert_eq!(socket.function_link(&sysfs, &function).unwrap(), None);
        // A function that sysfs does not know is looked for among all links.
        assert_eq!(
            socket.function_link(&sysfs, &"0000:99:00.3".parse().unwrap()).unwrap(),
            None
        );
    });
}

#[test]
fn a_link_without_functions_says_so() {
    in_a_namespace(|socket| {
        let a = link(socket, "va").index;
        assert_eq!(socket.vfs(a).unwrap(), []);
        let wanted = VfSettings {
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 400,
            spoof_check: true,
            trust: false,
            link_state: None,
        };
        let error = socket.vf("va", a, 0).unwrap_err();
        assert!(matches!(error, VfError::NoSuchVf { vf: 0, .. }), "{error}");
        // EOPNOTSUPP and not EINVAL or ERANGE: the kernel accepted the encoding and the driver has no such operation.
        for knob in [
            VfKnob::Mac,
            VfKnob::Vlan,
            VfKnob::Rate,
            VfKnob::SpoofCheck,
            VfKnob::Trust,
        ] {
            let error = socket.set_vf("va", a, 0, knob, &wanted).unwrap_err();
            let VfError::Unsupported { source, .. } = error else {
                panic!("{knob:?}: {error}");
            };
            assert_eq!(source.errno(), Some(Errno::EOPNOTSUPP), "{knob:?}");
        }
    });
}
