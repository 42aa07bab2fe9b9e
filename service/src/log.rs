//! How a program logs: the same flags, and lines of the same shape, on standard error.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Flags of a program that logs.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// What is logged, as in `info,railhead_agent=debug`.
    #[arg(long = "log", env = "RAILHEAD_LOG", default_value = "info", global = true)]
    filter: String,
    /// How it is written.
    #[arg(
        long = "log-format",
        env = "RAILHEAD_LOG_FORMAT",
        value_enum,
        default_value = "json",
        global = true
    )]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One object per line: timestamp, level, message, and the event's fields beside them.
    Json,
    /// For people.
    Text,
}

impl LogArgs {
    /// Logs from here on. An error says which part of the filter is none.
    pub fn start(&self) -> Result<(), ParseError> {
        let filter = EnvFilter::try_new(&self.filter)?;
        let logs = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.format {
            Format::Json => logs.json().flatten_event(true).init(),
            Format::Text => logs.init(),
        }
        Ok(())
    }
}
