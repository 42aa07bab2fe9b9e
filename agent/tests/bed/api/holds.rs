//! Requests that are held up, and those at which the client is killed.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

use super::{Api, Held, When};

/// Requests that wait.
pub(super) struct Gate {
    beginning: String,
    when: When,
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

/// The request at which the client is to be killed.
pub(super) struct Hold {
    /// Requests that are answered first; events do not count, which come when they come.
    after: usize,
    /// Whether the server does what it is asked before the client is killed.
    done: bool,
    reached: Arc<Notify>,
}

impl Api {
    /// Answers `after` more requests and none any more; whether it does what the next one asks is `done`. Tells when that came.
    pub(crate) fn hold_at(&self, after: usize, done: bool) -> Arc<Notify> {
        let reached = Arc::new(Notify::new());
        self.state.lock().unwrap().hold = Some(Hold {
            after,
            done,
            reached: reached.clone(),
        });
        reached
    }

    pub(crate) fn hold_no_more(&self) {
        self.state.lock().unwrap().hold = None;
    }

    /// Holds up the next request that begins like this, for example `DELETE /apis/railhead.dev`.
    pub(crate) fn hold(&self, beginning: &str, when: When) -> Held {
        let (arrived, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        self.state.lock().unwrap().gates.push(Gate {
            beginning: beginning.to_owned(),
            when,
            arrived: arrived.clone(),
            open: open.clone(),
        });
        Held { arrived, open }
    }

    pub(super) async fn pass(&self, request: &str, when: When) {
        let gate = {
            let mut state = self.state.lock().unwrap();
            let of = |gate: &Gate| gate.when == when && request.starts_with(&gate.beginning);
            let found = state.gates.iter().position(of);
            found.map(|found| state.gates.remove(found))
        };
        if let Some(gate) = gate {
            gate.arrived.add_permits(1);
            gate.open.acquire().await.unwrap().forget();
        }
    }

    /// Whether the request is one that is not answered, and if so, whether it is carried out.
    pub(super) fn held(&self, resource: &str) -> Option<bool> {
        let mut state = self.state.lock().unwrap();
        let hold = state.hold.as_mut().filter(|_| resource != "events")?;
        let Some(after) = hold.after.checked_sub(1) else {
            hold.reached.notify_one();
            // Only the first one of them.
            return Some(std::mem::take(&mut hold.done));
        };
        hold.after = after;
        None
    }
}
