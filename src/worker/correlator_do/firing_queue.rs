//! The queue of firings that the registry does not have yet: the table `firing`.
//!
//! The first page of the queue is posted before a batch is answered, because the answer contains
//! the clusters of new indicators, which the registry assigns. The alarm posts all pages.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use worker::{Method, Request, RequestInit};

use super::Correlator;
use super::firing_report::{FiringReport, FiringsAnswer};
use crate::platform::clock::{now_ms, with_timeout};
use crate::platform::log;
use crate::platform::sql::integer;
use crate::registry_do::client;

/// Deletes the oldest firings of the correlation that has the most firings, and returns their
/// texts. The parameter is the maximum number of firings to delete.
const SQL_DROP_FIRINGS: &str = "
DELETE FROM firing WHERE id IN (
    SELECT id FROM firing WHERE json_extract(text, '$.correlation') = (
        SELECT json_extract(text, '$.correlation') AS name FROM firing
        GROUP BY name ORDER BY COUNT(*) DESC LIMIT 1
    ) ORDER BY id LIMIT ?
) RETURNING text";

/// Maximum number of firings in the queue.
const MAX_QUEUED_FIRINGS: u64 = 5_000;

/// Maximum number of firings in one call to the registry.
const PAGE: u64 = 100;

/// Timeout of one call to the registry. It is short because an isolate waits for the first call.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(3);

/// Time after which another event may post firings, if the platform ended the posting event before
/// it finished.
const POSTING_LEASE: Duration = Duration::from_secs(6);

/// The first and the longest pause after failed calls to the registry.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(64);

/// A row of the queue.
#[derive(Deserialize)]
struct QueuedFiring {
    id: u64,
    /// A [`FiringReport`] as JSON.
    text: String,
}

impl Correlator {
    /// Adds firings to the queue. If the queue is too long, drops the oldest firings of the
    /// correlation with the most firings. The session forgets that the dropped firings fired, so
    /// that they fire again at the next event.
    pub(super) fn enqueue_firings(&self, firings: &[FiringReport]) -> Result<(), String> {
        for firing in firings {
            let text = serde_json::to_string(firing).unwrap_or_default();
            self.exec("INSERT INTO firing (text) VALUES (?)", vec![text.into()])?;
        }
        let mut dropped = 0_usize;
        while !firings.is_empty() {
            let excess = self.queued_count()?.saturating_sub(MAX_QUEUED_FIRINGS);
            let texts = match excess {
                0 => break,
                count => self.drop_firings(count)?,
            };
            dropped = dropped.saturating_add(texts.len());
            if texts.is_empty() || !self.forget_firings(&texts) {
                break;
            }
        }
        if dropped > 0 {
            let error = format!("{dropped} firings dropped: the queue for the registry is full");
            log::correlator_error("firings", &error);
        }
        Ok(())
    }

    /// Makes the session forget that the dropped firings fired. Returns false if no session is in
    /// memory.
    fn forget_firings(&self, texts: &[String]) -> bool {
        let mut session = self.session.borrow_mut();
        let Some(session) = session.as_mut() else { return false };
        let firings = texts.iter().filter_map(|text| serde_json::from_str(text).ok());
        for FiringReport { correlation, key, .. } in firings {
            session.forget_firing(&correlation, &key);
        }
        true
    }

    /// Calls `Session::refuse_firing` for those of `firings` that the registry refused. `refused`
    /// has their names. They fire again from the next minute on, when the registry may have room,
    /// or as soon as the group has more accounts.
    fn suppress_refused(&self, firings: &[Value], refused: &BTreeSet<(String, String)>) {
        let mut session = self.session.borrow_mut();
        let Some(session) = session.as_mut().filter(|_| !refused.is_empty()) else { return };
        for firing in firings {
            let Ok(report) = FiringReport::deserialize(firing) else { continue };
            if refused.contains(&report.name()) {
                let FiringReport { correlation, key, accounts, .. } = &report;
                session.refuse_firing(correlation, key, accounts.len());
            }
        }
    }

    fn queued_count(&self) -> Result<u64, String> {
        #[derive(Deserialize)]
        struct Row {
            count: u64,
        }
        let rows: Vec<Row> = self.rows("SELECT COUNT(*) AS count FROM firing", Vec::new())?;
        Ok(rows.first().map_or(0, |row| row.count))
    }

