//! Errors as the CNI specification wants them: JSON on standard output with a code that runtimes act on.

use serde_json::{Value, json};
use thiserror::Error;

/// An error as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CniError {
    /// What kind.
    pub code: Code,
    /// Names the object and the next step.
    pub message: String,
    /// More, or empty.
    pub details: String,
}

/// Codes of the CNI specification, section "Error", and our own from 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The `cniVersion` is not one of ours.
    IncompatibleVersion = 1,
    /// An environment variable is missing or wrong.
    InvalidEnvironment = 4,
    /// Input or output failed, the kernel refused.
    Io = 5,
    /// Content cannot be decoded.
    Decode = 6,
    /// The network configuration is invalid.
    InvalidConfig = 7,
    /// The namespace is the plugin's own.
    InvalidNetns = 8,
    /// A passing condition: the runtime tries again.
    TryAgain = 11,
    /// The pod asks for a network and nobody prepared it on this node.
    NoPlan = 100,
    /// CHECK: what was made is not what is there.
    Drifted = 101,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    pub(super) fn to_json(&self, version: &str) -> Value {
        let mut value = json!({
            "cniVersion": version,
            "code": self.code as u32,
            "msg": self.message,
        });
        if !self.details.is_empty() {
            value["details"] = self.details.clone().into();
        }
        value
    }
}
