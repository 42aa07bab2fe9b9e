//! What agent and operator both are, as programs that talk to the API server for as long as they live. Nothing in here knows
//! what Railhead is for.

pub mod client;
mod deadline;
mod error_text;
pub mod events;
mod log;
mod passes;
mod transient;

pub use deadline::{NoAnswer, client_of, within};
pub use error_text::chain;
pub use log::LogArgs;
pub use passes::{Pass, Passes};
pub use transient::is_transient;
