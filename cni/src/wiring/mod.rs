//! What ADD does to one function, and the inverse.

mod error;
mod function;
mod prove;
mod rail;
mod rdma;
mod repair;
mod undo;
mod wire;

pub(crate) use error::{UndoError, WireError};
pub(crate) use prove::check_rail;
pub(crate) use rail::{Rail, RailRdma};
pub(crate) use repair::repair_rail;
pub(crate) use undo::{Undone, undo_rail};
pub(crate) use wire::{Pod, wire_rail};
