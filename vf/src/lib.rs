//! Everything that one does to a VF from the host's side: find it, observe it, program it through its PF, give it back.
//!
//! The agent does so in Prepare and Unprepare, the CNI binary in ADD and DEL. Moving a VF into a pod and out of it is the
//! binary's; choosing one is the agent's. Everything is synchronous. Callers hold the VF's [`railhead_host::FileLock`].

mod autoprobe;
mod cut_off;
mod driver;
mod error;
mod find;
mod originals;
mod owed;
mod pf_side;
mod program;
mod restore;
mod state;
#[cfg(feature = "testing")]
pub mod testing;

pub use autoprobe::put_autoprobe_back;
pub use cut_off::{CutOffError, KernelRdmaUse, Programs, RdmaUse, cut_off};
pub use driver::probe;
pub use error::HostError;
pub use find::{Host, POLL, wait};
pub use originals::{Originals, OriginalsError, PortOriginal, PortSet, VfOriginal};
pub use owed::{OwedError, settle};
pub use pf_side::{KernelPfSide, PfSide};
pub use program::{ProgramError, pf_settings, program};
pub use restore::{RestoreError, restore};
pub use state::{Difference, LinkState};
