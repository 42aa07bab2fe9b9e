//! What every verb works with: where the node's files are, how PFs are reached, where notes go.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use railhead_host::Sysfs;
use railhead_plan::Layout;
use railhead_vf::{KernelPfSide, PfSide};

/// Environment variable by which the agent has CHECK set again what is missing ([`Context::repair`]).
pub const REPAIR: &str = "RAILHEAD_REPAIR";

/// The surroundings of one call.
pub struct Context {
    /// The node's folders.
    pub layout: Layout,
    /// The side of a function that its PF enforces.
    pub pf_side: Box<dyn PfSide>,
    /// Notes for the runtime's log.
    pub log: Log,
    /// How long ADD waits for a signal, and then for the GID. A VF of igb takes up to 5 s on an idle node, since its driver
    /// looks every 2 s; containerd gives the whole sandbox minutes.
    pub proof_patience: Duration,
    /// How long a function that is on its way back from a namespace is waited for.
    pub return_patience: Duration,
    /// How long the lock of a function is waited for.
    pub lock_patience: Duration,
    /// Whether CHECK sets again what is missing and can be set without harm. The agent asks for it; a runtime's CHECK changes
    /// nothing.
    pub repair: bool,
    /// Called after every step of ADD and DEL with the rail (0 where it is of the whole pod); `false` ends the call on the
    /// spot, without rollback, as a kill would.
    pub after_step: Box<dyn Fn(u32, Step) -> bool + Send + Sync>,
}

/// The steps of ADD and of DEL, in order. Each rail passes from [`Step::Moved`] to [`Step::Proven`], and in DEL from
/// [`Step::RulesRemoved`] to [`Step::Restored`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// ADD: the journal is written.
    Journaled,
    /// The VF is in the pod with its final name, MAC address and MTU.
    Moved,
    /// It has its sysctls and is up.
    Up,
    /// It has its addresses.
    Numbered,
    /// It has its RDMA device.
    RdmaMade,
    /// It has routes and rules.
    Routed,
    /// Carrier and GID were seen and neighbours told.
    Proven,
    /// The claim's CDI spec names the character devices.
    CdiCompleted,
    /// The pod's folder is there.
    Recorded,
    /// DEL: the pod's folder is gone.
    FolderRemoved,
    /// The pod has no rules of the rail any more.
    RulesRemoved,
    /// The soft RDMA device is gone.
    RdmaRemoved,
    /// The VF left the pod.
    Home,
    /// It is what it was. After the last rail the journal goes.
    Restored,
}

impl Context {
    /// For the real kernel.
    pub fn new(layout: Layout) -> Self {
        Self {
            pf_side: Box::new(KernelPfSide::new(Sysfs::new(layout.sysfs()))),
            layout,
            log: Log::default(),
            proof_patience: Duration::from_secs(20),
            return_patience: Duration::from_secs(5),
            lock_patience: Duration::from_secs(10),
            repair: false,
            after_step: Box::new(|_, _| true),
        }
    }

    /// The kernel's sysfs.
    pub fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.layout.sysfs())
    }
}

/// Lines for the runtime's log, kept until the answer is written.
#[derive(Debug, Default)]
pub struct Log(Mutex<Vec<String>>);

impl Log {
    /// Adds a line.
    pub fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }

    /// Takes all lines.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
