//! Operators that all believe they lead: each has a lease of its own, as after a network partition, and is started again whenever
//! it ends.

use std::{
    fs::{File, OpenOptions},
    net::SocketAddr,
    path::PathBuf,
    process::Child,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use serde_json::json;

use super::{api::Api, way::Way};
use crate::control_plane::{
    cluster::{Cluster, SYSTEM},
    operator,
};

/// How a program is started and where it writes.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    binary: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    http: SocketAddr,
    rest: u64,
}

/// One of the operators.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) way: Arc<Way>,
    program: Program,
    child: Mutex<Option<Child>>,
    pub(super) starts: AtomicU64,
    ends: AtomicBool,
}

impl Rival {
    /// Starts one, with the rights of `token`, on a way of its own to `gate`.
    pub(super) fn start(
        cluster: &Cluster,
        binary: &std::path::Path,
        (gate, token, admin): (SocketAddr, &str, Api),
        (name, port, rest): (&str, u16, Duration),
    ) -> Result<Arc<Self>> {
        let way = Way::open(gate)?;
        let kubeconfig = cluster.identity(
            name,
            &json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "way",
                "clusters": [{"name": "way", "cluster": {"server": format!("http://{}", way.address)}}],
                "users": [{"name": "operator", "user": {"token": token}}],
                "contexts": [{"name": "way", "context": {"cluster": "way", "user": "operator"}}],
            }),
        )?;
        let program = Program {
            name: name.to_owned(),
            binary: binary.to_owned(),
            kubeconfig: kubeconfig.kubeconfig,
            log: cluster.lab.log(name),
            http: SocketAddr::from(([127, 0, 0, 1], port)),
            rest: rest.as_secs(),
        };
        File::create(&program.log)?;
        let rival = Arc::new(Self {
            way,
            program,
            child: Mutex::new(None),
            starts: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        });
        rival.start_again(0)?;
        thread::spawn({
            let rival = Arc::clone(&rival);
            move || rival.keep(admin)
        });
        Ok(rival)
    }

    /// Starts it whenever it has ended.
    fn keep(&self, mut admin: Api) {
        while !self.ends.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(50));
            let ended = match &mut *self.child() {
                Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
                None => true,
            };
            if ended && !self.ends.load(Ordering::SeqCst) {
                let number = self.starts.load(Ordering::SeqCst);
                let lease = lease(&self.program.name, number - 1);
                let path = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/{lease}");
                // A lease that is left over is nobody's.
                admin.delete(&path, &json!({})).ok();
                // One that does not start is tried again; the next settling says what is missing.
                self.start_again(number).ok();
            }
        }
    }

    fn start_again(&self, number: u64) -> Result<()> {
        let program = &self.program;
        let log = OpenOptions::new().append(true).open(&program.log)?;
        let child = operator::command(&program.binary, &program.kubeconfig, &program.name, log)?
            .env("RAILHEAD_LEASE", lease(&program.name, number))
            .env("RAILHEAD_HTTP", program.http.to_string())
            .env("RAILHEAD_REST_SECONDS", program.rest.to_string())
            // Nothing is seen only because it was looked at once more.
            .env("RAILHEAD_RESYNC_SECONDS", "86400")
            .spawn()
            .with_context(|| format!("cannot start {}", program.binary.display()))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        *self.child() = Some(child);
        self.way.leads(Some(pid));
        self.starts.store(number + 1, Ordering::SeqCst);
        Ok(())
    }

    /// What it must never say. The log is read from the beginning: a panic does not get old.
    pub(super) fn has_not_panicked(&self) -> Result<()> {
        let log = std::fs::read(&self.program.log)?;
        let log = String::from_utf8_lossy(&log);
        match log.lines().find(|line| line.contains("panicked at")) {
            None => Ok(()),
            Some(line) => bail!("operator {} panicked: {line}", self.program.name),
        }
    }

    /// Ends it for good.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(mut child) = self.child().take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process that was killed holds its lease for a while: the next one takes another.
fn lease(name: &str, number: u64) -> String {
    format!("{name}-{number}")
}
