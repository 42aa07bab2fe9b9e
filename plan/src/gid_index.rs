//! Where the GIDs of a wired pod's rails are in their devices' GID tables.

use crate::attachment_record::RailRecord;

/// The index of the GIDs of the rails that have an RDMA device. Programs take one index for all devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GidIndex {
    /// No rail has an RDMA device.
    None,
    /// The same on all of them.
    Same(u32),
    /// `1 on rail0, 3 on rail1`.
    Differs(String),
}

impl GidIndex {
    /// As ADD has found them.
    pub fn of(rails: &[RailRecord]) -> Self {
        let found: Vec<(&RailRecord, u32)> = rails
            .iter()
            .filter_map(|rail| Some((rail, rail.rdma.as_ref()?.gid_index)))
            .collect();
        match found.split_first() {
            None => Self::None,
            Some(((_, first), others)) if others.iter().all(|(_, index)| index == first) => Self::Same(*first),
            Some(_) => {
                let each: Vec<String> = found
                    .iter()
                    .map(|(rail, index)| format!("{index} on {}", rail.name))
                    .collect();
                Self::Differs(each.join(", "))
            }
        }
    }
}
