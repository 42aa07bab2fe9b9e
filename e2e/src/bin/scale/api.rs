//! The API server as kubelets, agents and Kubernetes' own controllers use it: JSON, many requests at a time.

use std::{
    cell::Cell,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, StatusCode};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use railhead_e2e::lab::progress::say;
use serde_json::Value;

/// How many requests wait for an answer at a time.
pub(crate) const AT_ONCE: usize = 32;
/// How often a request is tried that the server had no time for.
const TRIES: u32 = 5;

/// How often it is said how far something is.
const TELL: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// A member of system:masters.
    Admin,
    /// The agent of a node, by its token.
    Agent(&'a str),
    /// What makes claims from templates.
    ClaimController,
    /// The operator's account.
    Operator,
}

/// How a body is meant.
#[derive(Clone, Copy)]
pub(crate) enum Verb {
    Create,
    Merge,
    /// Server-side apply.
    Apply,
    /// With options for a body, which may be empty.
    Delete,
}

/// The administrator's way to the API server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) client: Client,
}

impl Server {
    pub(crate) async fn connect(kubeconfig: &Path) -> Result<Self> {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        config.read_timeout = Some(Duration::from_mins(5));
        let client = Client::try_from(config)?;
        Ok(Self { client })
    }

    /// One request, and the object that comes back.
    pub(crate) async fn write(&self, who: Who<'_>, verb: Verb, path: &str, body: &Value) -> Result<Value> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.client.request(request(who, verb, path, body)?).await {
                Ok(answer) => return Ok(answer),
                Err(kube::Error::Api(status)) if tried < TRIES && (status.code == 429 || status.code >= 500) => {
                    tokio::time::sleep(Duration::from_millis(200 << tried)).await;
                }
                Err(error) => return Err(error).with_context(|| path.to_owned()),
            }
        }
    }

    /// Creates what may be there already.
    pub(crate) async fn create(&self, path: &str, body: &Value) -> Result<()> {
        match self.write(Who::Admin, Verb::Create, path, body).await {
            Err(error) if is_code(&error, StatusCode::CONFLICT) => Ok(()),
            result => result.map(drop),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.client.request(Request::get(path).body(Vec::new())?).await?)
    }

    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        Ok(self.client.request_text(Request::get(path).body(Vec::new())?).await?)
    }
}

fn is_code(error: &anyhow::Error, code: StatusCode) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == code.as_u16())
}

fn request(who: Who<'_>, verb: Verb, path: &str, body: &Value) -> Result<Request<Vec<u8>>> {
    let (method, kind) = match verb {
        Verb::Create => (Method::POST, "application/json"),
        Verb::Merge => (Method::PATCH, "application/merge-patch+json"),
        Verb::Apply => (Method::PATCH, "application/apply-patch+yaml"),
        Verb::Delete => (Method::DELETE, "application/json"),
    };
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let accounts = "system:serviceaccounts";
    let request = match who {
        Who::Admin => request,
        Who::Agent(node) => request
            .header(
                "impersonate-user",
                "system:serviceaccount:railhead-system:railhead-agent",
            )
            .header("impersonate-group", accounts)
            .header("impersonate-group", "system:authenticated")
            .header("impersonate-extra-authentication.kubernetes.io%2fnode-name", node),
        Who::Operator => request
            .header(
                "impersonate-user",
                "system:serviceaccount:railhead-system:railhead-operator",
            )
            .header("impersonate-group", accounts)
            .header("impersonate-group", "system:authenticated"),
        Who::ClaimController => request
            .header(
                "impersonate-user",
                "system:serviceaccount:kube-system:resource-claim-controller",
            )
            .header("impersonate-group", accounts)
            .header("impersonate-group", "system:authenticated"),
    };
    Ok(request.body(serde_json::to_vec(body)?)?)
}

/// Does `work` for each number below `count`, many at a time, and says how far it is.
pub(crate) async fn for_each(what: &str, count: usize, work: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    let done = Cell::new(0);
    let told = Cell::new(Instant::now());
    let one = async |number| {
        work(number).await?;
        done.set(done.get() + 1);
        if told.get().elapsed() > TELL {
            told.set(Instant::now());
            say(format!("  {what}: {} of {count}", done.get()));
        }
        anyhow::Ok(())
    };
    stream::iter(0..count)
        .map(&one)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}
