//! Why nothing can be said: each in one sentence, with the next step.

use std::{fmt, path::PathBuf};

use thiserror::Error;

use crate::exit::Exit;

/// The ClusterRole of the chart with the rights that all commands together need.
pub(crate) const CLUSTER_ROLE: &str = "railhead-plugin";
/// What brings the definitions of a release.
const APPLY_CRDS: &str =
    "kubectl apply --server-side --force-conflicts -f charts/railhead/crds, from the chart of the operator's release";

/// Why a command has no report.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("cannot start a runtime")]
    Runtime(#[source] std::io::Error),
    #[error("no cluster to ask ({why}): name one with --kubeconfig or --context, or read saved objects with --from")]
    NoConfig { why: String },
    #[error(
        "{server} does not answer ({why}): is the cluster up, and is it the one you mean (--context, --kubeconfig)?"
    )]
    NotReached { server: String, why: String },
    #[error("{server} does not know who you are ({why}): log in again, or name another user with --context")]
    Unknown { server: String, why: String },
    #[error("no right to {}: ask for the ClusterRole {CLUSTER_ROLE}", and(rights))]
    Forbidden { rights: Vec<Right> },
    #[error(
        "Railhead is not installed on this cluster: it has none of Railhead's CustomResourceDefinitions ({kind}, for one); is it the cluster that you mean?"
    )]
    NotInstalled { kind: String },
    #[error("{}: {APPLY_CRDS}", lacks(kinds))]
    Lacks { kinds: Vec<String> },
    #[error("{what} cannot be read: {why}")]
    Refused { what: String, why: String },
    #[error("{} cannot be read: {why}", path.display())]
    Saved { path: PathBuf, why: String },
    #[error("{}", not_found(kind, namespace.as_deref(), name, similar.as_deref()))]
    NotFound {
        kind: &'static str,
        namespace: Option<String>,
        name: String,
        similar: Option<String>,
    },
    #[error("{0}")]
    Usage(String),
}

impl ReadError {
    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Saved { .. } | Self::NotFound { .. } | Self::Usage(_) => Exit::Usage,
            _ => Exit::CannotTell,
        }
    }
}

/// A right that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    pub(crate) verb: &'static str,
    /// With its group, as in `fabrics.railhead.dev`.
    pub(crate) resource: String,
    /// None for the whole cluster.
    pub(crate) namespace: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in the whole cluster"),
        }
    }
}

/// What is said of kinds that the cluster does not have.
pub(crate) fn lacks(kinds: &[String]) -> String {
    format!(
        "the cluster's CustomResourceDefinitions are older than this plugin, or half of them is missing: it has no {}",
        and(kinds)
    )
}

fn not_found(kind: &str, namespace: Option<&str>, name: &str, similar: Option<&str>) -> String {
    let place = namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
    let advice = similar.map_or_else(String::new, |similar| format!("; did you mean {similar}?"));
    format!("there is no {kind} {name}{place}{advice}")
}

/// `a, b and c`.
pub(crate) fn and<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [only] => only.to_string(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(T::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}
