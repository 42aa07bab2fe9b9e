//! The operator's own binary as a process beside the API server, with the rights of its service account and no others.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cluster::eventually;
use anyhow::{Context, Result, bail};

use super::cluster::{Cluster, Identity, SYSTEM};

/// How long what was given back rests.
pub const REST_SECONDS: u64 = 4;

/// A running operator; it ends with this value.
pub struct Operator {
    child: Child,
    http: SocketAddr,
}

/// The operator's program, to be started with the rights of a kubeconfig. It writes to `log`.
pub fn command(binary: &Path, kubeconfig: &Path, name: &str, log: File) -> Result<Command> {
    let mut command = Command::new(binary);
    command
        .arg("run")
        .env("KUBECONFIG", kubeconfig)
        .env("POD_NAMESPACE", SYSTEM)
        .env("POD_NAME", name)
        .env("RAILHEAD_LOG", "info")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

impl Operator {
    /// Starts one. Two with different leases both think that they lead.
    pub fn start(cluster: &Cluster, binary: &Path, who: &Identity, name: &str, lease: &str, port: u16) -> Result<Self> {
        let log = File::create(cluster.lab.log(name))?;
        let http = SocketAddr::from(([127, 0, 0, 1], port));
        let child = command(binary, &who.kubeconfig, name, log)?
            .env("RAILHEAD_LEASE", lease)
            .env("RAILHEAD_HTTP", http.to_string())
            // Long enough to be seen, short enough to be waited for.
            .env("RAILHEAD_REST_SECONDS", REST_SECONDS.to_string())
            // Nothing is seen only because it was looked at once more.
            .env("RAILHEAD_RESYNC_SECONDS", "86400")
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut operator = Self { child, http };
        let ended = eventually(&format!("{name} is ready"), || match operator.child.try_wait()? {
            None => operator.page("/readyz").map(|_| None),
            ended => Ok(ended),
        })?;
        if let Some(status) = ended {
            bail!(
                "{name} ended with {status}; its log is {}",
                cluster.lab.log(name).display()
            );
        }
        Ok(operator)
    }

    /// A page of its HTTP server.
    pub fn page(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{path} answers {head}");
        }
        Ok(body.to_owned())
    }

    /// Ends it at once, as when its node loses power.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already.
        self.kill().ok();
    }
}
