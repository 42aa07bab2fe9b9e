//! The CNI binary as a library: protocol, journal, and the operations of an attachment with their inverses.
//!
//! ADD carries out an attachment plan that the agent left on the node; DEL takes back what ADD did. Neither asks the API
//! server, the operator or the agent. Every change is journaled before it is made and has an inverse that looks at the
//! state it finds, so DEL, a new ADD or GC can finish what a killed process began.
//!
//! Nothing here starts a thread, opens a socket or allocates more than the configuration needs until the pod is known to
//! have a plan: a pod without one costs a `stat`.

mod attachment_folder;
mod cdi_nodes;
mod container_hook;
mod context;
mod journal;
mod protocol;
mod settings;
mod verbs;
mod wiring;

pub use container_hook::container_hook;
pub use context::{Context, Log, REPAIR, Step};
pub use journal::{Journal, JournalError, RailJournal};
pub use protocol::{CniError, Code, Environment, Outcome, SUPPORTED_VERSIONS, run};
