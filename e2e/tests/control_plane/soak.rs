//! The soak of `make soak`, for a few seconds.

use anyhow::Result;
use railhead_e2e::lab::progress::say;
use railhead_e2e::soak::Soak;

use crate::World;
use crate::operators::{restart_leader, stop_leader};

pub(crate) fn two_leaders_that_are_cut_off_delayed_and_killed_lose_and_double_nothing(world: &World) -> Result<()> {
    // The soak has operators of its own, and nobody beside them who sets right what they leave.
    stop_leader();
    let soak = Soak {
        seed: 20_261_127,
        operations: 400,
        port: 18100,
    };
    let report = soak.run(&world.cluster, &world.binary, say);
    restart_leader(world)?;
    report.map(|_| ())
}
