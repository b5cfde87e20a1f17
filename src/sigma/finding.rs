//! A finding: a problem in a file, with its position and its remedy.

use std::fmt;

/// A problem in a file, with its remedy. Findings are ordered by path, line and column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// Path of the file below the rules directory, with `/`.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The problem, in the form `<thing> <is wrong>: expected <x>`.
    pub problem: String,
    /// The remedy, as an imperative clause.
    pub remedy: String,
}

impl Finding {
    /// Creates a finding at a line and column.
    pub fn new(
        path: &str,
        (line, column): (usize, usize),
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { path: path.to_owned(), line, column, problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, problem, remedy } = self;
        write!(formatter, "{path}:{line}:{column}: {problem}; {remedy}")
    }
}
