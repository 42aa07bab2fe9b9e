//! What is fuzzed, and what must hold whatever comes in: a module per crate, since the unit tier runs each with its crate.

pub mod agent;
pub mod binary;
pub mod host;
pub mod vf;
