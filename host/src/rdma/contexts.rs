//! How many programs have an RDMA device open.

use std::collections::BTreeSet;

use netlink_packet_core::{NlasIterator, parse_string, parse_u32, parse_u64};
use nix::errno::Errno;

use super::{
    RdmaDevice, RdmaError, RdmaSocket,
    message::{Command, RdmaMessage, attribute},
};

/// `RDMA_NLDEV_CMD_RES_GET` (rdma/rdma_netlink.h): how many objects of each kind a device has.
const RES_GET: Command = Command(9);
/// `RDMA_NLDEV_ATTR_RES_SUMMARY`, a table of `_ENTRY`, each with `_ENTRY_NAME` and `_ENTRY_CURR`.
const SUMMARY: u16 = 15;
const ENTRY_NAME: u16 = 17;
const ENTRY_CURRENT: u16 = 18;
/// What the kernel calls the contexts of programs (`fill_res_info`, drivers/infiniband/core/nldev.c).
const CONTEXTS: &str = "ctx";
/// `RDMA_NLDEV_CMD_RES_CTX_GET`; `RDMA_NLDEV_ATTR_RES_CTX`, a table of entries, each with `_RES_PID` if it is seen.
const CONTEXTS_GET: Command = Command(22);
const CONTEXTS_TABLE: u16 = 86;
const PID: u16 = 28;

impl RdmaSocket {
    /// How many contexts programs have open on a device, in whatever process (`rdma_restrack_count`,
    /// drivers/infiniband/core/restrack.c). Older kernels count only those that the caller's PID namespace sees, which in a
    /// container are none.
    pub fn open_contexts(&mut self, device: &RdmaDevice) -> Result<u64, RdmaError> {
        let question = RdmaMessage::new(RES_GET).with_u32(attribute::DEV_INDEX, device.index);
        let request = format!("count what uses RDMA device {}", device.name);
        let answer = self.socket.get(&request, question).map_err(RdmaError::Netlink)?;
        Ok(open_contexts(&answer))
    }
}

impl RdmaSocket {
    /// The processes that have contexts open on a device, as far as the caller's PID namespace sees them
    /// (`fill_res_name_pid`, drivers/infiniband/core/nldev.c). Empty on kernels that do not list contexts (before 5.15).
    pub fn context_holders(&mut self, device: &RdmaDevice) -> Result<BTreeSet<u32>, RdmaError> {
        let question = RdmaMessage::new(CONTEXTS_GET).with_u32(attribute::DEV_INDEX, device.index);
        match self
            .socket
            .dump(&format!("list who uses RDMA device {}", device.name), &question)
        {
            Ok(answers) => Ok(answers.iter().flat_map(context_holders).collect()),
            Err(error) if matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::EINVAL)) => Ok(BTreeSet::new()),
            Err(error) => Err(RdmaError::Netlink(error)),
        }
    }
}

/// The process ids in a table of contexts.
fn holders(table: &[u8]) -> BTreeSet<u32> {
    let entries = NlasIterator::new(table).map_while(Result::ok);
    entries
        .flat_map(|entry| {
            let attributes = NlasIterator::new(entry.value()).map_while(Result::ok);
            let pids = attributes.filter(|attribute| attribute.kind() == PID);
            pids.filter_map(|attribute| parse_u32(attribute.value()).ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The processes in an answer.
pub(super) fn context_holders(answer: &RdmaMessage) -> BTreeSet<u32> {
    answer
        .value(CONTEXTS_TABLE)
        .map(|table| holders(&table))
        .unwrap_or_default()
}

/// The contexts in an answer.
pub(super) fn open_contexts(answer: &RdmaMessage) -> u64 {
    answer.value(SUMMARY).map_or(0, |table| contexts(&table))
}

fn contexts(table: &[u8]) -> u64 {
    let entries = NlasIterator::new(table).map_while(Result::ok);
    entries
        .filter_map(|entry| {
            let (mut name, mut current) = (None, None);
            for attribute in NlasIterator::new(entry.value()).map_while(Result::ok) {
                match attribute.kind() {
                    ENTRY_NAME => name = parse_string(attribute.value()).ok(),
                    ENTRY_CURRENT => current = parse_u64(attribute.value()).ok(),
                    _ => {}
                }
            }
            (name.as_deref() == Some(CONTEXTS)).then_some(current?)
        })
        // It is only asked whether there are any.
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn entry(name: &str, current: u64) -> Vec<u8> {
        let name = attribute(ENTRY_NAME, &[name.as_bytes(), b"\0"].concat());
        let current = attribute(ENTRY_CURRENT, &current.to_ne_bytes());
        attribute(16, &[name, current].concat())
    }

    /// The layout of `fill_res_ctx_entry` below `res_get_common_dumpit`; another PID namespace's process has no id.
    #[test]
    fn the_holders_of_contexts_are_read_and_those_of_other_namespaces_have_no_id() {
        let number = |value: u32| attribute(66, &value.to_ne_bytes());
        let seen = |pid: u32| attribute(87, &[number(1), attribute(PID, &pid.to_ne_bytes())].concat());
        let table = [seen(4711), attribute(87, &number(2)), seen(12), seen(4711)].concat();
        assert_eq!(holders(&table), BTreeSet::from([12, 4711]));
        assert_eq!(holders(&table[..table.len() - 5]), BTreeSet::from([12, 4711]));
        assert_eq!(holders(&[]), BTreeSet::new());
    }

    /// The layout of `fill_res_info_entry`.
    #[test]
    fn the_contexts_of_programs_are_told_from_what_the_kernel_itself_uses() {
        let table = [entry("pd", 3), entry("qp", 1), entry("ctx", 2), entry("srq", 0)].concat();
        assert_eq!(contexts(&table), 2);
        assert_eq!(contexts(&[entry("pd", 3), entry("qp", 1)].concat()), 0);
        assert_eq!(contexts(&table[..table.len() - 7]), 2, "what is cut off is missing");
        assert_eq!(contexts(&[]), 0);
        let absurd = [entry("ctx", u64::MAX), entry("ctx", 2)].concat();
        assert_eq!(contexts(&absurd), u64::MAX, "the sum does not begin anew");
    }
}
