//! A fault in the deployment's configuration, with its remedy.

use serde::Serialize;

/// A fault in the configuration, as `/_hedgerow/health` reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigProblem {
    /// The fault and its effect, without a full stop.
    pub message: String,
    /// The step that repairs it, without a full stop.
    pub remedy: String,
}

impl ConfigProblem {
    /// Makes a problem of a message and its remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}
