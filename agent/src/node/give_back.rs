//! One port as it was before Railhead: what of it is still Railhead's, and what somebody else has set or uses since.

use railhead_host::{InterfaceName, NetlinkError, PciAddress, SysfsError};
use railhead_vf::{Host, Originals, OriginalsError, PortOriginal, PortSet};
use thiserror::Error;

use crate::inventory::{FoundFunction, is_given};

/// Why a port is not as before yet. It is tried again.
#[derive(Debug, Error)]
pub(super) enum GiveBackError {
    #[error("give back port {port}: {source}")]
    Sysfs {
        port: PciAddress,
        #[source]
        source: SysfsError,
    },
    #[error("give back port {port}: {source}")]
    Link {
        port: PciAddress,
        #[source]
        source: NetlinkError,
    },
    #[error(
        "port {port}: VF {function} is not on the host; end what uses it, its interface would vanish without an error"
    )]
    InUse { port: PciAddress, function: PciAddress },
    #[error(transparent)]
    Originals(#[from] OriginalsError),
}

/// What a port is like when it is to be given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PortNow {
    mtu: u32,
    up: bool,
    /// How the host uses the port's own interface: addresses, links on top.
    uses: Vec<String>,
    vfs: usize,
    /// How the host uses VFs.
    vf_uses: Vec<String>,
}

/// What is done to a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Steps {
    remove_vfs: bool,
    down: bool,
    mtu: Option<u32>,
    /// What stays as it is, in words.
    left: Vec<String>,
}

fn decide(original: &PortOriginal, now: &PortNow) -> Steps {
    let port = &original.pci_address;
    let mut steps = Steps::default();
    let made_vfs = u32::try_from(now.vfs).is_ok_and(|count| count != original.vfs);
    if made_vfs && now.vf_uses.is_empty() {
        steps.remove_vfs = true;
    } else if made_vfs {
        steps.left.push(format!(
            "port {port} keeps its {} VFs, since the host uses some ({}); write {} to its sriov_numvfs when it does not",
            now.vfs,
            now.vf_uses.join(", "),
            original.vfs
        ));
    }
    // Its VFs need the port as it is, too.
    let in_use = !now.uses.is_empty() || (made_vfs && !now.vf_uses.is_empty());
    let set = original.set.unwrap_or(PortSet {
        // A record of the release before does not tell: then what differs counts as Railhead's.
        mtu: Some(now.mtu),
        up: !original.up,
    });
    if now.mtu != original.mtu {
        if set.mtu != Some(now.mtu) {
            let as_set = set
                .mtu
                .map_or_else(String::new, |mtu| format!(", not {mtu} as Railhead set it"));
            steps
                .left
                .push(format!("port {port}: its MTU is {}{as_set}: left", now.mtu));
        } else if in_use {
            steps
                .left
                .push(format!("port {port} is in use: its MTU stays {}", now.mtu));
        } else {
            steps.mtu = Some(original.mtu);
        }
    }
    if now.up && !original.up && set.up {
        if in_use {
            let uses = if now.uses.is_empty() { &now.vf_uses } else { &now.uses };
            steps.left.push(format!(
                "port {port} stays up, since the host uses it ({})",
                uses.join(", ")
            ));
        } else {
            steps.down = true;
        }
    }
    steps
}

/// Gives one port back. Returns what stays as it is, in words.
pub(super) fn port(
    originals: &Originals,
    host: &mut Host,
    original: &PortOriginal,
) -> Result<Vec<String>, GiveBackError> {
    let port = &original.pci_address;
    let sysfs_error = |source| GiveBackError::Sysfs {
        port: port.clone(),
        source,
    };
    let link_error = |source| GiveBackError::Link {
        port: port.clone(),
        source,
    };
    let vfs = host.sysfs.virtual_functions(port).map_err(sysfs_error)?;
    let mut now = PortNow {
        vfs: vfs.len(),
        ..PortNow::default()
    };
    for vf in &vfs {
        let found = FoundFunction {
            addresses: addresses(host, &vf.address).map_err(link_error)?,
            ..FoundFunction::from(vf.clone())
        };
        if !found.uppers.is_empty() || !found.addresses.is_empty() {
            now.vf_uses.push(found.use_by_host());
        }
    }
    let link = host.route.function_link(&host.sysfs, port).map_err(link_error)?;
    if let Some(link) = &link {
        (now.mtu, now.up) = (link.mtu, link.up);
        now.uses = addresses(host, port).map_err(link_error)?;
        if let Ok(name) = link.name.parse::<InterfaceName>() {
            let uppers = host.sysfs.uppers(port, &name).map_err(sysfs_error)?;
            now.uses.extend(uppers.iter().map(|upper| format!("under {upper}")));
        }
    }
    let steps = decide(original, &now);
    if steps.remove_vfs {
        // One that somebody else took into a namespace would vanish from there.
        if let Some(away) = vfs.iter().find(|vf| vf.driver.is_some() && vf.link.is_none()) {
            return Err(GiveBackError::InUse {
                port: port.clone(),
                function: away.address.clone(),
            });
        }
        for vf in &vfs {
            originals.forget_vf(&vf.address)?;
        }
        host.sysfs.set_num_vfs(port, original.vfs).map_err(sysfs_error)?;
    }
    if let Some(link) = link {
        // Down first: some drivers reset a port that is up when its MTU changes.
        if steps.down {
            host.route.set_up(link.index, false).map_err(link_error)?;
        }
        if let Some(mtu) = steps.mtu {
            host.route.set_mtu(link.index, mtu).map_err(link_error)?;
        }
    }
    Ok(steps.left)
}

