//! The node agent: the one part of Railhead that runs on every node of a fabric.
//!
//! It knows the node's ports and their functions ([`inventory`]), offers them to the scheduler ([`publish`]), turns a claim
//! into a plan for the CNI binary and gives it back ([`claims`]), keeps the binary in the CNI chain ([`chain`]), and reports ([`node`], [`attachments`]). It never wires a pod: that is the binary's, which works while the agent
//! is down. What the agent remembers is on disk ([`claims`], `railhead-vf`) and in the API, so it may be killed anywhere.

pub mod agent;
pub mod args;
pub mod attachments;
pub mod chain;
mod claim_status;
pub mod claims;
pub mod conditions;
pub mod drift;
pub mod events;
pub mod http;
pub mod inventory;
pub mod kubelet;
mod limits;
pub mod metrics;
pub mod node;
pub mod proto;
pub mod publish;
pub mod run;
pub mod unix_channel;
