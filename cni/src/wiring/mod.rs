//! What ADD does to one function, and the inverse.

mod error;
mod function;
mod plan;
mod prove;
mod rdma;
mod undo;
mod wire;

pub(crate) use error::{UndoError, WireError};
pub(crate) use function::wait_on_host;
pub(crate) use plan::{Rail, RailRdma};
pub(crate) use prove::check_rail;
pub(crate) use undo::{Undone, undo_rail};
pub(crate) use wire::{Pod, wire_rail};
