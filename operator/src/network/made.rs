//! Networks whose slice was made a moment ago, of which the watch has not told yet. Whatever else wakes them up meanwhile, their own
//! status or template for example, would make all of it again and be refused.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long the watch may take. After that the network is looked at as if nobody had made anything.
pub(super) const UNTOLD: Duration = Duration::from_secs(2);

/// When the slice of a network was made, by the network's UID.
#[derive(Default)]
pub(crate) struct Made(Mutex<HashMap<String, Instant>>);

impl Made {
    pub(super) fn note(&self, uid: &str) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(uid.to_owned(), Instant::now());
    }

    /// Whether to wait for the watch. Of what it has told, and of what it did not tell in time, nothing is kept.
    pub(super) fn is_untold(&self, uid: &str, is_told: bool) -> bool {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = !is_told && made.get(uid).is_some_and(|when| when.elapsed() < UNTOLD);
        if !waits {
            made.remove(uid);
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_waits_for_the_watch_only_where_its_slice_was_made_and_until_it_is_told() {
        let made = Made::default();
        assert!(!made.is_untold("a", false), "nobody made it");
        made.note("a");
        assert!(made.is_untold("a", false) && made.is_untold("a", false));
        assert!(!made.is_untold("b", false));
        assert!(!made.is_untold("a", true));
        assert!(!made.is_untold("a", false), "it was told and is gone since");
    }
}