    /// Deletes at most `count` firings and returns their texts.
    fn drop_firings(&self, count: u64) -> Result<Vec<String>, String> {
        #[derive(Deserialize)]
        struct Row {
            text: String,
        }
        let rows: Vec<Row> = self.rows(SQL_DROP_FIRINGS, vec![integer(count)])?;
        Ok(rows.into_iter().map(|row| row.text).collect())
    }

    /// Posts at most `max_pages` pages of the queue to the registry, and returns the merged
    /// answers. Stops at the first failed call; the alarm posts the remaining pages. While another
    /// event posts, and during the pause after a failure, posts nothing and returns an empty
    /// answer.
    pub(super) async fn post_firings(&self, max_pages: usize) -> FiringsAnswer {
        let mut answer = FiringsAnswer::default();
        let now = now_ms();
        if !self.posting_backoff.borrow().is_due(now)
            || !self.posting.borrow_mut().try_acquire(now, POSTING_LEASE)
        {
            return answer;
        }
        let result = self.post_pages(max_pages, &mut answer).await;
        self.posting.borrow_mut().release();
        let mut backoff = self.posting_backoff.borrow_mut();
        match result {
            Ok(()) => backoff.record_success(now_ms(), Duration::ZERO),
            Err(error) => {
                let delay = backoff.record_failure(now_ms(), MIN_BACKOFF, MAX_BACKOFF);
                // Only the first failure in a row is logged.
                if delay == MIN_BACKOFF {
                    log::correlator_error("registry", &error);
                }
            }
        }
        answer
    }

    async fn post_pages(&self, max_pages: usize, answer: &mut FiringsAnswer) -> Result<(), String> {
        for _ in 0..max_pages {
            self.posting.borrow_mut().renew(now_ms(), POSTING_LEASE);
            let queued = self.queued_firings()?;
            let Some(last_id) = queued.last().map(|firing| firing.id) else { return Ok(()) };
            let firings: Vec<Value> = queued
                .iter()
                .filter_map(|firing| serde_json::from_str(&firing.text).ok())
                .collect();
            let settings = self.session.borrow().as_ref().map(|session| session.policy);
            let refused = self.refused_by_quota.get();
            let body = json!({
                "firings": firings,
                "settings": settings,
                "refused": refused,
                "shard": self.shard_index.get(),
                "queued": self.queued_count()?,
                "queued_observations": self.queued_observations.take(),
            });
            let response = with_timeout(self.post_page(&body), REGISTRY_TIMEOUT).await;
            let FiringsAnswer { clusters, refused: page_refused } =
                response.ok_or("the registry does not answer")??;
            self.refused_by_quota.update(|count| count.saturating_sub(refused));
            answer.clusters.extend(clusters);
            self.suppress_refused(&firings, &page_refused);
            answer.refused.extend(page_refused);
            self.exec("DELETE FROM firing WHERE id <= ?", vec![integer(last_id)])?;
        }
        Ok(())
    }

    /// Posts a page, and returns the answer; an empty answer if the registry rejects the page.
    ///
    /// # Errors
    /// If the registry does not answer, or answers with a status other than 200 and 4xx.
    async fn post_page(&self, body: &Value) -> Result<FiringsAnswer, String> {
        let unavailable = |_| "the registry does not answer".to_owned();
        let stub = client::stub(&self.settings).map_err(|error| error.message)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(body.to_string().into()));
        let request =
            Request::new_with_init("https://registry/firings", &init).map_err(unavailable)?;
        let mut response = stub.fetch_with_request(request).await.map_err(unavailable)?;
        match response.status_code() {
            200 => response.json().await.map_err(unavailable),
            // The registry will never accept this page: drop it, so that the next page can be sent.
            status @ 400..=499 => {
                let error = format!("the registry rejected firings with status {status}");
                log::correlator_error("registry", &error);
                Ok(FiringsAnswer::default())
            }
            status => Err(format!("the registry answered with status {status}")),
        }
    }

    /// Returns the first page of the queue.
    fn queued_firings(&self) -> Result<Vec<QueuedFiring>, String> {
        self.rows("SELECT id, text FROM firing ORDER BY id LIMIT ?", vec![integer(PAGE)])
    }

    /// Returns whether the queue can be read and is not empty.
    pub(super) fn has_queued_firings(&self) -> bool {
        self.queued_firings().is_ok_and(|firings| !firings.is_empty())
    }
}
