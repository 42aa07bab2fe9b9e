//! The CNI protocol: what a runtime hands over and what it gets back. Nothing here knows what an attachment is.

mod config;
mod environment;
mod error;
mod result;

use std::io::Read;

pub use config::SUPPORTED_VERSIONS;
pub(crate) use config::{Config, ValidAttachment};
pub use environment::Environment;
pub(crate) use environment::{PodArguments, Verb, shorten};
pub use error::{CniError, Code};
pub(crate) use result::{InterfaceResult, extend_result, previous_result};
use serde_json::{Value, json};

use crate::{context::Context, verbs};

/// What the process prints and how it ends.
#[derive(Debug)]
pub struct Outcome {
    /// For standard output.
    pub stdout: String,
    /// Lines for standard error.
    pub log: Vec<String>,
    /// Whether the exit code is 0.
    pub success: bool,
}

/// Everything that a runtime says in one call, checked.
pub(crate) struct Request {
    pub(crate) container_id: String,
    /// Empty when the namespace is gone.
    pub(crate) netns: String,
    pub(crate) if_name: String,
    pub(crate) pod: PodArguments,
    pub(crate) config: Config,
}

/// Carries out one call.
pub fn run(context: &Context, environment: &Environment, stdin: &mut impl Read) -> Outcome {
    let Some(command) = &environment.command else {
        return Outcome {
            stdout: String::new(),
            log: vec![about()],
            success: true,
        };
    };
    let mut version = None;
    let answer = answer(context, environment, command, stdin, &mut version);
    let version = version.as_deref().unwrap_or(config::NEWEST_VERSION);
    let (stdout, success) = match answer {
        Ok(Some(value)) => (value.to_string() + "\n", true),
        Ok(None) => (String::new(), true),
        Err(error) => (error.to_json(version).to_string() + "\n", false),
    };
    Outcome {
        stdout,
        log: context.log.take(),
        success,
    }
}

fn answer(
    context: &Context,
    environment: &Environment,
    command: &str,
    stdin: &mut impl Read,
    version: &mut Option<String>,
) -> Result<Option<Value>, CniError> {
    let verb = environment.verb(command)?;
    if verb == Verb::Version {
        // It asks what is spoken, so it is answered whatever it says.
        return Ok(Some(versions(&config::read_stdin(stdin).unwrap_or_default())));
    }
    if verb == Verb::Status {
        // A runtime takes a failed STATUS for a node without network and then starts no pod at all, the railhead-agent
        // included. This plugin is one of a chain that all pods pass, and whatever is wrong with it concerns pods with
        // rails only: their ADD says so, and the agent in its conditions. So there is nothing that could be answered here.
        let _ = config::read_stdin(stdin);
        return Ok(None);
    }
    let config = Config::parse(&config::read_stdin(stdin)?)?;
    *version = Some(config.version.clone());
    config.check(verb)?;
    let request = Request {
        container_id: environment.container_id.clone().unwrap_or_default(),
        netns: environment.netns.clone().unwrap_or_default(),
        if_name: environment.if_name.clone().unwrap_or_default(),
        pod: PodArguments::parse(environment.arguments.as_deref().unwrap_or_default()),
        config,
    };
    match verb {
        Verb::Add => verbs::add(context, &request).map(Some),
        Verb::Del => verbs::del(context, &request).map(|()| None),
        Verb::Check => verbs::check(context, &request).map(|()| None),
        Verb::Gc => verbs::gc(context, &request).map(|()| None),
        Verb::Status | Verb::Version => Ok(None),
    }
}

/// The answer to VERSION repeats the version of the question, whatever it is.
fn versions(stdin: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(stdin)
        .ok()
        .and_then(|value| value.get("cniVersion")?.as_str().map(str::to_owned));
    json!({
        "cniVersion": asked.as_deref().unwrap_or(config::NEWEST_VERSION),
        "supportedVersions": SUPPORTED_VERSIONS,
    })
}

fn about() -> String {
    format!(
        "Railhead CNI binary {}; it is called by a container runtime with CNI_COMMAND set; CNI versions {}",
        env!("CARGO_PKG_VERSION"),
        SUPPORTED_VERSIONS.join(", ")
    )
}
