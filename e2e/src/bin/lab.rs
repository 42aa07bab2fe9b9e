//! `lab`: brings up, uses and takes down the lab.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use railhead_e2e::installation::{NAMESPACE, RELEASE};
use railhead_e2e::lab::cache::Cache;
use railhead_e2e::lab::images::{build_workspace_images, present_workspace_images, workspace_images};
use railhead_e2e::lab::prepare::{Half, prepare};
use railhead_e2e::lab::{CONTROL_PLANE_NAME, DEFAULT_NAME, Lab, Node};

/// A real Kubernetes with SR-IOV nodes on one machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which lab; a control plane without nodes is called `cp` unless you say otherwise.
    #[arg(long, global = true)]
    name: Option<String>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build or download everything that comes from elsewhere, once per set of pins.
    Prepare {
        /// Prepare only this half.
        #[arg(long)]
        only: Option<Half>,
    },
    /// Build Railhead's images from this workspace, as OCI archives.
    Images,
    /// Put images into a running lab's nodes: Railhead's own, as `lab images` built them, or the archives given.
    Load {
        /// OCI archives.
        archives: Vec<PathBuf>,
    },
    /// Start the lab and leave it running.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
        nodes: u8,
        /// Only the control plane.
        #[arg(long)]
        no_nodes: bool,
    },
    /// Stop the lab and leave nothing behind.
    Down,
    /// Say what runs.
    Status,
    /// Run kubectl as the administrator.
    Kubectl {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run helm as the administrator.
    Helm {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a command inside the lab's network namespace, with KUBECONFIG and PATH set.
    Exec {
        /// Program and arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run a command on a node as root, or get a terminal there.
    Shell {
        /// node1, node2, ...
        node: String,
        /// A program and its arguments, which reach it as they are; a terminal where nothing is given.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Cut a node's power, switch it on again with the disk that it had, or press its reset button.
    Power {
        /// node1, node2, ...
        node: String,
        /// What to do; `on` and `reset` wait until Kubernetes calls the node ready again.
        state: Power,
    },
    /// Print how to use kubectl and how to get a shell on a node.
    Env,
}

/// What can be done to a node's power.
#[derive(Clone, Copy, ValueEnum)]
enum Power {
    Off,
    On,
    Reset,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let Arguments { name, task } = Arguments::parse();
    let no_nodes = matches!(task, Task::Up { no_nodes: true, .. });
    let name = name.unwrap_or_else(|| if no_nodes { CONTROL_PLANE_NAME } else { DEFAULT_NAME }.to_owned());
    match task {
        Task::Prepare { only } => prepare(&Cache::open()?, only).map(|_| ()),
        Task::Images => build_workspace_images().map(|_| ()),
        Task::Load { archives } => {
            let lab = Lab::attach_to(&name)?;
            let archives = if archives.is_empty() {
                present_workspace_images()
            } else {
                archives
            };
            if archives.is_empty() {
                bail!("{} has no images: run `lab images` first", workspace_images().display());
            }
            lab.load_images(&archives)
        }
        Task::Up { nodes, no_nodes } => {
            let lab = Lab::up(&name, if no_nodes { 0 } else { nodes.into() })?;
            print!("{}", how_to_use(&lab));
            Ok(())
        }
        Task::Down => Lab::down(&name),
        Task::Status => {
            print!("{}", Lab::attach_to(&name)?.status()?);
            Ok(())
        }
        Task::Kubectl { arguments } => become_program(Lab::attach_to(&name)?.command("kubectl").args(arguments)),
        Task::Helm { arguments } => become_program(Lab::attach_to(&name)?.command("helm").args(arguments)),
        Task::Exec { command } => {
            let (program, arguments) = command.split_first().context("no command given")?;
            become_program(Lab::attach_to(&name)?.command(program).args(arguments))
        }
        Task::Shell { node, command } => {
            let terminal = command.is_empty() && std::io::stdin().is_terminal();
            become_program(&mut node_of(&name, &node)?.ssh_for(&command, terminal))
        }
        Task::Power { node, state } => {
            let node = node_of(&name, &node)?;
            match state {
                Power::Off => node.power_off(),
                Power::On => node.power_on(),
                Power::Reset => node.reset(),
            }
        }
        Task::Env => {
            print!("{}", how_to_use(&Lab::attach_to(&name)?));
            Ok(())
        }
    }
}

fn node_of(lab: &str, node: &str) -> Result<Node> {
    let number = node.strip_prefix("node").unwrap_or(node);
    let number = number
        .parse()
        .with_context(|| format!("`{node}` is no node: nodes are called node1, node2, ..."))?;
    Lab::attach_to(lab)?.node(number)
}

/// Replaces this process, so that signals, terminal and exit code are the program's own.
fn become_program(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).context("cannot run nsenter: is util-linux installed?")
}

fn how_to_use(lab: &Lab) -> String {
    let mut program = own_path();
    if lab.name() != DEFAULT_NAME {
        program = format!("{program} --name {}", lab.name());
    }
    let logs = lab.state().join("logs");
    let mut lines = vec![
        format!("kubectl:  {program} kubectl get nodes"),
        format!("helm:     {program} helm list -A"),
        format!("anything: {program} exec -- bash"),
        format!("logs:     {}", logs.display()),
    ];
    if lab.node_count() > 0 {
        let manifests = "e2e/lab/manifests";
        lines.extend([
            format!("a node:   {program} shell node1 [-- command], {program} power node1 off|on|reset"),
            "Railhead is not in a new lab. To install it, in the top folder of this repository and as one command:"
                .to_owned(),
            format!(
                "  {program} helm install {RELEASE} charts/railhead -n {NAMESPACE} --create-namespace \
                 --values {manifests}/values.yaml && {program} kubectl apply -f {manifests}/fabric.yaml"
            ),
        ]);
    }
    lines.join("\n") + "\n"
}

/// This program as one types it: from the current folder where it lies below it.
fn own_path() -> String {
    let Ok(program) = std::env::current_exe() else {
        return "lab".to_owned();
    };
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).map_or_else(
        |_| program.display().to_string(),
        |below| format!("./{}", below.display()),
    )
}
