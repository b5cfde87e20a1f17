//! Completeness: the share of a request that was scored, and the reasons why the rest was not
//! scored.
#![deny(clippy::arithmetic_side_effects)]

use bitflags::bitflags;

use crate::extract::issues::ReadIssues;
use crate::http::envelope::{Envelope, ReadStop};
use crate::http::route::Endpoint;

bitflags! {
    /// The reasons why a part of a request was not scored.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct UnscoredReasons: u16 {
        /// The client stopped sending, or sent too slowly.
        const LATE = 1 << 0;
        /// The rest of the body was not read, because the isolate held too many bytes of other
        /// bodies.
        const CROWDED = 1 << 1;
        /// The body, its text, its batch or its nesting exceeds a limit.
        const WINDOW = 1 << 2;
        /// A content encoding or character set was not decoded, or was decoded only in part.
        const ENCODING = 1 << 3;
        /// The body, or a part of it, is in a binary format that is not read.
        const OPAQUE = 1 << 4;
        /// The request exceeded its work budget (see [`WorkBudget`](crate::work::WorkBudget)).
        const COSTLY = 1 << 5;
        /// The request holds media or other files that are not text; their content was not scored.
        const ATTACHMENT = 1 << 6;
        /// The path is not a known endpoint, so the meaning of the body was guessed.
        const UNKNOWN_PATH = 1 << 7;
        /// The messages of a WebSocket were passed on without scoring.
        const WEBSOCKET = 1 << 8;
    }
}

impl UnscoredReasons {
    /// The flags with their names in decisions, fields and counters.
    pub const NAMES: [(Self, &str); 9] = [
        (Self::LATE, "late"),
        (Self::CROWDED, "crowded"),
        (Self::WINDOW, "window"),
        (Self::ENCODING, "encoding"),
        (Self::OPAQUE, "opaque"),
        (Self::COSTLY, "costly"),
        (Self::ATTACHMENT, "attachment"),
        (Self::UNKNOWN_PATH, "unknown_path"),
        (Self::WEBSOCKET, "websocket"),
    ];

    /// Returns the names of the flags that are set: values of `hedgerow.body.unscored`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

impl From<ReadStop> for UnscoredReasons {
    fn from(read_stop: ReadStop) -> Self {
        match read_stop {
            ReadStop::Late => Self::LATE,
            ReadStop::Crowded => Self::CROWDED,
        }
    }
}

/// The share of a request that was scored, and the reasons why the rest was not scored.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Completeness {
    /// Reasons why a part was not scored; empty if the whole request was scored.
    pub reasons: UnscoredReasons,
    /// Share of the body's bytes that were scored, from 0 to 1; `None` if the share is unknown, for
    /// example because the size of the rest is unknown.
    pub scored_share: Option<f64>,
}

impl Completeness {
    /// Derives the completeness of a request. The inputs are the `issues` of extraction, the
    /// `endpoint`, and the byte counts and the stop reason of reading in `envelope`.
    pub fn new(envelope: &Envelope<'_>, endpoint: Endpoint, issues: ReadIssues) -> Self {
        let mut reasons = reasons_of_issues(issues);
        match envelope.read_stop {
            Some(read_stop) => reasons.insert(read_stop.into()),
            None if envelope.unscanned_bytes > 0 => reasons.insert(UnscoredReasons::WINDOW),
            None => {}
        }
        if endpoint == Endpoint::Unknown {
            reasons.insert(UnscoredReasons::UNKNOWN_PATH);
        }
        Self { reasons, scored_share: scored_share(envelope, issues, reasons) }
    }
}

/// Returns the reasons that follow from the issues of extraction.
fn reasons_of_issues(issues: ReadIssues) -> UnscoredReasons {
    const ROWS: [(ReadIssues, UnscoredReasons); 5] = [
        (ReadIssues::ENCODING.union(ReadIssues::INFLATE), UnscoredReasons::ENCODING),
        (ReadIssues::OPAQUE, UnscoredReasons::OPAQUE),
        (ReadIssues::COSTLY, UnscoredReasons::COSTLY),
        (ReadIssues::ATTACHMENT, UnscoredReasons::ATTACHMENT),
        (LIMIT_ISSUES, UnscoredReasons::WINDOW),
    ];
    let reasons = ROWS.into_iter().filter(|(flags, _)| issues.intersects(*flags));
    reasons.map(|(_, reason)| reason).collect()
}

