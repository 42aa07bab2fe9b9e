//! What the person in front of the terminal sees: one line per step, with the time since the start.

use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();
/// How often a step that takes long says that it is still at it.
const STILL: Duration = Duration::from_mins(1);

/// Seconds since the first line was printed.
pub fn elapsed() -> f64 {
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// Prints one line of progress to stderr, so that stdout stays for results.
pub fn say(line: impl AsRef<str>) {
    eprintln!("[{:6.1}s] {}", elapsed(), line.as_ref());
}

/// Runs a step, and prints when it begins, once a minute that it goes on, and how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(format!("{what} ..."));
    let start = Instant::now();
    let result = thread::scope(|scope| {
        let (working, ended) = channel::<()>();
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(STILL) {
                say(format!(
                    "{what}: still at it after {:.0}s",
                    start.elapsed().as_secs_f64()
                ));
            }
        });
        let result = work();
        drop(working);
        result
    });
    let took = start.elapsed().as_secs_f64();
    match &result {
        Ok(_) => say(format!("{what}: done in {took:.1}s")),
        Err(_) => say(format!("{what}: FAILED after {took:.1}s")),
    }
    result
}
