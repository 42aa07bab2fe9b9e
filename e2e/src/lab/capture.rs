//! Watching a cable: tcpdump on the tap between a node's rail port and its leaf, where VLAN tag, priority and DSCP are as on the wire.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::Lab;
use super::namespace::rail_tap;
use super::run::tail;

/// A capture that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    text: NamedTempFile,
}

/// One frame as tcpdump tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// VLAN id of the tag; `None` for an untagged frame.
    pub vlan: Option<u16>,
    /// Priority of the tag (PCP).
    pub priority: Option<u8>,
    /// The IPv4 TOS byte; DSCP is its upper six bits.
    pub tos: Option<u8>,
    /// Length on the wire.
    pub length: usize,
    /// Everything tcpdump printed about it, in one line.
    pub text: String,
}

impl Frame {
    /// The DSCP, for an IPv4 frame.
    pub fn dscp(&self) -> Option<u8> {
        self.tos.map(|tos| tos >> 2)
    }
}

impl Lab {
    /// Starts watching a node's rail. The filter is tcpdump's; on a tagged frame it has to begin with `vlan`.
    pub fn capture(&self, rail: usize, node: usize, filter: &str) -> Result<Capture> {
        let text = NamedTempFile::new()?;
        let messages = NamedTempFile::new()?;
        let tap = rail_tap(node, rail);
        let mut command = self.command("tcpdump");
        command
            .args(["-i", &tap, "-Z", "root", "-e", "-nn", "-v", "-l", "--immediate-mode"])
            .args(filter.split_whitespace());
        command
            .stdin(Stdio::null())
            .stdout(text.reopen()?)
            .stderr(messages.reopen()?);
        let tcpdump = command.spawn().context("cannot start tcpdump: run `lab prepare`")?;
        let mut capture = Capture { tcpdump, text };
        let start = Instant::now();
        loop {
            let said = fs::read_to_string(messages.path())?;
            if said.contains("listening on") {
                return Ok(capture);
            }
            if capture.tcpdump.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(10) {
                bail!(
                    "tcpdump does not watch {tap} with the filter `{filter}`: {}",
                    tail(messages.path(), 5)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Capture {
    /// What was seen so far.
    pub fn text(&self) -> Result<String> {
        Ok(fs::read_to_string(self.text.path())?)
    }

    /// Ends the capture and answers with what was seen.
    pub fn stop(mut self) -> Result<Vec<Frame>> {
        let pid = i32::try_from(self.tcpdump.id()).context("a process id is too large")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("tcpdump ended too early")?;
        self.tcpdump.wait()?;
        Ok(frames(&self.text()?))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // After `stop` it has ended already, and both calls say so.
        self.tcpdump.kill().ok();
        self.tcpdump.wait().ok();
    }
}

/// Reads what `tcpdump -e -v -nn` prints: a line per frame, with indented lines for what is inside.
fn frames(text: &str) -> Vec<Frame> {
    let mut joined: Vec<String> = Vec::new();
    for line in text.lines() {
        match joined.last_mut() {
            Some(frame) if line.starts_with([' ', '\t']) => {
                frame.push(' ');
                frame.push_str(line.trim());
            }
            _ => joined.push(line.to_owned()),
        }
    }
    joined.into_iter().map(frame).collect()
}

fn frame(text: String) -> Frame {
    let after = |mark: &str| {
        let rest = &text[text.find(mark)? + mark.len()..];
        Some(&rest[..rest.find([',', ':', ' ', ')']).unwrap_or(rest.len())])
    };
    Frame {
        vlan: after(" vlan ").and_then(|v| v.parse().ok()),
        priority: after(" p ").and_then(|p| p.parse().ok()),
        tos: after("(tos 0x").and_then(|tos| u8::from_str_radix(tos, 16).ok()),
        length: after(" length ").and_then(|l| l.parse().ok()).unwrap_or_default(),
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_priority_and_dscp_are_read_from_what_tcpdump_prints() {
        let text = "10:00:00.000001 02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 802.1Q (0x8100), length 1082: vlan 100, p 3, ethertype \
                    IPv4 (0x0800), (tos 0x68, ttl 64, id 1, offset 0, flags [DF], proto UDP (17), length 1064)\n    10.0.0.1.49152 > \
                    10.0.0.2.4791: UDP, length 1036\n10:00:00.000002 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), \
                    length 42: Ethernet (len 6), IPv4 (len 4), Request who-has 10.0.0.2 tell 10.0.0.1, length 28\n";
        let seen = frames(text);
        assert_eq!(seen.len(), 2);
        assert_eq!(
            (seen[0].vlan, seen[0].priority, seen[0].dscp(), seen[0].length),
            (Some(100), Some(3), Some(26), 1082)
        );
        assert!(seen[0].text.contains("10.0.0.2.4791"));
        assert_eq!(
            (seen[1].vlan, seen[1].priority, seen[1].tos, seen[1].length),
            (None, None, None, 42)
        );
    }
}
