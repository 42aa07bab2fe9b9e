//! The CNI binary: environment and standard input in, JSON on standard output, exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use railhead_cni::{Context, Environment, run};
use railhead_plan::Layout;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let context = Context::new(Layout::default());
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
