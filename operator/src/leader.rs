//! One replica writes. The lease keeps the others from interfering; that no block is given away twice does not depend on it,
//! but on the ledger's resourceVersion.

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use thiserror::Error;
use tokio::sync::watch;

/// Why there is no lease.
#[derive(Debug, Error)]
pub(crate) enum LeaseError {
    #[error("cannot use lease {namespace}/{name}: may this account get, create and patch leases there?")]
    Use {
        namespace: String,
        name: String,
        source: Box<LeaseManagerError>,
    },
    #[error("lease {name} was lost: this replica must not write any more and ends")]
    Lost { name: String },
}

/// The lease.
pub(crate) struct Lease {
    name: String,
    held: watch::Receiver<bool>,
}

/// Starts to apply for the lease.
pub(crate) async fn apply(client: Client, namespace: &str, name: &str, identity: &str) -> Result<Lease, LeaseError> {
    let manager = LeaseManagerBuilder::new(client, name)
        .with_namespace(namespace)
        .with_identity(identity)
        .with_duration(15)
        .with_grace(5)
        .build()
        .await
        .map_err(|source| LeaseError::Use {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        })?;
    let (held, _task) = manager.watch().await;
    Ok(Lease {
        name: name.to_owned(),
        held,
    })
}

impl Lease {
    /// Waits until this replica leads.
    pub(crate) async fn gained(&mut self) -> Result<(), LeaseError> {
        self.wait(true).await
    }

    /// Waits until it does not any more; always an error.
    pub(crate) async fn lost(&mut self) -> LeaseError {
        match self.wait(false).await {
            Ok(()) => LeaseError::Lost {
                name: self.name.clone(),
            },
            Err(error) => error,
        }
    }

    async fn wait(&mut self, state: bool) -> Result<(), LeaseError> {
        let lost = || LeaseError::Lost {
            name: self.name.clone(),
        };
        self.held
            .wait_for(|held| *held == state)
            .await
            .map(drop)
            .map_err(|_| lost())
    }
}
