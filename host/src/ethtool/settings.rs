//! What can be set through ethtool on a link.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The settings of a link that outlive its move to another namespace. What a driver does not have is empty or `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EthtoolSettings {
    /// Offloads that are wanted, by the kernel's names (`tx-tcp-segmentation`). What is active follows from them, from
    /// the hardware and from the links on top, and is not compared.
    pub features: BTreeSet<String>,
    /// Flags of the driver's own that are on.
    pub private_flags: BTreeSet<String>,
    /// Numbers of queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Channels>,
    /// Lengths of queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rings: Option<Rings>,
    /// A digest of the table that spreads received frames over queues, and of what it looks at; `None` where the driver has
    /// none and on kernels before 6.2. It can be compared, not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering: Option<String>,
    /// Interrupt moderation: values by number of the attribute (`ETHTOOL_A_COALESCE_*`).
    pub coalesce: BTreeMap<u16, Vec<u8>>,
}

/// Numbers of queues; `None` for a kind that the driver does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Channels {
    /// For receiving.
    pub rx: Option<u32>,
    /// For sending.
    pub tx: Option<u32>,
    /// For anything else.
    pub other: Option<u32>,
    /// For both directions.
    pub combined: Option<u32>,
}

/// Lengths of queues, in descriptors; `None` for a kind that the driver does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rings {
    /// For receiving.
    pub rx: Option<u32>,
    /// For small frames.
    pub rx_mini: Option<u32>,
    /// For large frames.
    pub rx_jumbo: Option<u32>,
    /// For sending.
    pub tx: Option<u32>,
}
