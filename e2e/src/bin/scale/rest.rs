//! The operator while nothing happens but heartbeats: memory, processor, writes.

use std::time::{Duration, Instant};

use anyhow::Result;
use railhead_e2e::lab::progress::say;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    api::{Server, Verb, Who},
    operator::Operator,
    shapes,
    verdict::Verdict,
};

/// How often a kubelet writes its Node's status.
const HEARTBEAT: Duration = Duration::from_mins(5);
/// Resident memory of the operator, MB.
const RESIDENT: f64 = 250.0;
/// Percent of a core.
const PROCESSOR: f64 = 5.0;

/// Writes the heartbeats of so many nodes, for ever.
pub(crate) async fn heartbeats(server: Server, nodes: usize) {
    let mut tick = tokio::time::interval(HEARTBEAT / u32::try_from(nodes).unwrap_or(u32::MAX));
    for number in (0..nodes).cycle() {
        tick.tick().await;
        let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let body = json!({"status": {"conditions": shapes::heartbeat(&now)}});
        let path = format!("/api/v1/nodes/{}/status", shapes::node_name(number));
        if let Err(error) = server.write(Who::Admin, Verb::Merge, &path, &body).await {
            say(format!("a heartbeat was not written: {error:#}"));
        }
    }
}

pub(crate) fn memory(verdict: &mut Verdict, operator: &mut Operator, when: &str) -> Result<()> {
    operator.runs()?;
    let (now, most) = operator.resident()?;
    verdict.at_most(
        format!("resident memory of {}, {when}", operator.name),
        now,
        RESIDENT,
        "MB",
    );
    verdict.at_most(format!("the most that it ever was, {when}"), most, RESIDENT, "MB");
    Ok(())
}

pub(crate) async fn measure(
    verdict: &mut Verdict,
    server: &Server,
    operator: &mut Operator,
    rest: Duration,
) -> Result<()> {
    let writes = writes(server).await?;
    let (start, processor) = (Instant::now(), operator.processor()?);
    while start.elapsed() < rest {
        tokio::time::sleep(Duration::from_secs(30).min(rest.saturating_sub(start.elapsed()))).await;
        say(format!("  at rest for {:.0} s", start.elapsed().as_secs_f64()));
    }
    operator.runs()?;
    let used = (operator.processor()? - processor) / start.elapsed().as_secs_f64();
    verdict.at_most("processor with heartbeats", used * 100.0, PROCESSOR, "% of a core");
    let more = self::writes(server).await? - writes;
    verdict.at_most(format!("writes in {} s of rest", rest.as_secs()), more, 0.0, "writes");
    Ok(())
}

/// How many writes the API server has served of what the operator writes: Railhead's objects, claim templates, pods and events.
/// Its lease is not among them.
async fn writes(server: &Server) -> Result<f64> {
    let metrics = server.text("/metrics").await?;
    let is_write = |line: &&str| {
        ["POST", "PUT", "PATCH", "APPLY", "DELETE"]
            .iter()
            .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    };
    let is_ours = |line: &&str| {
        line.contains("group=\"railhead.dev\"")
            || ["resourceclaimtemplates", "pods", "events"]
                .iter()
                .any(|resource| line.contains(&format!("resource=\"{resource}\"")))
    };
    Ok(metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"))
        .filter(is_write)
        .filter(is_ours)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}
