//! sysfs is read as the kernel writes it: a tree with the files, links and odd values that were seen on machines.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{fs, net::IpAddr, os::unix::fs::symlink, path::Path};

use railhead_host::{PciAddress, Sysfs, SysfsError};

const PF: &str = "0000:18:00.0";
const VF: &str = "0000:18:10.2";

/// Two functions of an igb port below the root complex pci0000:17, a GPU with functions, a soft-RoCE device.
fn tree(root: &Path) -> Sysfs {
    let complex = root.join("devices/pci0000:17/0000:17:01.0");
    let file = |path: &str, content: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let devices = root.join("bus/pci/devices");
    fs::create_dir_all(&devices).unwrap();
    for function in [PF, VF, "0000:3b:00.0"] {
        fs::create_dir_all(complex.join(function)).unwrap();
        symlink(
            format!("../../../devices/pci0000:17/0000:17:01.0/{function}"),
            devices.join(function),
        )
        .unwrap();
    }
    fs::create_dir_all(devices.join("not-an-address")).unwrap();
    let pf = "devices/pci0000:17/0000:17:01.0/0000:18:00.0";
    for (name, content) in [
        ("class", "0x020000\n"),
        ("vendor", "0x8086\n"),
        ("device", "0x10c9\n"),
        ("sriov_totalvfs", "7\n"),
        ("sriov_numvfs", "3\n"),
        ("numa_node", "-1\n"),
        ("net/eth1/address", "52:54:00:aa:00:01\n"),
        ("net/eth1/speed", "1000\n"),
        ("net/eth1/carrier", "1\n"),
        ("net/eth1/mtu", "9000\n"),
    ] {
        file(&format!("{pf}/{name}"), content);
    }
    let vf = "devices/pci0000:17/0000:17:01.0/0000:18:10.2";
    file(&format!("{vf}/infiniband/mlx5_10/node_guid"), "0\n");
    symlink("../0000:18:10.2", root.join(pf).join("virtfn1")).unwrap();
    symlink("../0000:18:00.0", root.join(vf).join("physfn")).unwrap();
    file("bus/pci/drivers/igb/unbind", "");
    file("bus/pci/drivers/igb/bind", "");
    symlink("../../../../bus/pci/drivers/igb", root.join(pf).join("driver")).unwrap();
    file("bus/pci/drivers_probe", "");
    // A GPU has functions as well and is not a network port.
    file("bus/pci/devices/0000:3b:00.0/class", "0x030200\n");
    file("bus/pci/devices/0000:3b:00.0/sriov_totalvfs", "16\n");
    for (name, content) in [
        ("gids/0", "fe80:0000:0000:0000:0000:00ff:fe00:0001\n"),
        ("gids/1", "0000:0000:0000:0000:0000:ffff:0a00:0007\n"),
        ("gids/2", "0000:0000:0000:0000:0000:ffff:0a00:0007\n"),
        ("gids/3", "0000:0000:0000:0000:0000:0000:0000:0000\n"),
        ("gids/10", "fd00:0000:0000:0000:0000:0000:0000:0007\n"),
        ("gid_attrs/types/0", "RoCE v2\n"),
        ("gid_attrs/types/1", "IB/RoCE v1\n"),
        ("gid_attrs/types/2", "RoCE v2\n"),
        ("gid_attrs/types/10", "RoCE v2\n"),
        ("state", "4: ACTIVE\n"),
    ] {
        file(&format!("class/infiniband/rxe0/ports/1/{name}"), content);
    }
    file("class/infiniband_verbs/abi_version", "6\n");
    file("class/infiniband_verbs/uverbs0/ibdev", "mlx5_10\n");
    file("class/infiniband_verbs/uverbs3/ibdev", "rxe0\n");
    Sysfs::new(root)
}

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

#[test]
fn a_port_is_read_with_everything_that_a_device_attribute_needs() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    let ports = sysfs.physical_functions().unwrap();
    assert_eq!(ports.len(), 1, "{ports:?}");
    let port = &ports[0];
    assert_eq!(port.address.as_str(), PF);
    assert_eq!(port.driver.as_deref(), Some("igb"));
    assert_eq!(port.link.as_ref().unwrap().as_str(), "eth1");
    assert_eq!(port.mac, Some("52:54:00:aa:00:01".parse().unwrap()));
    assert_eq!(
        (port.carrier, port.speed_mbps, port.mtu),
        (Some(true), Some(1000), Some(9000))
    );
    assert_eq!((port.total_vfs, port.num_vfs), (7, 3));
    assert_eq!(port.numa_node, None);
    assert_eq!(port.pcie_root.as_deref(), Some("pci0000:17"));
    assert_eq!(port.port_name, None);
}

