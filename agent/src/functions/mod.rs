//! What the agent does to SR-IOV functions: records how it found one, programs it for a pod, gives it back.
//!
//! Only what belongs to a claim and is done from the host's namespace: moving a function into a pod and out of it is the
//! CNI binary's. Everything is synchronous; callers hold [`FunctionLock`]s and come from a blocking thread.

mod host;
mod original;
mod owed;
mod program;
mod restore;

pub use host::{Host, HostError};
pub use original::{FunctionOriginal, Originals, OriginalsError, PortOriginal, PortSet};
pub use owed::{OwedError, settle};
pub use program::{ProgramError, program};
pub use railhead_host::FunctionLock;
pub use restore::{RestoreError, restore};
