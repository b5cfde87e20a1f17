//! The queue of account names: isolates report them, and the ledger sends them to the registry.
//! This file also has the lookup of the account that sent a request.

use hedgerow_core::api::LabelQuery;
use hedgerow_core::identity::mapping::NamedAccount;
use worker::Response;

use super::Ledger;
use crate::platform::clock::now_ms;
use crate::platform::log;
use crate::registry_do::client;
use crate::registry_do::principals::NamesReport;

/// Maximum number of names that wait for the registry. Further names are dropped. An isolate
/// reports a name again if it is not published after 25 minutes.
const MAX_QUEUED_NAMES: usize = 1_000;

impl Ledger {
    /// Queues names that an isolate reported. `labels` is whether the isolate's policy has
    /// `labels`.
    pub(super) fn queue_names(&self, names: Vec<NamedAccount>, labels: bool) {
        let mut queued = self.names.borrow_mut();
        if names.is_empty() {
            return;
        }
        queued.labels = labels;
        let room = MAX_QUEUED_NAMES.saturating_sub(queued.names.len());
        queued.names.extend(names.into_iter().take(room));
    }

    /// Sends the queued names to the registry. If the call fails, the names stay queued.
    pub(super) async fn send_names(&self) {
        let report = self.names.take();
        if report.names.is_empty() {
            return;
        }
        let body = serde_json::to_string(&report).unwrap_or_default();
        let caller = serde_json::json!({ "actor": "ledger" });
        if let Err(error) = client::post(&self.settings, "/names", &caller, &body).await {
            log::registry_event("ledger", Some(&error.message));
            let NamesReport { names, labels, .. } = report;
            self.queue_names(names, labels);
        }
    }

    /// Answers with pairs of request id and account, for the request ids in `body` that have a
    /// stored decision. The account is null if the request had none. Answers with 400 if `body` is
    /// malformed.
    pub(super) fn senders(&self, body: &str) -> worker::Result<Response> {
        let Ok(LabelQuery { ids }) = serde_json::from_str(body) else {
            return Response::error("invalid request ids", 400);
        };
        let mut decisions = self.decisions.borrow_mut();
        decisions.restore(&self.sql(), now_ms())?;
        Response::from_json(&decisions.senders(&ids))
    }
}
