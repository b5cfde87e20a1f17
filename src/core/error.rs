//! The error type of the core: a problem and its remedy.

use std::fmt;

/// The reason why something could not be loaded or built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    problem: String,
    remedy: String,
}

impl Error {
    /// Creates an error with its remedy.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    /// Returns the problem, in the form `<thing> <is wrong>`.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns the remedy, as an imperative clause.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for Error {}
