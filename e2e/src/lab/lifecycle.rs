//! Start and end of a lab, also after an interrupted start.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::cache::lock;
use super::images::present_workspace_images;
use super::progress::{say, step};
use super::run::Output;
use super::{CONTROL_PLANE_NAME, DEFAULT_NAME, Lab, Node, RAILS, control_plane, image_store, machine};

const SHAPE_VERSION: u32 = 1;

/// What a started lab consists of; kept in its state folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Shape {
    version: u32,
    nodes: usize,
    #[serde(default)]
    /// False while it comes up, and for ever where that failed.
    complete: bool,
}

impl Lab {
    /// The running lab with nodes.
    pub fn attach() -> Result<Self> {
        Self::attach_to(DEFAULT_NAME)
    }

    /// The running lab with this name. One that failed to come up is there too, for inspection.
    pub fn attach_to(name: &str) -> Result<Self> {
        Self::running(name).map(|(lab, _)| lab)
    }

    fn running(name: &str) -> Result<(Self, bool)> {
        let lab = Self::describe(name, 0)?;
        let how = format!(
            "start it with `lab up{}`",
            if name == CONTROL_PLANE_NAME { " --no-nodes" } else { "" }
        );
        if !lab.namespace.exists() {
            bail!("the lab `{name}` is not up: {how}");
        }
        let file = lab.state.join("lab.json");
        let text = fs::read(&file)
            .with_context(|| format!("the lab `{name}` is a remainder of an interrupted start: {how}"))?;
        let shape: Shape =
            serde_json::from_slice(&text).with_context(|| format!("{} does not parse", file.display()))?;
        if shape.version != SHAPE_VERSION {
            bail!("the lab `{name}` was started by another version of this program: run `lab down`, then {how}");
        }
        Ok((
            Self {
                nodes: shape.nodes,
                ..lab
            },
            shape.complete,
        ))
    }

    /// Brings a lab up, or attaches to it where it is up already. What an interrupted start left behind is removed first.
    pub fn up(name: &str, nodes: usize) -> Result<Self> {
        let lab = Self::describe(name, nodes)?;
        if let Some(missing) = lab.parts.missing(nodes > 0) {
            bail!("{} is not built yet: run `lab prepare` first", missing.display());
        }
        let _lock = lab.lock()?;
        if let Ok((running, complete)) = Self::running(name) {
            if complete && running.nodes == nodes && running.kubectl(&["get", "--raw=/readyz"])?.success() {
                say(format!("the lab `{name}` is up already"));
                running.load_images(&present_workspace_images())?;
                return Ok(running);
            }
            say(format!(
                "the lab `{name}` is up in another shape or does not answer: starting it anew"
            ));
        }
        lab.clean()?;
        fs::create_dir_all(lab.state.join("logs"))?;
        lab.write_shape(false)?;
        say(format!("state and logs: {}", lab.state.display()));
        let started = lab.start();
        if started.is_err() {
            lab.show_logs();
        }
        started.with_context(|| {
            format!("the lab `{name}` did not come up; what runs is left for inspection until `lab down`")
        })?;
        lab.write_shape(true)?;
        Ok(lab)
    }

    fn write_shape(&self, complete: bool) -> Result<()> {
        let shape = Shape {
            version: SHAPE_VERSION,
            nodes: self.nodes,
            complete,
        };
        let file = self.state.join("lab.json");
        fs::write(&file, serde_json::to_vec(&shape)?).with_context(|| format!("cannot write {}", file.display()))
    }

