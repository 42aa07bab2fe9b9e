//! Which of a function's links is its own.
//!
//! Since kernel 5.8 the representors of a port's VFs and sub-functions hang on the PCI address of the PF, beside the
//! port's own link, and may sort before it.

use super::{Sysfs, SysfsError, read, read_number};
use crate::{InterfaceName, PciAddress};

/// A link of a PCI function as sysfs names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLink {
    /// Name.
    pub name: InterfaceName,
    /// Number in the namespace that mounted this sysfs (`ifindex`).
    pub index: Option<u32>,
}

impl Sysfs {
    /// The function's own link, if it is in the namespace that mounted this sysfs. `None` for a function whose link is in a
    /// pod, for one without driver, and for one of which only representors are there.
    pub fn function_link(&self, function: &PciAddress) -> Result<Option<FunctionLink>, SysfsError> {
        let net = self.pci_device(function).join("net");
        let mut links = self.links(function)?;
        // The kernel takes its lock of all links to read a port name, so it is asked only where there is a choice.
        if links.len() > 1 {
            let mut ranked = Vec::new();
            for name in links {
                let port = read(&net.join(name.as_str()).join("phys_port_name"))?;
                let switch = read(&net.join(name.as_str()).join("phys_switch_id"))?;
                let rank = rank(
                    port.as_deref().unwrap_or_default(),
                    switch.is_some_and(|id| !id.is_empty()),
                );
                ranked.extend(rank.map(|rank| (rank, name)));
            }
            // Stable: among equals the first name stays the first.
            ranked.sort_by_key(|(rank, _)| *rank);
            links = ranked.into_iter().map(|(_, name)| name).collect();
        }
        let Some(name) = links.into_iter().next() else {
            return Ok(None);
        };
        let index = read_number(&net.join(name.as_str()).join("ifindex"))?;
        Ok(Some(FunctionLink { name, index }))
    }
}

/// How likely a link is the function's own (lower is likelier); `None` if it stands for something behind the port.
fn rank(port_name: &str, has_switch_id: bool) -> Option<u8> {
    if is_port(port_name) {
        return Some(0);
    }
    if is_behind_a_port(port_name) {
        return None;
    }
    match (port_name, has_switch_id) {
        (_, false) => Some(1),
        ("", true) => Some(2),
        // mlx5 before 5.9 calls a VF's representor by the number of the VF alone.
        (_, true) => None,
    }
}

/// `p0`, or `p0s1` for a part of a split port (`__devlink_port_phys_port_name_get`, net/devlink/port.c).
fn is_port(port_name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    port_name
        .strip_prefix('p')
        .is_some_and(|rest| match rest.split_once('s') {
            Some((whole, split)) => number(whole) && number(split),
            None => number(rest),
        })
}

/// `pf0`, `pf0vf3`, `pf0sf8`, each also with the number of a controller before it, `c1pf0vf3` (the same source).
fn is_behind_a_port(port_name: &str) -> bool {
    let digits = |text: &str| text.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
    let rest = match port_name.strip_prefix('c') {
        Some(rest) => digits(rest),
        None => port_name.to_owned(),
    };
    let Some(rest) = rest.strip_prefix("pf") else {
        return false;
    };
    let rest = digits(rest);
    rest.is_empty()
        || ["vf", "sf"]
            .iter()
            .any(|kind| rest.strip_prefix(kind).is_some_and(|n| digits(n).is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_comes_first_and_what_is_behind_it_never() {
        for port in ["p0", "p12", "p0s1"] {
            assert_eq!((rank(port, true), rank(port, false)), (Some(0), Some(0)), "{port}");
        }
        for behind in ["pf0", "pf0vf0", "pf1vf127", "pf0sf88", "c1pf0vf3", "c0pf0"] {
            assert_eq!((rank(behind, true), rank(behind, false)), (None, None), "{behind}");
        }
        assert_eq!((rank("", false), rank("", true)), (Some(1), Some(2)));
        assert_eq!((rank("3", true), rank("port-a", false)), (None, Some(1)));
    }
}
