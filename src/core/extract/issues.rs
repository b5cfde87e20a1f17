//! What went wrong while a body was read: a field of its own, never an error to the client.

use crate::extract::lenient_json::JsonErrors;

/// Why parts of a body were not read, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadIssues(u16);

impl ReadIssues {
    /// No body at all.
    pub const EMPTY_BODY: Self = Self(1);
    /// Something that is not JSON was passed over.
    pub const SYNTAX: Self = Self(2);
    /// The body ended inside a value.
    pub const TRUNCATED: Self = Self(4);
    /// A content encoding, or a coding of characters, that is not read.
    pub const ENCODING: Self = Self(8);
    /// More would come out of decompression than is allowed, or it failed.
    pub const INFLATE: Self = Self(16);
    /// Nested deeper than is read.
    pub const DEPTH: Self = Self(32);
    /// More entries than are read.
    pub const ENTRIES: Self = Self(64);
    /// An upload whose parts were not found.
    pub const MULTIPART: Self = Self(128);
    /// A key that counts once stands twice: which of the two counts is the origin's choice.
    pub const DUPLICATE: Self = Self(256);
    /// Made to be dear to search: not all regexes ran.
    pub const SEARCH_BUDGET: Self = Self(512);

    /// Adds another's bits.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether nothing is wrong.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The values of `hedgerow.body.unreadable`.
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

    /// Notes what a reader met. A body that goes on behind the scan window is not called truncated.
    pub(crate) fn record_json_errors(&mut self, errors: JsonErrors, exceeds_window: bool) {
        if errors.syntax {
            self.insert(Self::SYNTAX);
        }
        if errors.truncated && !exceeds_window {
            self.insert(Self::TRUNCATED);
        }
    }
}
