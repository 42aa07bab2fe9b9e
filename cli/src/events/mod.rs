//! `events`: what happened to something, the oldest first.

use std::collections::BTreeSet;

use clap::Subcommand;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Asked,
    cluster::{Cluster, Event, Kind, ReadError, Wanted},
    exit::Exit,
    output::{Cell, Page, Report, age},
};

/// Of what.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    /// A TrainingNetwork, its slice, its claim template, its attachments and its pods.
    #[command(visible_aliases = ["trainingnetwork", "tnet"])]
    Network {
        /// Its name.
        name: String,
    },
}

/// Reads, reports and shows.
pub(crate) async fn run(asked: &Asked, Args::Network { name }: &Args) -> Result<Exit, ReadError> {
    let wanted = Wanted::all_of([Kind::Networks, Kind::Events])
        .and_if_allowed([Kind::Slices, Kind::Attachments, Kind::Pods])
        .of_network(asked.name(name)?);
    let cluster = asked.read(wanted).await?;
    Ok(asked.show(&cluster, &of_network(&cluster, name)))
}

/// What happened to a network.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventsReport {
    /// Namespace and name of the network.
    network: String,
    /// The oldest first.
    events: Vec<EventLine>,
}

/// One event.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EventLine {
    /// When it was last so.
    last: Option<String>,
    /// How long ago that was, as people write it.
    age: String,
    /// How often.
    count: u32,
    /// Whether it is a warning.
    warning: bool,
    /// Why, in one word.
    reason: String,
    /// What it is about, as in `Pod team-a/llama-5`.
    about: String,
    /// What is said.
    message: String,
    /// Who says it.
    reporter: String,
}
