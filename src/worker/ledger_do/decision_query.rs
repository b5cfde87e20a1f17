//! Queries for decisions: the sampled ones, the enforced ones, or one decision by its request id.
//! Each answer says how many decisions of the period were counted, so that nobody takes a part of
//! the decisions for all of them.

use std::collections::HashMap;

use super::Ledger;
use crate::ledger_do::counters::{ENFORCED, SCORING_FAILED};
use crate::ledger_do::decisions::{DecisionMatches, RETENTION_SECONDS};
use crate::ledger_do::period::Period;
use crate::ledger_do::rollup::HOUR_RETENTION_SECONDS;
use crate::platform::clock::now_ms;

/// Kinds of counters that together count all decisions.
const ALL_KINDS: &[&str] = &["request", SCORING_FAILED];

/// Kinds of counters that count the enforced decisions.
const ENFORCED_KINDS: &[&str] = &[ENFORCED];

/// Bytes of a request id.
const REQUEST_ID_BYTES: usize = 36;

impl Ledger {
    /// Returns the decisions that match a query: the enforced ones if it has the parameter
    /// `enforced`, otherwise the sampled ones. A query with the parameter `id` also finds the
    /// enforced decision with this id.
    pub(super) fn find_decisions(
        &self,
        query: &HashMap<String, String>,
    ) -> worker::Result<DecisionMatches> {
        let mut matches = if query.contains_key("enforced") {
            self.find_enforced(query)?
        } else {
            self.find_sampled(query)?
        };
        if let Some(id) = query.get("id").filter(|_| matches.decisions.is_empty()) {
            let found = self.enforced.borrow_mut().find_by_id(&self.sql(), id, now_ms())?;
            let found = found.filter(|decision| decision.index.matches_query(query));
            matches.decisions.extend(found.map(|decision| (decision.index.at, decision.text)));
        }
        Ok(matches)
    }

    fn find_sampled(&self, query: &HashMap<String, String>) -> worker::Result<DecisionMatches> {
        let now = now_ms();
        let period = Period::of_query(query, (now / 1_000.0) as u64, RETENTION_SECONDS);
        let counted = self.count_period(&period, ALL_KINDS)?;
        let mut decisions = self.decisions.borrow_mut();
        decisions.restore(&self.sql(), now)?;
        let kept = decisions.count_in(&period);
        Ok(DecisionMatches { kept, counted, ..decisions.find(query, now) })
    }

    fn find_enforced(&self, query: &HashMap<String, String>) -> worker::Result<DecisionMatches> {
        let (now, sql) = (now_ms(), self.sql());
        let mut enforced = self.enforced.borrow_mut();
        let max_age = enforced.retention_seconds(&sql)?.min(HOUR_RETENTION_SECONDS);
        let period = Period::of_query(query, (now / 1_000.0) as u64, max_age);
        // The caller looks up a whole id, without reading the list.
        let is_lookup = query.get("id").is_some_and(|id| id.len() >= REQUEST_ID_BYTES);
        let (decisions, searched_to) =
            if is_lookup { (Vec::new(), None) } else { enforced.find(&sql, query, now)?.finish() };
        Ok(DecisionMatches {
            decisions,
            stored: usize::try_from(enforced.stored_count(&sql)?).unwrap_or(usize::MAX),
            kept: enforced.count_in(&sql, &period)?,
            counted: self.count_period(&period, ENFORCED_KINDS)?,
            searched_to,
        })
    }

    /// Returns the sum of the counters of `kinds` in a period.
    fn count_period(&self, period: &Period, kinds: &'static [&'static str]) -> worker::Result<u64> {
        let query = (*period, kinds);
        let stored =
            self.cached(|cache| &mut cache.sums, &query, || self.read_sum(period, kinds))?;
        let (start, minute) = &*self.current_minute.borrow();
        if !(period.from..period.to).contains(start) {
            return Ok(stored);
        }
        let is_selected = |key: &[String]| key.first().is_some_and(|kind| kinds.contains(&&**kind));
        let current = minute.iter().filter(|(key, _)| is_selected(key));
        Ok(stored.saturating_add(current.map(|(_, count)| count).sum()))
    }
}
