//! End-to-end tests of Railhead, and the lab they run in.
//!
//! `lab` is the test bed; `cluster` talks to its Kubernetes; `installation` puts Railhead into it; `evidence` asks pods, kernel,
//! wire and API server what is really there; `report` makes the demo's summary of that; `limits` says what Railhead may cost.

pub mod cluster;
pub mod evidence;
pub mod installation;
pub mod lab;
pub mod limits;
pub mod report;
