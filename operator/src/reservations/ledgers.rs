//! How ledgers are read and written.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams, Preconditions},
    core::DeserializeGuard,
};
use railhead_crds::{Fabric, FabricLedger, FabricLedgerSpec};
use railhead_planner::ledger;
use tracing::{info, warn};

use super::{ATTEMPTS, LedgerError, Worker};
use crate::write;

/// A ledger of those that there are.
pub(super) enum Listed {
    Ledger(Box<FabricLedger>),
    /// One that this program cannot read; a later release has written it, or somebody by hand.
    Unreadable {
        name: String,
        why: String,
    },
}

fn nonsense(ledger: &FabricLedger) -> String {
    format!(
        "its sequence is {}, from which it cannot count on",
        ledger.spec.sequence
    )
}

impl Worker {
    /// Writes with the resourceVersion that was read, and returns what is there then; nothing if somebody else came first.
    pub(super) async fn replace(
        &self,
        ledger: &FabricLedger,
        attempt: u32,
    ) -> Result<Option<FabricLedger>, LedgerError> {
        let name = ledger.name_any();
        let parameters = PostParams {
            field_manager: Some("railhead/ledger".to_owned()),
            ..PostParams::default()
        };
        match self.ledgers.replace(&name, &parameters, ledger).await {
            Ok(written) => {
                self.metrics.ledger_written();
                self.note_write(&name, ledger, &written);
                self.counted(&written);
                Ok(Some(written))
            }
            Err(error) if write::is_conflict(&error) || write::is_not_found(&error) => {
                self.metrics.ledger_conflict();
                tokio::time::sleep(Duration::from_millis(u64::from(5 * attempt.min(20)))).await;
                Ok(None)
            }
            Err(source) => Err(LedgerError::Write {
                name,
                source: Arc::new(source),
            }),
        }
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<FabricLedger>, LedgerError> {
        let found = self.ledgers.get_opt(name).await.map_err(|source| match source {
            kube::Error::SerdeError(why) => LedgerError::Unreadable {
                name: name.to_owned(),
                why: why.to_string(),
            },
            source => LedgerError::Read {
                name: name.to_owned(),
                source: Arc::new(source),
            },
        })?;
        match found {
            Some(ledger) if !ledger::can_count(&ledger.spec) => Err(LedgerError::Unreadable {
                name: name.to_owned(),
                why: nonsense(&ledger),
            }),
            found => Ok(found),
        }
    }

    /// All ledgers, whatever one of them is like.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, LedgerError> {
        let guarded: Api<DeserializeGuard<FabricLedger>> = Api::all(self.client.clone());
        let known = guarded
            .list(&ListParams::default())
            .await
            .map_err(|source| LedgerError::Read {
                name: "(all)".to_owned(),
                source: Arc::new(source),
            })?;
        let listed = |guard: DeserializeGuard<FabricLedger>| match guard.0 {
            Ok(ledger) if !ledger::can_count(&ledger.spec) => Listed::Unreadable {
                name: ledger.name_any(),
                why: nonsense(&ledger),
            },
            Ok(ledger) => Listed::Ledger(Box::new(ledger)),
            Err(invalid) => Listed::Unreadable {
                name: invalid.metadata.name.unwrap_or_default(),
                why: invalid.error,
            },
        };
        Ok(known.items.into_iter().map(listed).collect())
    }

    /// Which of these networks a ledger that cannot be read speaks of.
    pub(super) async fn spoken_of<'a>(&self, name: &str, uids: &[&'a str]) -> Result<Vec<&'a str>, LedgerError> {
        let kind = ApiResource::erase::<FabricLedger>(&());
        let raw: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let found = raw.get_opt(name).await.map_err(|source| LedgerError::Read {
            name: name.to_owned(),
            source: Arc::new(source),
        })?;
        let mut uids = uids.to_vec();
        uids.retain(|uid| found.as_ref().is_some_and(|found| ledger::speaks_of(&found.data, uid)));
        Ok(uids)
    }

    /// The ledger of a fabric, made if there is none. Nothing where the fabric is gone or going, which needs none.
    pub(super) async fn read_or_create(&self, fabric: &str) -> Result<Option<FabricLedger>, LedgerError> {
        for _ in 0..ATTEMPTS {
            if let Some(ledger) = self.read(fabric).await? {
                return Ok(Some(ledger));
            }
            if self
                .fabric(fabric)
                .await?
                .is_none_or(|found| found.deletion_timestamp.is_some())
            {
                return Ok(None);
            }
            let spec = self.made_of_slices(fabric).await?;
            let created = FabricLedger::new(fabric, spec);
            match self.ledgers.create(&PostParams::default(), &created).await {
                Ok(ledger) => return Ok(Some(ledger)),
                Err(error) if write::already_exists(&error) => self.metrics.ledger_conflict(),
                Err(source) => {
                    return Err(LedgerError::Write {
                        name: fabric.to_owned(),
                        source: Arc::new(source),
                    });
                }
            }
        }
        Err(LedgerError::Contended {
            name: fabric.to_owned(),
        })
    }

    async fn made_of_slices(&self, fabric: &str) -> Result<FabricLedgerSpec, LedgerError> {
        let slices = self.list_slices(fabric).await?;
        let spec = super::lost::from_slices(fabric, &slices);
        if !spec.entries.is_empty() {
            warn!(
                fabric,
                entries = spec.entries.len(),
                "the ledger was gone and is made again from the slices"
            );
        }
        Ok(spec)
    }

    async fn fabric(&self, name: &str) -> Result<Option<ObjectMeta>, LedgerError> {
        let fabrics: Api<Fabric> = Api::all(self.client.clone());
        let found = fabrics.get_metadata_opt(name).await;
        found
            .map(|found| found.map(|found| found.metadata))
            .map_err(|source| LedgerError::ReadFabric {
                name: name.to_owned(),
                source: Arc::new(source),
            })
    }

    /// Takes a ledger away in which nothing is held and nothing rests any more, and whose fabric is gone.
    pub(super) async fn drop_if_nobodys(&self, ledger: &FabricLedger) -> Result<(), LedgerError> {
        let name = ledger.name_any();
        if !ledger.spec.entries.iter().all(ledger::rests)
            || ledger::any_rests(&ledger.spec, Timestamp::now())
            || ledger::check_version(&ledger.spec).is_err()
            || self.fabric(&name).await?.is_some()
        {
            return Ok(());
        }
        let as_read = DeleteParams::default().preconditions(Preconditions {
            uid: ledger.uid(),
            resource_version: ledger.resource_version(),
        });
        match self.ledgers.delete(&name, &as_read).await {
            Ok(_) => info!(
                fabric = name,
                "nobody holds anything of a fabric that is gone: its ledger goes"
            ),
            Err(error) if write::is_not_found(&error) || write::is_conflict(&error) => {}
            Err(source) => {
                return Err(LedgerError::Write {
                    name,
                    source: Arc::new(source),
                });
            }
        }
        Ok(())
    }
}
