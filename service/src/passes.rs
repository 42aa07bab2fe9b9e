//! Whether the loops of a program still go round.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

/// All loops of a program.
#[derive(Debug, Default)]
pub struct Passes(Mutex<Vec<Known>>);

#[derive(Debug)]
struct Known {
    name: &'static str,
    limit: Duration,
    /// Gone when the loop has ended, which is for others to judge.
    last: Weak<Mutex<Instant>>,
}

/// One loop, held by it.
#[derive(Clone, Debug)]
pub struct Pass {
    last: Arc<Mutex<Instant>>,
}

impl Pass {
    /// The loop has come round, or in the middle of much work has done some of it.
    pub fn done(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Passes {
    /// A loop begins that shows itself at least every `limit`, however slow what it waits for is.
    pub fn begin(&self, name: &'static str, limit: Duration) -> Pass {
        let last = Arc::new(Mutex::new(Instant::now()));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|pass| pass.last.strong_count() > 0);
        known.push(Known {
            name,
            limit,
            last: Arc::downgrade(&last),
        });
        Pass { last }
    }

    /// How long ago each loop has shown itself, one in a line. An error when one is late: its loop hangs.
    pub fn report(&self) -> Result<String, String> {
        self.report_at(Instant::now())
    }

    fn report_at(&self, now: Instant) -> Result<String, String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut all_well, mut text) = (true, String::new());
        for pass in known.iter() {
            let Some(last) = pass.last.upgrade() else { continue };
            let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
            let age = now.saturating_duration_since(last);
            let late = age > pass.limit;
            all_well &= !late;
            let verdict = if late { "hangs" } else { "ok" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{} {verdict}: last pass ended {} s ago, limit {} s",
                pass.name,
                age.as_secs(),
                pass.limit.as_secs()
            );
        }
        if all_well { Ok(text) } else { Err(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_is_named_and_one_that_has_ended_is_not() {
        let passes = Passes::default();
        let ports = passes.begin("ports", Duration::from_mins(5));
        let collector = passes.begin("collector", Duration::from_mins(20));
        let later = Instant::now() + Duration::from_mins(6);
        assert!(passes.report().is_ok());
        let late = passes.report_at(later).unwrap_err();
        assert!(late.contains("ports hangs: last pass ended 36"), "{late}");
        assert!(late.contains("collector ok"), "{late}");
        drop(ports);
        assert!(passes.report_at(later).is_ok());
        drop(collector);
    }
}