    fn start(&self) -> Result<()> {
        self.namespace.create(self.nodes, RAILS)?;
        fs::create_dir_all(self.sockets())?;
        let authority = control_plane::credentials(self)?;
        let nodes = self.nodes();
        if nodes.is_empty() {
            return step("starting the control plane", || control_plane::start(self)).map(|_| ());
        }
        machine::make_ssh_key(self)?;
        nodes.iter().try_for_each(|node| node.prepare(&authority))?;
        let disk = self.state.join("disk-content");
        thread::scope(|scope| {
            let var_lib = disk.join("var-lib");
            let images = scope.spawn(move || step("unpacking the images", || image_store::build(self, &var_lib)));
            step("starting the control plane", || control_plane::start(self))?;
            images
                .join()
                .map_err(|_| anyhow!("the thread that unpacks the images panicked"))?
        })?;
        thread::scope(|scope| {
            let boots: Vec<_> = nodes.iter().map(|node| scope.spawn(|| boot(node, &disk))).collect();
            boots.into_iter().try_for_each(|boot| {
                boot.join()
                    .map_err(|_| anyhow!("the thread that boots a node panicked"))?
            })
        })
    }

    /// What of it runs, for people to read.
    pub fn status(&self) -> Result<String> {
        let mut text = format!(
            "lab {}: namespace {}, state and logs {}\n",
            self.name,
            self.namespace.name(),
            self.state.display()
        );
        for pid in self.namespace.processes()? {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = command.split('\0').next().unwrap_or_default();
            let program = program.rsplit('/').next().unwrap_or_default();
            writeln!(text, "  {pid:>7} {program}")?;
        }
        if self.nodes > 0 {
            text.push_str(&self.kubectl(&["get", "nodes", "-o", "wide"])?.ok()?.stdout);
            for node in self.nodes() {
                let uptime = node
                    .exec("cut -d. -f1 /proc/uptime", Duration::from_secs(20))
                    .and_then(Output::ok);
                let uptime = uptime.map_or("does not answer".to_owned(), |up| {
                    format!("up for {}s", up.stdout.trim())
                });
                writeln!(
                    text,
                    "{}: {uptime}, console {}",
                    node.name(),
                    node.console_log().display()
                )?;
            }
        } else {
            text.push_str(&self.kubectl(&["get", "--raw=/readyz"])?.ok()?.stdout);
            text.push('\n');
        }
        Ok(text)
    }

    /// Takes a lab down, whatever of it is there.
    pub fn down(name: &str) -> Result<()> {
        let lab = Self::describe(name, 0)?;
        let _lock = lab.lock()?;
        lab.clean()?;
        say(format!("the lab `{name}` is down"));
        Ok(())
    }

    fn clean(&self) -> Result<()> {
        self.namespace.destroy()?;
        if self.sockets().exists() {
            fs::remove_dir_all(self.sockets())
                .with_context(|| format!("cannot remove {}", self.sockets().display()))?;
        }
        if self.state.exists() {
            // The logs stay until the next start: they are what one wants to read after a failure.
            for entry in fs::read_dir(&self.state)? {
                let entry = entry?;
                if entry.file_name() == "logs" {
                    continue;
                }
                let path = entry.path();
                let removed = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// One `lab up`, `lab down` or `lab power` at a time.
    pub(super) fn lock(&self) -> Result<File> {
        fs::create_dir_all(self.cache.root().join("state"))?;
        let path = self.cache.root().join("state").join(format!("{}.lock", self.name));
        lock(
            &path,
            &format!("another start or stop of the lab `{}` or of its nodes", self.name),
        )
    }
}

/// Boots a node; a boot that fails is tried once more.
fn boot(node: &Node, disk: &Path) -> Result<()> {
    let attempt = || {
        let power_on = Instant::now();
        node.make_disk(disk)?;
        let mut machine = [node.start()?];
        let result = node
            .wait_ready(&mut machine, power_on, None)
            .and_then(|()| node.wait_usable(&mut machine));
        if let Err(error) = &result {
            say(format!(
                "{} did not come up: {error:#}\n{}",
                node.name(),
                node.last_words()
            ));
            machine[0].end()?;
        }
        result
    };
    attempt().or_else(|_| {
        say(format!("booting {} a second time", node.name()));
        attempt()
    })
}
