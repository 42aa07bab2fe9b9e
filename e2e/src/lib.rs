//! End-to-end tests of Railhead, and the lab they run in.

pub mod lab;
