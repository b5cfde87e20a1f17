//! `/principals`: stores the names that the operator gives accounts and tenants. This file also
//! adds labels (names in plain text, if the policy sets `labels`) to decisions.

use std::collections::{BTreeSet, HashMap};

use hedgerow_core::api::{
    LabelQuery, Labels, PrincipalEntry, PrincipalOutcome, PrincipalStatus, PrincipalsResult,
    PrincipalsUpload,
};
use hedgerow_core::identity::mapping::{NamedAccount, label_of};
use serde_json::{Value, json};
use web_sys::{Request, Response};

use crate::admin_api::error::ApiError;
use crate::isolate::active_rules;
use crate::ledger_do::client::fetch_senders;
use crate::platform::clock::now_seconds;
use crate::platform::settings::Settings;
use crate::registry_do::client;
use crate::registry_do::principals::NamesReport;
use crate::request::response::json_response;
use crate::request::sender::{origin_account_id, tenant_id};

/// Maximum bytes of a body: enough for a thousand entries of the maximum size.
const MAX_BODY_BYTES: usize = 2 << 20;

/// Stores names of accounts, and answers with the outcome of each entry.
///
/// # Errors
/// `invalid`, with all problems of the body; `too_large`, if the body is larger than 2 MiB;
/// `unavailable`, if ACCOUNT_SECRET is missing, or if the ledger or the registry does not answer.
pub async fn handle(
    request: &Request,
    settings: &Settings,
    caller: &Value,
) -> Result<Response, ApiError> {
    let upload = read(request).await?;
    // Load the active policy. An isolate that has served only the admin API so far has the embedded
    // policy, whose `labels` may differ.
    active_rules::refresh_blocking(settings).await;
    let Some(secret) = settings.account_secret.as_deref() else {
        let message = "ACCOUNT_SECRET is missing or too short";
        let remedy = "set it: without it, requests have no accounts";
        return Err(ApiError::new(503, "unavailable", message, remedy));
    };
    let request_ids = upload.principals.iter().filter_map(|entry| entry.request_id.clone());
    let senders = fetch_senders(settings, request_ids.collect()).await;
    let senders = senders.ok_or_else(ApiError::ledger_unavailable)?;
    let (mut principals, mut report) = (Vec::new(), NamesReport::default());
    (report.labels, report.by_operator) = (has_labels(), true);
    for entry in &upload.principals {
        let subject = find_subject(entry, &senders, secret);
        let outcome = match subject {
            Ok(id) => {
                report.names.push(named_account(entry, id.clone(), secret, report.labels));
                PrincipalOutcome { status: PrincipalStatus::Stored, id: Some(id) }
            }
            Err(status) => PrincipalOutcome { status, id: None },
        };
        principals.push(outcome);
    }
    let stored = report.names.len() as u64;
    if stored > 0 {
        let body = serde_json::to_string(&report).unwrap_or_default();
        client::post(settings, "/names", caller, &body).await?;
    }
    Ok(json_response(200, &PrincipalsResult { stored, principals }))
}

/// Reads and checks the body.
async fn read(request: &Request) -> Result<PrincipalsUpload, ApiError> {
    let invalid = |message: String| {
        let remedy =
            "correct the entries, and send all of them again; docs/accounts.md has examples";
        ApiError::new(400, "invalid", message, remedy)
    };
    let copy = request.clone().map_err(|_| invalid("the body was read already".to_owned()))?;
    let text = worker::Request::from(copy).text().await;
    let text = text.map_err(|_| invalid("the body is not UTF-8 text".to_owned()))?;
    if text.len() > MAX_BODY_BYTES {
        let message = "the body is larger than 2 MiB";
        return Err(ApiError::new(413, "too_large", message, "send fewer entries at once"));
    }
    PrincipalsUpload::parse(&text, now_seconds()).map_err(invalid)
}

/// Returns the id of the account that an entry identifies: by the id of a request, else by the
/// account's id, else by the origin's name of the account. `senders` has the account of each known
/// request.
///
/// # Errors
/// [`PrincipalStatus::UnknownRequest`] if `senders` does not have the request;
/// [`PrincipalStatus::NoAccount`] if the request or the entry has no account.
fn find_subject(
    entry: &PrincipalEntry,
    senders: &HashMap<String, Option<String>>,
    secret: &str,
) -> Result<String, PrincipalStatus> {
    let PrincipalEntry { request_id, id, account, .. } = entry;
    if let Some(request_id) = request_id {
        let sender = senders.get(request_id).ok_or(PrincipalStatus::UnknownRequest)?;
        return sender.clone().ok_or(PrincipalStatus::NoAccount);
    }
    let of_name = || origin_account_id(secret, account.as_deref()?);
    id.clone().or_else(of_name).ok_or(PrincipalStatus::NoAccount)
}

/// Returns the names that an entry gives the account `id`: as hashes, and as labels if
/// `has_labels`.
fn named_account(
    entry: &PrincipalEntry,
    id: String,
    secret: &str,
    has_labels: bool,
) -> NamedAccount {
    let label = |name: &Option<String>| name.as_deref().filter(|_| has_labels).and_then(label_of);
    let account = entry.account.as_deref().and_then(|name| origin_account_id(secret, name));
    NamedAccount {
        account,
        tenant: entry.tenant.as_deref().and_then(|name| tenant_id(secret, name)),
        expires: entry.expires_at(now_seconds()),
        account_label: label(&entry.account),
        tenant_label: label(&entry.tenant),
        id,
    }
}

/// Returns whether the policy in force sets `labels`: names are then also stored in plain text.
fn has_labels() -> bool {
    active_rules::current().is_ok_and(|rules| rules.active().policy().identity.labels)
}

/// Adds the labels of accounts and tenants to the JSON of decisions, if the policy sets `labels`.
/// If the registry does not answer, the decisions get no labels.
pub async fn add_labels(decisions: &mut [Value], settings: &Settings, caller: &Value) {
    if !has_labels() {
        return;
    }
    let id = |decision: &Value, name: &str| {
        decision.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let ids: BTreeSet<String> = decisions
        .iter()
        .flat_map(|decision| ["account", "tenant"].map(|name| id(decision, name)))
        .flatten()
        .collect();
    let body = json!(LabelQuery { ids: ids.into_iter().collect() }).to_string();
    let Ok(answer) = client::post(settings, "/labels", caller, &body).await else { return };
    let Ok(Labels { labels }) = serde_json::from_value(answer) else { return };
    for decision in decisions {
        for (name, member) in [("account", "account_label"), ("tenant", "tenant_label")] {
            let label = id(decision, name).and_then(|id| labels.get(&id));
            if let (Some(label), Some(members)) = (label, decision.as_object_mut()) {
                members.insert(member.to_owned(), json!(label));
            }
        }
    }
}
