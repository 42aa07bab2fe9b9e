//! How long until somebody else leads, and who leads then.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    api::Server,
    fill::{self, Place},
    operator::{Installed, Operator},
    reserved::Reserved,
    rest,
    verdict::Verdict,
};

/// Seconds after a kill.
const KILLED: f64 = 20.0;
/// Seconds after an orderly end.
const ENDED: f64 = 2.0;
const LIMIT: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "failover";

pub(crate) async fn measure(
    verdict: &mut Verdict,
    server: &Server,
    installed: &Installed,
    reserved: &Reserved,
    leader: Operator,
) -> Result<Operator> {
    fill::namespace(server, NAMESPACE).await?;
    let mut second = installed.start("operator-b").await?;
    rest::memory(verdict, &mut second, "which follows")?;
    leader.kill()?;
    let took = next(server, reserved, "after-kill").await?;
    verdict.at_most(
        "a new network is Reserved after the leader was killed",
        took,
        KILLED,
        "s",
    );
    let third = installed.start("operator-c").await?;
    second.terminate()?;
    let took = next(server, reserved, "after-end").await?;
    verdict.at_most(
        "a new network is Reserved after the leader was asked to end",
        took,
        ENDED,
        "s",
    );
    Ok(third)
}

async fn next(server: &Server, reserved: &Reserved, name: &str) -> Result<f64> {
    let start = Instant::now();
    let network = Place {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
    };
    fill::network(server, &network, 2).await?;
    Ok(reserved.after(start, NAMESPACE, name, LIMIT).await?.as_secs_f64())
}
