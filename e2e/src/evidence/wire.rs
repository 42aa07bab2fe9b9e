//! What passes the leaf switch: frames on the cable of a node's rail port.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::lab::Lab;

/// Everything that was different among the captured frames of one kind of traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagged {
    /// VLAN ids.
    pub vlans: BTreeSet<u16>,
    /// Priority code points.
    pub priorities: BTreeSet<u8>,
    /// DSCPs.
    pub dscps: BTreeSet<u8>,
    /// The longest frame.
    pub longest: usize,
    /// Number of frames.
    pub frames: usize,
}

/// Frames of a ping, as a tcpdump filter.
pub const PING: &str = "icmp";
/// Frames of RoCE v2 (UDP port 4791, InfiniBand Architecture Annex A17), as a tcpdump filter.
pub const ROCE: &str = "udp dst port 4791";

/// Runs `traffic` and tells the tags that its frames of `kind` from `source` carried on the cable of `node`'s `rail`.
pub fn on_the_wire<T>(
    lab: &Lab,
    (node, rail): (usize, usize),
    kind: &str,
    source: &str,
    traffic: impl FnOnce() -> Result<T>,
) -> Result<(Tagged, T)> {
    let source = source.split('/').next().unwrap_or(source);
    let capture = lab.capture(rail, node, &format!("vlan and {kind} and ip src {source}"))?;
    let result = traffic()?;
    let frames = capture.stop()?;
    ensure!(
        !frames.is_empty(),
        "no tagged frame of {source} passed the cable of node{node}'s rail {rail}"
    );
    let mut seen = Tagged {
        frames: frames.len(),
        ..Tagged::default()
    };
    for frame in frames {
        seen.vlans.extend(frame.vlan);
        seen.priorities.extend(frame.priority);
        seen.dscps.extend(frame.dscp());
        seen.longest = seen.longest.max(frame.length);
    }
    Ok((seen, result))
}