#[test]
fn a_port_without_signal_has_no_speed() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    let net = folder.path().join("bus/pci/devices").join(PF).join("net/eth1");
    for unknown in ["-1\n", "4294967295\n", "0\n", ""] {
        fs::write(net.join("speed"), unknown).unwrap();
        assert_eq!(
            sysfs.physical_function(&address(PF)).unwrap().speed_mbps,
            None,
            "{unknown:?}"
        );
    }
}

#[test]
fn functions_are_found_by_their_links_also_when_a_pod_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    let functions = sysfs.virtual_functions(&address(PF)).unwrap();
    assert_eq!(functions.len(), 1);
    assert_eq!((functions[0].index, functions[0].address.as_str()), (1, VF));
    assert_eq!(functions[0].link, None);
    assert_eq!(functions[0].rdma_devices[0].as_str(), "mlx5_10");
    assert_eq!(sysfs.physical_function_of(&address(VF)), Some(address(PF)));
    assert_eq!(sysfs.virtual_functions(&address("0000:99:00.0")).unwrap(), []);
}

#[test]
fn the_number_of_functions_goes_through_zero_and_is_left_alone_when_right() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    let file = folder.path().join("bus/pci/devices").join(PF).join("sriov_numvfs");
    sysfs.set_num_vfs(&address(PF), 3).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "3\n");
    sysfs.set_num_vfs(&address(PF), 5).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "5");
}

#[test]
fn a_driver_is_unbound_and_bound_through_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    sysfs.unbind(&address(PF)).unwrap();
    sysfs.bind(&address(PF), Some("igb")).unwrap();
    for file in ["unbind", "bind"] {
        let path = folder.path().join("bus/pci/drivers/igb").join(file);
        assert_eq!(fs::read_to_string(path).unwrap(), PF);
    }
    let error = sysfs.unbind(&address(VF)).unwrap_err();
    assert!(matches!(error, SysfsError::NoDriver { .. }), "{error}");
    for name in ["../../../etc", "", ".hidden", "a/b"] {
        let error = sysfs.bind(&address(PF), Some(name)).unwrap_err();
        assert!(matches!(error, SysfsError::Name { .. }), "{error}");
    }
}

#[test]
fn whether_the_kernel_probes_vfs_is_read_and_set() {
    let root = tempfile::tempdir().unwrap();
    let sysfs = tree(root.path());
    let pf: PciAddress = PF.parse().unwrap();
    assert_eq!(sysfs.autoprobe(&pf).unwrap(), None, "a kernel without that file");
    let file = root
        .path()
        .join("bus/pci/devices")
        .join(PF)
        .join("sriov_drivers_autoprobe");
    fs::write(&file, "1\n").unwrap();
    assert_eq!(sysfs.autoprobe(&pf).unwrap(), Some(true));
    sysfs.set_autoprobe(&pf, false).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "0");
    assert_eq!(sysfs.autoprobe(&pf).unwrap(), Some(false));
}

#[test]
fn the_gid_of_an_address_is_the_one_for_roce_v2() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    let find = |text: &str| sysfs.gid_of("rxe0", 1, text.parse().unwrap()).unwrap();
    let gid = find("10.0.0.7").unwrap();
    assert_eq!(
        (gid.index, gid.text().as_str()),
        (2, "0000:0000:0000:0000:0000:ffff:0a00:0007")
    );
    assert_eq!(find("fd00::7").unwrap().index, 10);
    assert_eq!(find("10.0.0.8"), None);
    // Behind the places that are looked at first.
    let port = folder.path().join("class/infiniband/rxe0/ports/1");
    fs::write(port.join("gids/300"), "fd00:0000:0000:0000:0000:0000:0000:0008\n").unwrap();
    fs::write(port.join("gid_attrs/types/300"), "RoCE v2\n").unwrap();
    assert_eq!(find("fd00::8").unwrap().index, 300);
    assert!(sysfs.rdma_port_is_active("rxe0", 1).unwrap());
    assert!(!sysfs.rdma_port_is_active("absent", 1).unwrap());
}

#[test]
fn the_character_device_is_found_by_its_rdma_device() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    assert_eq!(
        sysfs.uverbs("rxe0").unwrap().as_deref(),
        Some("/dev/infiniband/uverbs3")
    );
    assert_eq!(sysfs.uverbs("rxe9").unwrap(), None);
    assert!(sysfs.rdma_device_exists("rxe0").unwrap());
    assert!(matches!(
        sysfs.gid_of("../rxe0", 1, IpAddr::from([10, 0, 0, 7])),
        Err(SysfsError::Name { .. })
    ));
}

