//! How fast networks are reserved that come at once, beside the same writes and as many bare ones to the same server.
//!
//! A bare write, of an object without rules that nobody watches, takes the server a small part of what a network's writes take it, so the
//! limit is that of the same objects from a client that does nothing else ([`crate::writes`]). Both are told.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::{
    api::{Server, Verb, Who, for_each},
    fill::{self, Place},
    operator::Operator,
    reserved::Reserved,
    verdict::Verdict,
};

/// Writes that a network needs beside the one that makes it: finalizer, claim template, slice, status. Its part of a ledger's write
/// and its event come on top.
const WRITES: usize = 4;
/// Of the rate of the same writes.
const SHARE: f64 = 0.5;
const LIMIT: Duration = Duration::from_mins(10);

/// Seconds of one round.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    bare: f64,
    pub(crate) networks: f64,
}

impl Took {
    /// In bare writes of the same moment: a server that holds more is slower for everybody.
    pub(crate) fn in_bare_writes(self) -> f64 {
        self.networks / self.bare
    }
}

/// Seconds for `networks` times the writes of a network, of objects of 1.2 kB that nobody watches.
pub(crate) async fn bare(verdict: &mut Verdict, server: &Server, networks: usize, round: &str) -> Result<f64> {
    fill::namespace(server, "bare").await?;
    let start = Instant::now();
    for_each("bare writes", networks * WRITES, async |number| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{}-{number}", round.replace(' ', "-"))},
            "data": {"text": "x".repeat(1000)}});
        let path = "/api/v1/namespaces/bare/configmaps";
        server.write(Who::Admin, Verb::Create, path, &body).await.map(drop)
    })
    .await?;
    let took = start.elapsed().as_secs_f64();
    verdict.note(format!("{} bare writes: {took:.1} s", networks * WRITES));
    Ok(took)
}

/// Seconds until as many networks as there are `places` are all Reserved, from the first creation on.
pub(crate) async fn networks(server: &Server, reserved: &Reserved, places: &[(Place, usize)]) -> Result<f64> {
    let before = reserved.count();
    let start = Instant::now();
    for_each("networks", places.len(), async |number| {
        let (place, pods) = &places[number];
        fill::network(server, place, *pods).await
    })
    .await?;
    reserved.wait_for(before + places.len(), LIMIT).await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Networks at once, and what the operator needed for them.
pub(crate) async fn measure(
    verdict: &mut Verdict,
    server: &Server,
    operator: &mut Operator,
    reserved: &Reserved,
    (places, floor): (&[(Place, usize)], f64),
    round: &str,
) -> Result<Took> {
    let bare = bare(verdict, server, places.len(), round).await?;
    let processor = operator.processor()?;
    let took = networks(server, reserved, places).await;
    operator.runs()?;
    let took = took?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let rate = places.len() as f64 / took;
    verdict.note(format!(
        "{} networks Reserved in {took:.1} s ({rate:.0} a second), {:.1} s of the operator's processor",
        places.len(),
        operator.processor()? - processor
    ));
    verdict.note(format!(
        "that is {:.2} of the rate of as many bare writes, which the same writes alone have {:.2} of",
        bare / took,
        bare / floor
    ));
    verdict.at_least(
        format!(
            "rate of {} networks at once, {round}, to the same writes alone",
            places.len()
        ),
        floor / took,
        SHARE,
        "times",
    );
    Ok(Took { bare, networks: took })
}

/// More networks, in namespaces of their own.
pub(crate) fn more(prefix: &str, count: usize) -> Vec<(Place, usize)> {
    let place = |number: usize| Place {
        namespace: format!("team-{:03}", number / 20),
        name: format!("{prefix}-{number:04}"),
    };
    (0..count).map(|number| (place(number), 2)).collect()
}
