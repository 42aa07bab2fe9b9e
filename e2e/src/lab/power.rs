//! A node's power: cut, switched on again, reset. What was written to the disk stays; memory, `/run` and the ports' functions go.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Node;
use super::progress::{say, step};
use super::run::capture;

const LIMIT: Duration = Duration::from_secs(30);

impl Node {
    /// Switches the machine off at once, as a power cut does.
    pub fn power_off(&self) -> Result<()> {
        let _lock = self.lab.lock()?;
        let machine = self
            .machine_process()?
            .with_context(|| format!("{} is off already", self.name()))?;
        self.close_connection();
        kill(machine, Signal::SIGKILL).with_context(|| format!("cannot end the machine of {}", self.name()))?;
        let start = Instant::now();
        while self.machine_process()?.is_some() {
            ensure!(
                start.elapsed() < LIMIT,
                "the machine of {} does not end within {}s",
                self.name(),
                LIMIT.as_secs()
            );
            thread::sleep(Duration::from_millis(50));
        }
        say(format!("{} is off", self.name()));
        Ok(())
    }

    /// Switches the machine on with the disk that it had, and waits until Kubernetes calls the node ready.
    pub fn power_on(&self) -> Result<()> {
        let _lock = self.lab.lock()?;
        ensure!(self.machine_process()?.is_none(), "{} is on already", self.name());
        let earlier = self.known_boot()?;
        step(&format!("switching {} on", self.name()), || {
            let power_on = Instant::now();
            let mut machine = [self.start()?];
            self.wait_ready(&mut machine, power_on, Some(&earlier))?;
            self.wait_usable(&mut machine)
        })
    }

    /// Presses the reset button, and waits until Kubernetes calls the node ready again.
    pub fn reset(&self) -> Result<()> {
        let _lock = self.lab.lock()?;
        let earlier = self.known_boot()?;
        step(&format!("resetting {}", self.name()), || {
            self.close_connection();
            let power_on = Instant::now();
            self.qmp()?.execute("system_reset", &json!({}))?;
            self.wait_ready(&mut [], power_on, Some(&earlier))?;
            self.wait_usable(&mut [])
        })
    }

    /// Ends the ssh connection that commands share: to a machine without power it would hang.
    fn close_connection(&self) {
        // There may be none.
        capture(&mut self.ssh(&["-O", "exit"]), LIMIT).ok();
    }

    /// The process of the machine, if it is on.
    fn machine_process(&self) -> Result<Option<Pid>> {
        let own = self.name_arguments();
        let is_own = |pid: &Pid| {
            // It may have ended by itself since it was listed.
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            runs_machine(&command, &own)
        };
        Ok(self.lab.namespace().processes()?.into_iter().find(is_own))
    }
}

/// Whether a process with this command line (`/proc/<pid>/cmdline`) is the machine with these arguments of its name.
fn runs_machine(command: &str, name: &[String; 2]) -> bool {
    let words: Vec<&str> = command.split('\0').collect();
    words.first().is_some_and(|program| program.contains("qemu-system"))
        && words.windows(2).any(|pair| pair == name.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_found_by_its_whole_name_only() {
        let name = ["-name".to_owned(), "node1".to_owned()];
        assert!(runs_machine("qemu-system-x86_64\0-name\0node1\0-accel\0tcg\0", &name));
        assert!(!runs_machine("qemu-system-x86_64\0-name\0node11\0", &name));
        assert!(!runs_machine("tail\0-name\0node1\0", &name));
        assert!(!runs_machine("", &name));
    }
}
