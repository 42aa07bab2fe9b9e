//! The cluster's CustomResourceDefinitions beside those of this release: Helm never updates them. Under older ones a ledger would be
//! written and the slice that belongs to it refused, or stored without what a later field says.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt as _};
use railhead_crds::{
    reasons::Reason,
    schema::{self, Difference},
};
use railhead_service::chain;
use tracing::{info, warn};

use crate::{changes::Changes, conditions::Said, network::listed, observe::Change, world::World};

/// How often they are looked at.
const CALM: Duration = Duration::from_mins(5);
/// While they are older, somebody is about to bring them up to date; and what could not be read may be older.
const EAGER: Duration = Duration::from_secs(10);
/// Type of the Fabric's condition.
pub(crate) const SCHEMAS_CURRENT: &str = "SchemasCurrent";

/// What was found last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Found {
    /// Nobody has looked yet, or it could not be read.
    #[default]
    Unknown,
    Current,
    Newer(String),
    Older(String),
}

/// How the definitions are, for all who ask.
#[derive(Clone, Default)]
pub(crate) struct Schemas(Arc<RwLock<Found>>);

impl Schemas {
    /// Why nothing new is reserved, if that is so.
    pub(crate) fn older(&self) -> Option<String> {
        match self.found() {
            Found::Older(why) => Some(why),
            _ => None,
        }
    }

    /// Whether they were read and are as new as this release.
    fn is_settled(&self) -> bool {
        matches!(self.found(), Found::Current | Found::Newer(_))
    }

    /// The Fabrics' condition.
    pub(crate) fn said(&self) -> Said {
        match self.found() {
            Found::Older(why) => Said::no(SCHEMAS_CURRENT, Reason::SchemaOlder, why),
            Found::Newer(why) => Said::yes(SCHEMAS_CURRENT, Reason::SchemaNewer, why),
            Found::Current => Said::yes(
                SCHEMAS_CURRENT,
                Reason::Current,
                "the definitions are those of this release",
            ),
            Found::Unknown => Said::yes(
                SCHEMAS_CURRENT,
                Reason::NotRead,
                "the definitions could not be compared; see the operator's log",
            ),
        }
    }

    fn found(&self) -> Found {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what was found; tells whether it was otherwise before.
    fn note(&self, found: Found) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = *known != found;
        *known = found;
        is_news
    }
}

/// Looks at once, before anything is reserved.
pub(crate) async fn look(client: &Client, schemas: &Schemas) -> bool {
    match compare(client).await {
        Ok(differences) => {
            let found = judge(&differences);
            let is_news = schemas.note(found.clone());
            match found {
                Found::Older(why) if is_news => warn!("{why}"),
                Found::Newer(why) if is_news => info!("{why}"),
                _ => {}
            }
            is_news
        }
        Err(error) => {
            warn!(error = chain(&error), "the CustomResourceDefinitions could not be read");
            false
        }
    }
}

/// Looks again and again.
pub(crate) async fn run(client: Client, world: World, changes: Changes) {
    loop {
        let pause = if world.schemas.is_settled() { CALM } else { EAGER };
        tokio::time::sleep(pause).await;
        if look(&client, &world.schemas).await {
            changes.tell(Change::Schemas);
        }
    }
}

/// By name of the definition.
async fn compare(client: &Client) -> Result<Vec<(String, Difference)>, kube::Error> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut differences = Vec::new();
    for own in railhead_crds::all() {
        let name = own.name_any();
        let installed = api.get_opt(&name).await?;
        differences.push((name, schema::compare(installed.as_ref(), &own)));
    }
    Ok(differences)
}

fn judge(differences: &[(String, Difference)]) -> Found {
    let words = |fields: fn(&Difference) -> &Vec<String>| {
        let named = differences
            .iter()
            .filter(|(_, difference)| !fields(difference).is_empty());
        let named: Vec<String> = named
            .map(|(name, difference)| format!("{name} ({})", listed(fields(difference))))
            .collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    // What it lacks counts: a field that a later release took away is in older ones only.
    if let Some(lacking) = words(|difference| &difference.lacks) {
        return Found::Older(format!(
            "the cluster's CustomResourceDefinitions are older than this operator, and lack fields: {lacking}; nothing new is reserved until they are up to date: kubectl apply --server-side --force-conflicts -f charts/railhead/crds, from the chart of this release"
        ));
    }
    match words(|difference| &difference.adds) {
        Some(more) => Found::Newer(format!(
            "the cluster's CustomResourceDefinitions are newer than this operator, which does not know their fields: {more}; bring it to their release"
        )),
        None => Found::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(lacks: &[&str], adds: &[&str]) -> (String, Difference) {
        let owned = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect();
        let difference = Difference {
            lacks: owned(lacks),
            adds: owned(adds),
        };
        ("networkslices.railhead.dev".to_owned(), difference)
    }

    #[test]
    fn definitions_that_lack_a_field_are_older_with_the_command_that_mends_it() {
        let Found::Older(why) = judge(&[difference(&[], &[]), difference(&["spec.capacity"], &["spec.old"])]) else {
            panic!("not older")
        };
        for words in [
            "networkslices.railhead.dev (spec.capacity)",
            "kubectl apply --server-side",
            "charts/railhead/crds",
        ] {
            assert!(why.contains(words), "{words:?} is missing in {why}");
        }
        assert!(matches!(judge(&[difference(&[], &["spec.groups"])]), Found::Newer(_)));
        assert_eq!(judge(&[difference(&[], &[])]), Found::Current);
    }

    #[test]
    fn only_older_definitions_end_reservations_and_all_else_is_said() {
        let newer = judge(&[difference(&[], &["spec.groups"])]);
        let older = judge(&[difference(&["spec.capacity"], &[])]);
        for (found, holds, reason) in [
            (Found::Unknown, true, Reason::NotRead),
            (Found::Current, true, Reason::Current),
            (newer, true, Reason::SchemaNewer),
            (older, false, Reason::SchemaOlder),
        ] {
            let schemas = Schemas::default();
            schemas.note(found);
            let said = schemas.said();
            assert_eq!(said.status, holds, "{said:?}");
            assert!(said.reason == reason, "{said:?}");
            assert_eq!(schemas.older().is_some(), !holds);
        }
    }
}
