//! The work budget of one body: how many bytes may be processed to score the body.
//!
//! The size of a body does not limit the cost of scoring it: characters expand, a regex may search
//! a passage many times, and malformed JSON may be read several times. So everything that processes
//! bytes spends from this budget, which grows with the size of the body. If the budget does not
//! suffice, the work is not done, and the request has the issue
//! [`COSTLY`](crate::extract::ReadIssues::COSTLY).
#![deny(clippy::arithmetic_side_effects)]

use std::cell::Cell;

/// The work that may still be done for a body, in bytes.
///
/// Reading and searching have separate budgets. So a text that exhausts the budget for searching is
/// still read and scanned for literals, and so are the following entries of the batch.
#[derive(Clone, Debug)]
pub struct WorkBudget {
    /// Bytes that may be normalised, joined, read again and scanned.
    reading: Cell<usize>,
    /// Bytes that may be searched, by regexes and by look-ahead.
    searching: Cell<usize>,
    /// Bytes that the current entry of a batch may search.
    entry_searching: Cell<usize>,
    /// Maximum bytes of normalised text, including joined parts.
    max_text: usize,
    is_exhausted: Cell<bool>,
    /// Budgets for reading and for searching before any work, in bytes.
    total: (usize, usize),
    /// Bytes that were processed so far.
    spent: Cell<usize>,
}

impl Default for WorkBudget {
    /// Returns a budget without limits, for text that is not from a client.
    fn default() -> Self {
        Self::new(usize::MAX, usize::MAX, usize::MAX)
    }
}

impl WorkBudget {
    /// Returns the budget of a decoded body of `body_len` bytes.
    pub fn for_body(body_len: usize) -> Self {
        let allow = |factor: usize| body_len.saturating_mul(factor).saturating_add(ALLOWANCE);
        let max_text = body_len.saturating_add(body_len / 4).saturating_add(TEXT_ALLOWANCE);
        Self::new(allow(READING_PER_BYTE), allow(SEARCHING_PER_BYTE), max_text)
    }

    fn new(reading: usize, searching: usize, max_text: usize) -> Self {
        Self {
            reading: Cell::new(reading),
            searching: Cell::new(searching),
            entry_searching: Cell::new(usize::MAX),
            max_text,
            is_exhausted: Cell::new(false),
            total: (reading, searching),
            spent: Cell::new(0),
        }
    }

    /// Adds to the budget for a text of `bytes` that is processed together with the body.
    pub(crate) fn add_text(&mut self, bytes: usize) {
        let add = |share: &Cell<usize>, factor: usize| {
            share.set(share.get().saturating_add(bytes.saturating_mul(factor)));
        };
        add(&self.reading, READING_PER_BYTE);
        add(&self.searching, SEARCHING_PER_BYTE);
        // Three times the bytes: once for the text, and twice for its joined parts.
        self.max_text = self.max_text.saturating_add(bytes.saturating_mul(3));
    }

    /// Makes the whole budget available again, so that a benchmark may repeat its work.
    pub fn renew(&self) {
        self.reading.set(self.total.0);
        self.searching.set(self.total.1);
        self.begin_entry();
        self.spent.set(0);
    }

    /// Begins the search of an entry with `text_len` bytes of normalised text.
    pub(crate) fn begin_search(&self, text_len: usize) {
        let share = text_len.saturating_mul(SEARCHING_PER_TEXT_BYTE);
        self.entry_searching.set(share.saturating_add(ENTRY_ALLOWANCE));
    }

    /// Begins the next entry of a batch, which is not marked as exhausted even if an earlier entry
    /// was.
    pub(crate) fn begin_entry(&self) {
        self.entry_searching.set(usize::MAX);
        self.is_exhausted.set(false);
    }

    /// Spends `bytes` of reading. If fewer bytes remain, sets the budget to 0 and returns false.
    pub fn spend_reading(&self, bytes: usize) -> bool {
        self.spend(&[&self.reading], bytes)
    }

    /// Spends `bytes` of searching, from the budget of the body and from the share of the entry. If
    /// fewer bytes remain in one of the two, sets it to 0 and returns false.
    pub fn spend_searching(&self, bytes: usize) -> bool {
        self.spend(&[&self.searching, &self.entry_searching], bytes)
    }