/// What ConnectX in switchdev mode shows below the PF's address: representors sort before the port's own link.
fn add_representors(root: &Path) {
    let net = root.join("bus/pci/devices").join(PF).join("net");
    for (link, port_name, switch_id) in [
        ("eth1", "p0", "aa"),
        ("eth0", "pf0vf0", "aa"),
        ("en7f0pf0sf0", "pf0sf0", "aa"),
    ] {
        fs::create_dir_all(net.join(link)).unwrap();
        fs::write(net.join(link).join("phys_port_name"), format!("{port_name}\n")).unwrap();
        fs::write(net.join(link).join("phys_switch_id"), format!("{switch_id}\n")).unwrap();
    }
    fs::write(net.join("eth1/ifindex"), "7\n").unwrap();
}

#[test]
fn the_uplink_is_the_port_whatever_sorts_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    add_representors(folder.path());
    let port = sysfs.physical_function(&address(PF)).unwrap();
    assert_eq!(port.link.as_ref().unwrap().as_str(), "eth1");
    assert_eq!((port.mtu, port.speed_mbps), (Some(9000), Some(1000)));
    assert_eq!(port.port_name.as_deref(), Some("p0"));
    assert_eq!(sysfs.function_link(&address(PF)).unwrap().unwrap().index, Some(7));
}

#[test]
fn a_sub_function_beside_a_port_in_legacy_mode_is_not_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    add_representors(folder.path());
    let net = folder.path().join("bus/pci/devices").join(PF).join("net");
    for file in ["phys_port_name", "phys_switch_id"] {
        fs::remove_file(net.join("eth1").join(file)).unwrap();
    }
    let port = sysfs.physical_function(&address(PF)).unwrap();
    assert_eq!(port.link.as_ref().unwrap().as_str(), "eth1");
}

/// What could stand in the place of an attribute: nothing of it is waited for or read without end.
#[test]
fn what_is_no_attribute_is_refused_at_once() {
    use nix::{sys::stat::Mode, unistd::mkfifo};
    let folder = tempfile::tempdir().unwrap();
    let sysfs = tree(folder.path());
    let total = folder.path().join("bus/pci/devices").join(PF).join("sriov_totalvfs");
    let refused = |what: &str| {
        let error = sysfs.physical_function(&address(PF)).unwrap_err();
        assert!(error.to_string().contains("sriov_totalvfs"), "{what}: {error}");
    };
    let replace = |by: &dyn Fn(&Path)| {
        fs::remove_file(&total).unwrap();
        by(&total);
    };
    replace(&|path| mkfifo(path, Mode::S_IRWXU).unwrap());
    refused("a FIFO");
    replace(&|path| fs::File::create(path).unwrap().set_len(1 << 30).unwrap());
    refused("a gigabyte of nothing");
    replace(&|path| symlink("/proc/self/status", path).unwrap());
    refused("a link to another file");
    replace(&|path| fs::write(path, "7\0\n").unwrap());
    refused("a NUL byte");
    replace(&|path| fs::write(path, [0xff, 0xfe, 7]).unwrap());
    refused("no text");
    replace(&|path| fs::create_dir(path).unwrap());
    refused("a folder");
    // And nothing is written to what is no attribute.
    let numvfs = folder.path().join("bus/pci/devices").join(PF).join("sriov_numvfs");
    fs::remove_file(&numvfs).unwrap();
    mkfifo(&numvfs, Mode::S_IRWXU).unwrap();
    sysfs.set_num_vfs(&address(PF), 4).unwrap_err();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_is_a_value_or_an_error(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = tree(folder.path());
        let pf = folder.path().join("bus/pci/devices").join(PF);
        let rxe = folder.path().join("class/infiniband/rxe0/ports/1");
        for file in ["class", "vendor", "sriov_totalvfs", "numa_node", "net/eth1/speed", "net/eth1/mtu", "net/eth1/ifindex"] {
            fs::write(pf.join(file), &content).unwrap();
        }
        for file in ["gids/1", "gid_attrs/types/2", "state"] {
            fs::write(rxe.join(file), &content).unwrap();
        }
        let _ = (sysfs.physical_functions(), sysfs.virtual_functions(&address(PF)), sysfs.function_link(&address(PF)));
        let _ = (sysfs.gid_of("rxe0", 1, IpAddr::from([10, 0, 0, 7])), sysfs.rdma_port_is_active("rxe0", 1));
        }
}
