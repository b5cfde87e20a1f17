//! Read issues: the reasons why parts of a body were not read. They become values of a field, and
//! are never returned as an error.

use bitflags::bitflags;

use crate::extract::lenient_json::JsonErrors;

bitflags! {
    /// The reasons why parts of a body were not read.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ReadIssues: u16 {
        /// The request has no body.
        const EMPTY_BODY = 1 << 0;
        /// Bytes that are not JSON were skipped.
        const SYNTAX = 1 << 1;
        /// The body ended inside a value.
        const TRUNCATED = 1 << 2;
        /// The content encoding or the character set is not supported.
        const ENCODING = 1 << 3;
        /// Decoding failed, or did not reach the end of the body.
        const INFLATE = 1 << 4;
        /// A value is nested deeper than the reader follows.
        const DEPTH = 1 << 5;
        /// The batch has more entries than the limit.
        const ENTRIES = 1 << 6;
        /// The parts of an upload were not found, or servers may read them differently.
        const MULTIPART = 1 << 7;
        /// An object has a key twice. The origin decides which value counts.
        const DUPLICATE = 1 << 8;
        /// The request exceeded its budget of work: some text was not normalised or searched.
        const COSTLY = 1 << 9;
        /// The body, or a part of it, is in a binary format that is not read.
        const OPAQUE = 1 << 10;
        /// The request holds media or other files that are not text.
        const ATTACHMENT = 1 << 11;
        /// The text exceeds the scan window: only its beginning and its end were read.
        const WINDOW = 1 << 12;
    }
}

impl ReadIssues {
    /// Returns the names of the flags that are set: values of `hedgerow.body.unreadable`.
    ///
    /// Attachments and long texts have no name here, because they are common and readable. They
    /// appear as reasons in `hedgerow.body.unscored`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(ReadIssues, &str); 11] = [
            (ReadIssues::EMPTY_BODY, "empty"),
            (ReadIssues::SYNTAX, "syntax"),
            (ReadIssues::TRUNCATED, "truncated"),
            (ReadIssues::ENCODING, "encoding"),
            (ReadIssues::INFLATE, "inflate"),
            (ReadIssues::DEPTH, "depth"),
            (ReadIssues::ENTRIES, "entries"),
            (ReadIssues::MULTIPART, "multipart"),
            (ReadIssues::DUPLICATE, "duplicate"),
            (ReadIssues::COSTLY, "costly"),
            (ReadIssues::OPAQUE, "opaque"),
        ];
        NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }

    /// Adds the errors of a JSON reader. If `exceeds_window` is true, the body is not reported as
    /// truncated, because the filter itself cut it.
    pub(crate) fn record_json_errors(&mut self, errors: JsonErrors, exceeds_window: bool) {
        if errors.syntax {
            self.insert(Self::SYNTAX);
        }
        if errors.truncated && !exceeds_window {
            self.insert(Self::TRUNCATED);
        }
    }
}