    fn spend(&self, shares: &[&Cell<usize>], bytes: usize) -> bool {
        if shares.iter().any(|share| share.get() < bytes) {
            for share in shares.iter().filter(|share| share.get() < bytes) {
                share.set(0);
            }
            self.is_exhausted.set(true);
            return false;
        }
        shares.iter().for_each(|share| share.set(share.get().saturating_sub(bytes)));
        self.spent.set(self.spent.get().saturating_add(bytes));
        true
    }

    /// Records that a list or a text has reached its limit.
    pub(crate) fn exhaust(&self) {
        self.is_exhausted.set(true);
    }

    /// Returns whether work of the current entry was not done, because a budget or limit did not
    /// suffice.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.get()
    }

    /// Returns whether the current entry may search.
    pub(crate) fn may_search(&self) -> bool {
        self.searching.get().min(self.entry_searching.get()) > 0
    }

    /// Returns the maximum bytes of normalised text.
    pub fn max_text(&self) -> usize {
        self.max_text
    }

    /// Returns the bytes that were processed so far.
    pub fn spent(&self) -> usize {
        self.spent.get()
    }
}

/// Returns the maximum bytes to which a body of `received` bytes may be decompressed in total, even
/// if only the beginning and the end of the output are kept. Compression makes JSON of prompts
/// three to twenty times smaller.
pub(crate) fn max_inflated_in_all(received: usize) -> usize {
    received.saturating_mul(INFLATED_PER_BYTE).saturating_add(INFLATED_ALLOWANCE)
}

/// Bytes that may be decompressed per received byte. Decompressing a byte costs a tenth of scoring
/// a byte, so decompressing all of them costs about as much as scoring the received bytes twice.
const INFLATED_PER_BYTE: usize = 16;

/// Bytes to which any body may be decompressed in total, in addition to [`INFLATED_PER_BYTE`].
const INFLATED_ALLOWANCE: usize = 8 << 20;

/// Bytes that may be read per byte of the body. Each byte is normalised once and scanned once, may
/// be joined to other parts twice, and is read again by the generic dialect if the first reading
/// finds no text.
const READING_PER_BYTE: usize = 8;

/// Bytes that all entries of a body together may search per byte of the body. This is enough for an
/// entry to use its share twice, because its text may be matched a second time by role, and for
/// other entries.
const SEARCHING_PER_BYTE: usize = 20;

/// Bytes that one entry may search per byte of its text, in addition to [`ENTRY_ALLOWANCE`]. No
/// recorded request needs more, but text made of the first words of signatures does.
const SEARCHING_PER_TEXT_BYTE: usize = 8;

/// Bytes that one entry may search, whatever its size.
const ENTRY_ALLOWANCE: usize = 64 << 10;

/// Bytes of reading and of searching that any body has, in addition to those per byte.
const ALLOWANCE: usize = 256 << 10;

/// Bytes of normalised text that any body may have, in addition to one and a quarter of its size.
/// The text of a message with short parts may be three times as long as the message, because its
/// parts are joined.
const TEXT_ALLOWANCE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_searching_have_separate_shares() {
        let work = WorkBudget::for_body(0);
        assert!(work.spend_searching(ALLOWANCE) && !work.is_exhausted());
        assert!(!work.spend_searching(1) && work.is_exhausted() && !work.may_search());
        work.begin_entry();
        assert!(work.spend_reading(ALLOWANCE) && !work.is_exhausted());
        assert!(!work.spend_reading(1) && work.is_exhausted());
        assert_eq!(work.spent(), 2 * ALLOWANCE);
    }

    #[test]
    fn an_entry_searches_its_share_only() {
        let work = WorkBudget::for_body(1 << 20);
        work.begin_search(100);
        assert!(work.spend_searching(ENTRY_ALLOWANCE + 800) && !work.spend_searching(1));
        work.begin_entry();
        work.begin_search(100);
        assert!(work.spend_searching(1), "the next entry has a share of its own");
    }
}
