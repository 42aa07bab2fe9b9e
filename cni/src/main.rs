//! The CNI binary: environment and standard input in, JSON on standard output, exit code. The same file is the OCI hook of
//! containers with rails.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use railhead_cni::{Context, Environment, REPAIR, container_hook, run};
use railhead_plan::Layout;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "container-hook") {
        let pod_uid = arguments.next().unwrap_or_default();
        return hook(&pod_uid.to_string_lossy());
    }
    let environment = Environment::of_process();
    let mut context = Context::new(Layout::default());
    context.repair = std::env::var_os(REPAIR).is_some_and(|value| value == "1");
    let outcome = run(&context, &environment, &mut io::stdin().lock());
    for line in &outcome.log {
        // Standard error is the runtime's log; when it is closed there is nobody to tell.
        let _ = writeln!(io::stderr(), "railhead: {line}");
    }
    let written = io::stdout().write_all(outcome.stdout.as_bytes());
    if outcome.success && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A hook that fails keeps its container from starting; the runtime shows what it said.
fn hook(pod_uid: &str) -> ExitCode {
    let (said, code) = match container_hook(&Layout::default(), pod_uid, &mut io::stdin().lock()) {
        Ok(said) => (said, ExitCode::SUCCESS),
        Err(error) => (Some(error), ExitCode::FAILURE),
    };
    if let Some(line) = said {
        let _ = writeln!(io::stderr(), "railhead: {line}");
    }
    code
}
