//! A short soak; `make soak` is the long one.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod host;

use std::path::Path;

use host::on_a_host;
use railhead_standin::soak::{Plan, run};

#[test]
fn attachments_at_once_with_random_kills_leak_nothing_and_share_nothing() {
    on_a_host(|| {
        let plan = Plan {
            attachments: 200,
            at_once: 16,
            seed: None,
        };
        run(Path::new(env!("CARGO_BIN_EXE_standin")), &plan).unwrap();
    });
}
