//! What ADD does to one function, and the inverse.

mod error;
mod function;
mod prove;
mod rail;
mod rdma;
mod repair;
mod undo;
mod wire;

use std::time::Duration;

pub(crate) use error::{UndoError, WireError};
pub(crate) use prove::check_rail;
pub(crate) use rail::{Rail, RailRdma};
use railhead_host::Poll;
pub(crate) use repair::repair_rail;
pub(crate) use undo::{Undone, undo_rail};
pub(crate) use wire::{Pod, wire_rail};

/// How often something that is about to appear is looked for: mostly it is there at once.
const POLL: Poll = Poll::growing(Duration::from_millis(1), Duration::from_millis(20));
