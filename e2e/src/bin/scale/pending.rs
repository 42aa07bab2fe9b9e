//! A thousand pods that wait for room while what is free changes all the time: how many events do they get?

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    api::{Server, Verb, Who, for_each},
    fill::{self, Place},
    reserved::Reserved,
    shapes,
    verdict::Verdict,
};

const NAMESPACE: &str = "pending";
const NETWORK: &str = "large";
/// Events of a pod in an hour.
const EVENTS: f64 = 9.0;
/// How often a port changes.
const CHANGE: Duration = Duration::from_millis(200);

pub(crate) async fn measure(
    verdict: &mut Verdict,
    server: &Server,
    reserved: &Reserved,
    (nodes, pods): (usize, usize),
    time: Duration,
) -> Result<()> {
    fill::namespace(server, NAMESPACE).await?;
    let network = Place {
        namespace: NAMESPACE.to_owned(),
        name: NETWORK.to_owned(),
    };
    // More than a port has left beside one pod.
    let mut body = shapes::network(NAMESPACE, NETWORK, pods);
    body["spec"]["bandwidthPerRail"] = json!("380G");
    let path = format!("/apis/railhead.dev/v1alpha1/namespaces/{NAMESPACE}/trainingnetworks");
    server.write(Who::Admin, Verb::Create, &path, &body).await?;
    reserved
        .after(
            Instant::now(),
            &network.namespace,
            &network.name,
            Duration::from_mins(1),
        )
        .await?;
    let of_pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    for_each("pending pods", pods, async |index| {
        let body = shapes::pod(NAMESPACE, NETWORK, index, None);
        server.write(Who::Admin, Verb::Create, &of_pods, &body).await?;
        let status = format!("{of_pods}/{}/status", shapes::pod_name(NETWORK, index));
        server
            .write(Who::Admin, Verb::Merge, &status, &shapes::unschedulable())
            .await
            .map(drop)
    })
    .await?;
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < time {
        // Each time another port, which has another speed than before.
        fill::speed(
            server,
            &shapes::node_name(number % nodes),
            &format!("{}G", 390 + number % 10),
        )
        .await?;
        number += 1;
        tokio::time::sleep(CHANGE).await;
    }
    let events = server
        .get(&format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"))
        .await?;
    let mut of_pod: HashMap<&str, u32> = HashMap::new();
    for event in events["items"].as_array().into_iter().flatten() {
        if let Value::String(name) = &event["regarding"]["name"] {
            *of_pod.entry(name).or_default() += 1;
        }
    }
    let most = of_pod.values().max().copied().unwrap_or(0);
    let all: u32 = of_pod.values().sum();
    verdict.note(format!(
        "{all} events for {pods} pending pods in {} s, {number} changes of what is free",
        time.as_secs()
    ));
    verdict.at_most(
        format!("events of one pending pod in {} s", time.as_secs()),
        f64::from(most),
        EVENTS,
        "events",
    );
    verdict.at_least(
        "pods that were told why they wait",
        f64::from(u32::try_from(of_pod.len())?),
        1.0,
        "pods",
    );
    Ok(())
}