/// The addresses that somebody gave a function's interface.
fn addresses(host: &mut Host, function: &PciAddress) -> Result<Vec<String>, NetlinkError> {
    let Some(link) = host.route.function_link(&host.sysfs, function)? else {
        return Ok(Vec::new());
    };
    let addresses = host.route.addresses(link.index)?;
    Ok(addresses
        .iter()
        .filter(|address| is_given(address))
        .map(|address| address.net.to_string())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// eth1 was down with MTU 1500 and without VFs; Railhead took it up, set 9000 and made four.
    fn original() -> PortOriginal {
        PortOriginal {
            version: 1,
            boot_id: "boot-1".to_owned(),
            pci_address: "0000:01:00.0".parse().unwrap(),
            vfs: 0,
            mtu: 1500,
            up: false,
            set: Some(PortSet {
                mtu: Some(9000),
                up: true,
            }),
        }
    }

    fn now() -> PortNow {
        PortNow {
            mtu: 9000,
            up: true,
            vfs: 4,
            ..PortNow::default()
        }
    }

    #[test]
    fn a_port_that_nobody_else_touched_is_as_before() {
        let steps = decide(&original(), &now());
        assert_eq!((steps.remove_vfs, steps.down, steps.mtu), (true, true, Some(1500)));
        assert!(steps.left.is_empty());
    }

    #[test]
    fn what_an_administrator_set_since_is_left_and_said() {
        let since = PortNow {
            mtu: 9216,
            uses: vec!["192.0.2.1/24".to_owned()],
            ..now()
        };
        let steps = decide(&original(), &since);
        assert_eq!((steps.remove_vfs, steps.down, steps.mtu), (true, false, None));
        let left = steps.left.join("\n");
        assert!(
            left.contains("its MTU is 9216, not 9000 as Railhead set it: left"),
            "{left}"
        );
        assert!(
            left.contains("stays up, since the host uses it (192.0.2.1/24)"),
            "{left}"
        );
    }

    #[test]
    fn vfs_that_the_host_uses_are_neither_destroyed_nor_cut_off() {
        let since = PortNow {
            vf_uses: vec!["0000:01:10.2 under br0".to_owned()],
            ..now()
        };
        let steps = decide(&original(), &since);
        assert_eq!((steps.remove_vfs, steps.down, steps.mtu), (false, false, None));
        let left = steps.left.join("\n");
        assert!(
            left.contains("keeps its 4 VFs") && left.contains("0000:01:10.2 under br0"),
            "{left}"
        );
    }

    #[test]
    fn a_port_that_railhead_took_up_and_an_administrator_took_up_before_is_told_apart() {
        let only_mtu = PortOriginal {
            up: true,
            set: Some(PortSet {
                mtu: Some(9000),
                up: false,
            }),
            ..original()
        };
        let steps = decide(&only_mtu, &now());
        assert_eq!((steps.down, steps.mtu), (false, Some(1500)));
        let never_set = PortOriginal {
            set: Some(PortSet::default()),
            ..original()
        };
        let steps = decide(&never_set, &now());
        assert_eq!((steps.down, steps.mtu), (false, None));
        assert_eq!(steps.left, ["port 0000:01:00.0: its MTU is 9000: left"]);
    }

    #[test]
    fn a_record_of_the_release_before_is_given_back_as_that_release_did() {
        let before = PortOriginal {
            set: None,
            ..original()
        };
        let steps = decide(&before, &now());
        assert_eq!((steps.down, steps.mtu), (true, Some(1500)));
    }

    fn ip(arguments: &str) -> String {
        let output = std::process::Command::new("ip")
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The kernel's links, in a namespace of their own; a veth stands for the port.
    #[test]
    fn the_management_address_of_a_port_keeps_its_link() {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIP network namespaces need root");
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "CI must run the tests that need root"
            );
            return;
        }
        let test = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add eth1 type veth peer name leaf1");
            ip("link set eth1 mtu 9216 up");
            ip("addr add 192.0.2.1/24 dev eth1");
            let root = tempfile::tempdir().unwrap();
            let device = root.path().join("sys/bus/pci/devices/0000:01:00.0");
            std::fs::create_dir_all(device.join("net/eth1")).unwrap();
            std::fs::write(device.join("sriov_numvfs"), "0").unwrap();
            let layout = railhead_plan::Layout::under(root.path());
            let originals = Originals::new(&layout, "boot-1");
            let mut host = Host::open(&layout).unwrap();
            let mut give_back = || port(&originals, &mut host, &original()).unwrap().join("; ");

            let left = give_back();
            assert!(left.contains("MTU is 9216") && left.contains("192.0.2.1/24"), "{left}");
            let link = ip("link show dev eth1");
            assert!(link.contains("mtu 9216") && link.contains(",UP"), "{link}");

            ip("addr del 192.0.2.1/24 dev eth1");
            ip("link set eth1 mtu 9000");
            assert_eq!(give_back(), "");
            let link = ip("link show dev eth1");
            assert!(link.contains("mtu 1500") && !link.contains(",UP"), "{link}");
        });
        if let Err(panic) = test.join() {
            std::panic::resume_unwind(panic);
        }
    }
}
