//! End-to-end tests of Railhead, and the lab they run in.
//!
//! `lab` is the test bed; `cluster` talks to its Kubernetes; `control_plane` has Railhead's operator beside an API server without
//! nodes, `soak` lets everybody change everything there at random; `installation` puts Railhead into it; `evidence` asks pods, kernel,
//! wire and API server what is really there; `report` makes the demo's summary of that; `limits` says what Railhead may cost.

pub mod cluster;
pub mod control_plane;
pub mod evidence;
pub mod installation;
pub mod lab;
pub mod limits;
pub mod report;
pub mod soak;
