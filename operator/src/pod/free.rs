//! What is left on all ports at one moment, and what that means for pods that found no node.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use railhead_crds::NetworkSlice;
use railhead_planner::bandwidth::{self, PortBandwidth};

/// How many ports a message names.
const SHOWN: usize = 8;

/// What all pods of a network ask: the fabric, the rails' ids, and Mbit/s on each.
type Question = (String, Vec<u32>, u64);

/// The ports by node, as a port or a claim last changed them, and the answers that were given from them.
#[derive(Debug, Default)]
pub(crate) struct Free {
    ports: Vec<PortBandwidth>,
    /// Found once for all pods that ask the same: with thousands of ports and of pods each search counts.
    answers: Mutex<HashMap<Question, Option<String>>>,
}

impl Free {
    pub(crate) fn new(ports: Vec<PortBandwidth>) -> Self {
        Self {
            ports,
            answers: Mutex::default(),
        }
    }

    /// The ports by node and rail.
    pub(crate) fn ports(&self) -> &[PortBandwidth] {
        &self.ports
    }

    /// Why no node has room for a pod of the slice, in words; `None` if one has.
    pub(crate) fn shortage(&self, slice: &NetworkSlice) -> Option<String> {
        let rails: Vec<u32> = slice.spec.rails.iter().map(|rail| rail.id).collect();
        let question = (slice.spec.fabric.name.clone(), rails, slice.spec.qos.guaranteed.mbps());
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .entry(question)
            .or_insert_with(|| found(&self.ports, slice))
            .clone()
    }

    /// How many different questions were answered.
    #[cfg(test)]
    pub(crate) fn searches(&self) -> usize {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn found(ports: &[PortBandwidth], slice: &NetworkSlice) -> Option<String> {
    let (fabric, asked) = (&slice.spec.fabric.name, slice.spec.qos.guaranteed);
    let rails: Vec<u32> = slice.spec.rails.iter().map(|rail| rail.id).collect();
    let shortage = bandwidth::shortage(ports, fabric, &rails, asked, SHOWN)?;
    let rail = slice.spec.rails.iter().find(|rail| rail.id == shortage.rail)?;
    if shortage.count == 0 {
        return Some(format!(
            "no node offers {} of Fabric {fabric}: see `kubectl get nodenet` for what the agents found",
            rail.name
        ));
    }
    let free: Vec<String> = shortage
        .ports
        .iter()
        .map(|port| {
            let functions = if port.vfs_free == 0 {
                ", no virtual function left"
            } else {
                ""
            };
            format!("{} {} of {}{functions}", port.node, port.free(), port.capacity)
        })
        .collect();
    let mut free = free.join(", ");
    if let Some(more) = shortage.count.checked_sub(SHOWN).filter(|more| *more > 0) {
        free = format!("{free} and {more} more");
    }
    Some(format!(
        "{} asks {asked}; free: {free}; waits until other pods end; a network with a smaller spec.bandwidthPerRail would fit sooner",
        rail.name
    ))
}
