//! Waiting for what the kernel does in its own time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often something that is about to appear is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    first: Duration,
    longest: Duration,
}

impl Poll {
    /// Always after the same pause.
    pub const fn every(pause: Duration) -> Self {
        Self {
            first: pause,
            longest: pause,
        }
    }

    /// After `first`, then after twice as long each time, up to `longest`: for what is mostly there at once.
    pub const fn growing(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }
}

/// Looks until there is something, an error, or `patience` is over (`None`). Looks at least once, and once more at the end.
pub fn wait_until<T, E>(
    patience: Duration,
    poll: Poll,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let start = Instant::now();
    let mut pause = poll.first;
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(poll.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Poll = Poll::growing(Duration::from_millis(1), Duration::from_millis(4));

    #[test]
    fn it_looks_until_something_is_there() {
        let mut looks = 0;
        let found = wait_until::<_, ()>(Duration::from_secs(10), POLL, || {
            looks += 1;
            Ok((looks == 4).then_some("found"))
        });
        assert_eq!((found, looks), (Ok(Some("found")), 4));
    }

    #[test]
    fn patience_ends_and_errors_end_it_at_once() {
        let mut looks = 0;
        let start = Instant::now();
        let found = wait_until::<(), ()>(Duration::from_millis(20), POLL, || {
            looks += 1;
            Ok(None)
        });
        assert_eq!(found, Ok(None));
        assert!(
            looks >= 2 && start.elapsed() >= Duration::from_millis(20),
            "{looks} looks"
        );
        assert_eq!(
            wait_until::<(), _>(Duration::ZERO, POLL, || Err("refused")),
            Err("refused")
        );
    }
}
