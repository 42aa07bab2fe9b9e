//! RDMA from one pod to another, with the programs of perftest.

use anyhow::{Context, Result, anyhow};

use super::pod::RailInPod;
use crate::lab::{Lab, run::Output};

/// Seconds after which a program that still runs is ended.
const LIMIT: u32 = 120;
/// How often a client looks for its server, once a second.
const ATTEMPTS: u32 = 120;

/// A program of perftest between two pods.
pub struct Perftest<'a> {
    /// `ib_write_bw`, `ib_send_bw`...
    pub tool: &'a str,
    /// Flags of both sides.
    pub flags: &'a str,
    /// The server's rail.
    pub server: &'a RailInPod,
    /// The client's rail.
    pub client: &'a RailInPod,
    /// Where the client finds the server, to exchange keys with it over TCP.
    pub address: &'a str,
}

impl Perftest<'_> {
    /// Runs both sides and answers with what the client said; `in_server` and `in_client` run a shell command in the pods.
    ///
    /// The client looks for its server again and again in one command: to start a command in a pod takes seconds under emulation.
    pub fn run(
        &self,
        in_server: impl Fn(&str) -> Result<Output> + Sync,
        in_client: impl Fn(&str) -> Result<Output>,
    ) -> Result<Output> {
        let program = |rail: &RailInPod, peer: &str| {
            let Self { tool, flags, .. } = self;
            let (device, gid) = (&rail.rdma_device, rail.gid_index);
            format!("timeout {LIMIT} {tool} -d {device} -x {gid} {flags} -F {peer} 2>&1")
        };
        let server = program(self.server, "");
        let client = format!(
            "for attempt in $(seq {ATTEMPTS}); do said=$({}); code=$?; case $said in *\"t connect to \"*|*\"Unexpected CM event\"*) sleep 1;; *) break;; esac; done; \
             echo \"$said\"; exit $code",
            program(self.client, self.address)
        );
        std::thread::scope(|scope| {
            let listening = scope.spawn(|| in_server(&server));
            let said = in_client(&client);
            let failed = !said.as_ref().is_ok_and(Output::success);
            if failed {
                // Nobody comes to this server any more. It may have ended by itself.
                in_server(&format!("killall {}", self.tool)).ok();
            }
            let heard = listening
                .join()
                .map_err(|_| anyhow!("the thread with the RDMA server panicked"))??;
            let mut said = said?;
            if failed {
                said.stderr = format!("{}\nthe server said: {heard}", said.stderr);
            }
            Ok(said)
        })
    }
}

/// `ib_write_bw` from one pod to another over the rail with the given RDMA devices; the average in MiB/s.
///
/// The traffic class is the one that the pod's own nccl.conf tells NCCL to use.
pub fn rdma_bandwidth(
    lab: &Lab,
    namespace: &str,
    (server, server_rail): (&str, &RailInPod),
    (client, client_rail): (&str, &RailInPod),
) -> Result<f64> {
    let perftest = Perftest {
        tool: "ib_write_bw",
        flags: "--tclass=$(sed -n s/^NCCL_IB_TC=//p /etc/nccl.conf) -s 65536 -n 100",
        server: server_rail,
        client: client_rail,
        address: server_rail.address.split('/').next().unwrap_or_default(),
    };
    let said = perftest.run(
        |command| lab.exec(namespace, server, command),
        |command| lab.exec(namespace, client, command),
    )?;
    let said = said.ok()?;
    let figure = said
        .stdout
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.first() == Some(&"65536")).then(|| words.get(3)?.parse::<f64>().ok())?
        })
        .next_back();
    figure.with_context(|| format!("no figure in what ib_write_bw printed:\n{}", said.stdout))
}
