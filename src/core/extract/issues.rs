//! Read issues: why parts of a body were not read. They become a field, never an error.

use crate::extract::lenient_json::JsonErrors;

/// The reasons why parts of a body were not read: a set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadIssues(u16);

impl ReadIssues {
    /// The request has no body.
    pub const EMPTY_BODY: Self = Self(1);
    /// Bytes that are not JSON were skipped.
    pub const SYNTAX: Self = Self(2);
    /// The body ended inside a value.
    pub const TRUNCATED: Self = Self(4);
    /// The content encoding or the character set is not supported.
    pub const ENCODING: Self = Self(8);
    /// Decompression failed or reached its size limit.
    pub const INFLATE: Self = Self(16);
    /// A value is nested deeper than the reader follows.
    pub const DEPTH: Self = Self(32);
    /// The batch has more entries than the limit.
    pub const ENTRIES: Self = Self(64);
    /// The parts of an upload were not found, or servers may read them differently.
    pub const MULTIPART: Self = Self(128);
    /// An object has a key twice. The origin decides which value counts.
    pub const DUPLICATE: Self = Self(256);
    /// The text was too expensive to search: some regexes did not run.
    pub const SEARCH_BUDGET: Self = Self(512);

    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Returns whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names of the flags that are set: values of `hedgerow.body.unreadable`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [&str; 10] = [
            "empty",
            "syntax",
            "truncated",
            "encoding",
            "inflate",
            "depth",
            "entries",
            "multipart",
            "duplicate",
            "search_budget",
        ];
        NAMES
            .into_iter()
            .enumerate()
            .filter(move |(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, name)| name)
    }

    /// Adds the errors of a JSON reader. A body that exceeds the scan window is not reported as
    /// truncated: the cut is the filter's.
    pub(crate) fn record_json_errors(&mut self, errors: JsonErrors, exceeds_window: bool) {
        if errors.syntax {
            self.insert(Self::SYNTAX);
        }
        if errors.truncated && !exceeds_window {
            self.insert(Self::TRUNCATED);
        }
    }
}
