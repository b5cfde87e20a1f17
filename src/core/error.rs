//! The error type of the core: a problem and its remedy.

use std::fmt;

/// A problem that prevents loading or building something, such as a bundle, with its remedy.
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

    /// Returns the problem as a clause, such as `bundle format 0 does not exist`.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// Returns the remedy as an imperative clause, such as `shorten its note`.
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