/// Issues of extraction that mean that the extraction reached one of its limits.
const LIMIT_ISSUES: ReadIssues =
    ReadIssues::ENTRIES.union(ReadIssues::DEPTH).union(ReadIssues::WINDOW);

/// Returns the share of the body's bytes that were scored: 0 if the encoding is not supported or
/// the format is binary. Returns `None` if the share is unknown, because the body was not decoded,
/// read or searched to its end, or because its size is unknown.
fn scored_share(
    envelope: &Envelope<'_>,
    issues: ReadIssues,
    reasons: UnscoredReasons,
) -> Option<f64> {
    if issues.intersects(ReadIssues::ENCODING.union(ReadIssues::OPAQUE)) {
        return Some(0.0);
    }
    let is_unknown = UnscoredReasons::ENCODING.union(UnscoredReasons::COSTLY);
    if reasons.intersects(is_unknown) || issues.intersects(LIMIT_ISSUES) {
        return None;
    }
    let scanned = envelope.body.len() as f64;
    let total = scanned + envelope.unscanned_bytes as f64;
    // If the number of remaining bytes is unknown, `unscanned_bytes` is 1. Then the share is
    // unknown, too.
    let is_size_unknown = envelope.unscanned_bytes > 0 && envelope.body_size.is_none();
    if is_size_unknown {
        return None;
    }
    Some(if total > 0.0 { scanned / total } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_share_follow_from_what_was_read() {
        let body = [b'x'; 30];
        let envelope = |read_stop, unscanned_bytes, body_size| Envelope {
            body: &body,
            read_stop,
            unscanned_bytes,
            body_size,
            ..Envelope::default()
        };
        let whole = envelope(None, 0, Some(30));
        let chat = Endpoint::OpenaiChat;
        let none = ReadIssues::empty();
        let rows = [
            ("whole", whole.clone(), chat, none, "", Some(1.0)),
            ("late", envelope(Some(ReadStop::Late), 70, Some(100)), chat, none, "late", Some(0.3)),
            ("size unknown", envelope(Some(ReadStop::Late), 1, None), chat, none, "late", None),
            (
                "crowded",
                envelope(Some(ReadStop::Crowded), 30, Some(60)),
                chat,
                none,
                "crowded",
                Some(0.5),
            ),
            ("large", envelope(None, 30, Some(60)), chat, none, "window", Some(0.5)),
            ("encoding", whole.clone(), chat, ReadIssues::ENCODING, "encoding", Some(0.0)),
            ("bomb", whole.clone(), chat, ReadIssues::INFLATE, "encoding", None),
            ("binary", whole.clone(), chat, ReadIssues::OPAQUE, "opaque", Some(0.0)),
            ("costly", whole.clone(), chat, ReadIssues::COSTLY, "costly", None),
            ("picture", whole.clone(), chat, ReadIssues::ATTACHMENT, "attachment", Some(1.0)),
            ("broken JSON", whole.clone(), chat, ReadIssues::SYNTAX, "", Some(1.0)),
            ("long text", whole.clone(), chat, ReadIssues::WINDOW, "window", None),
            ("guessed", whole, Endpoint::Unknown, none, "unknown_path", Some(1.0)),
        ];
        for (name, envelope, endpoint, issues, reasons, share) in rows {
            let completeness = Completeness::new(&envelope, endpoint, issues);
            let names: Vec<&str> = completeness.reasons.names().collect();
            assert_eq!(
                (names.join(" ").as_str(), completeness.scored_share),
                (reasons, share),
                "{name}"
            );
        }
    }

    #[test]
    fn every_reason_has_a_name() {
        assert_eq!(UnscoredReasons::all().names().count(), UnscoredReasons::NAMES.len());
        let named: UnscoredReasons = UnscoredReasons::NAMES.iter().map(|(flag, _)| *flag).collect();
        assert_eq!(named, UnscoredReasons::all());
    }
}
