//! `POST /principals`: names of accounts and tenants, which the operator uploads.

use serde::{Deserialize, Serialize};

use crate::identity::principal::valid;

/// Maximum number of entries in one upload.
const MAX_ENTRIES: usize = 1_000;

/// Maximum bytes of a name or an id.
const MAX_NAME_BYTES: usize = 256;

/// Seconds for which a name is valid if the entry gives no end: 30 days.
const DEFAULT_SECONDS: u64 = 30 * 86_400;

/// Maximum number of seconds for which a name is valid: 366 days.
const MAX_SECONDS: u64 = 366 * 86_400;

/// Maximum number of problems that an error lists.
const MAX_PROBLEMS: usize = 20;

/// The body of `POST /principals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct PrincipalsUpload {
    /// Entries, at most 1,000. If several entries are about one account, the last entry applies.
    pub principals: Vec<PrincipalEntry>,
}

/// A statement about an account. The entry identifies the account by the id of one of its requests,
/// by the account's id or by the account's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(default, deny_unknown_fields)]
pub struct PrincipalEntry {
    /// Request id, as the origin received it: the entry is about the account that sent the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub request_id: Option<String>,
    /// Account id, 32 hexadecimal digits: the entry is about this account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub id: Option<String>,
    /// Name of the account, up to 256 bytes. Without `request_id` and `id`, the entry is about the
    /// account with this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub account: Option<String>,
    /// Name of the tenant, up to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub tenant: Option<String>,
    /// Time at which the statement ends, at most 366 days from now. If it is missing, the statement
    /// ends after 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub expires: Option<u64>,
}

/// The response of `POST /principals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PrincipalsResult {
    /// Number of entries that were stored.
    pub stored: u64,
    /// Outcome of each entry, in the order of the body.
    pub principals: Vec<PrincipalOutcome>,
}

/// The outcome of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct PrincipalOutcome {
    /// Effect of the entry.
    pub status: PrincipalStatus,
    /// Id of the account that the entry is about; null if the account was not found.
    pub id: Option<String>,
}

/// The effect of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum PrincipalStatus {
    /// The statement was stored.
    Stored,
    /// The ledger does not have the request, because the request was not sampled or is too old.
    UnknownRequest,
    /// The request has no account.
    NoAccount,
}

/// The body of the registry's `POST /labels`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelQuery {
    /// Ids of accounts and tenants.
    pub ids: Vec<String>,
}

/// The response of the registry's `POST /labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Labels by id; ids without a label are missing.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl PrincipalsUpload {
    /// Parses and checks a body. `now` is the current time, in seconds since the epoch.
    ///
    /// # Errors
    /// Returns an error if the body is not a list of entries or has more than 1,000 entries.
    /// Otherwise, returns all problems of the entries at once, each with the index of its entry.
    /// After 20 problems, the text gives only the number of the others.
    pub fn parse(text: &str, now: u64) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Entries {
            principals: Vec<serde_json::Value>,
        }
        let entries: Entries = serde_json::from_str(text).map_err(|_| {
            "the body is not a list of names: expected {\"principals\": [{…}, …]}".to_owned()
        })?;
        let count = entries.principals.len();
        if count > MAX_ENTRIES {
            return Err(format!(
                "the body has too many entries ({count}): expected at most {MAX_ENTRIES}"
            ));
        }
        let (mut principals, mut problems) = (Vec::new(), Vec::new());
        for (index, value) in entries.principals.into_iter().enumerate() {
            let entry = PrincipalEntry::deserialize(value).map_err(|error| error.to_string());
            match entry.and_then(|entry| entry.check(now).map(|()| entry)) {
                Ok(entry) => principals.push(entry),
                Err(problem) => problems.push(format!("principals[{index}]: {problem}")),
            }
        }
        if problems.is_empty() {
            return Ok(Self { principals });
        }
        let others = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        let others = if others > 0 { format!("; and {others} more") } else { String::new() };
        Err(format!("{}{others}", problems.join("; ")))
    }
}

impl PrincipalEntry {
    /// Returns the time at which the statement ends. `now` and the result are in seconds since the
    /// epoch.
    pub fn expires_at(&self, now: u64) -> u64 {
        self.expires.unwrap_or(now.saturating_add(DEFAULT_SECONDS))
    }

    /// Checks that the entry identifies one account, gives a name for the account or its tenant,
    /// and ends within 366 days after `now`.
    fn check(&self, now: u64) -> Result<(), String> {
        let is_name = |name: &&String| {
            name.len() <= MAX_NAME_BYTES && valid(name).is_some_and(|valid| valid == name.as_str())
        };
        let names = [("account", &self.account), ("tenant", &self.tenant)];
        for (member, name) in names {
            if name.as_ref().is_some_and(|name| !is_name(&name)) {
                return Err(format!(
                    "'{member}' is not a name: expected 1 to {MAX_NAME_BYTES} bytes without \
                     control characters and outer blanks"
                ));
            }
        }
        if self.request_id.is_some() && self.id.is_some() {
            return Err("'request_id' and 'id' are both set: expected one of them".to_owned());
        }
        if self.request_id.as_ref().is_some_and(|id| !is_name(&id)) {
            return Err("'request_id' is not a request id: expected x-hedgerow-request-id".into());
        }
        if self.id.as_ref().is_some_and(|id| !is_account_id(id)) {
            return Err("'id' is not an account id: expected 32 digits 0-9 and a-f".to_owned());
        }
        let has_subject = self.request_id.is_some() || self.id.is_some();
        match (has_subject, &self.account, &self.tenant) {
            (true, None, None) => return Err("'account' and 'tenant' are missing".to_owned()),
            (false, None, _) => {
                return Err(
                    "the subject is missing: expected 'request_id', 'id' or 'account'".into()
                );
            }
            (false, Some(_), None) => {
                return Err("'tenant' is missing: expected the tenant of 'account'".to_owned());
            }
            _ => {}
        }
        let latest = now.saturating_add(MAX_SECONDS);
        if self.expires.is_some_and(|expires| expires <= now || expires > latest) {
            return Err("'expires' is not in the next 366 days: expected seconds since the epoch"
                .to_owned());
        }
        Ok(())
    }
}

/// Returns whether a text has the form of an account id: 32 hexadecimal digits in lower case.
fn is_account_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn entries_need_one_subject_and_a_name() {
        let id = "0".repeat(32);
        let rows = [
            (json!({"request_id": "r-1", "account": "acme"}), None),
            (json!({"request_id": "r-1", "tenant": "acme"}), None),
            (json!({"id": id, "account": "acme/7", "tenant": "acme"}), None),
            (json!({"account": "acme/7", "tenant": "acme", "expires": NOW + 1}), None),
            (json!({"account": "acme/7"}), Some("'tenant' is missing")),
            (json!({"tenant": "acme"}), Some("the subject is missing")),
            (json!({}), Some("the subject is missing")),
            (json!({"request_id": "r-1"}), Some("'account' and 'tenant'")),
            (json!({"request_id": "r-1", "id": id, "account": "a"}), Some("both set")),
            (json!({"request_id": "", "account": "a"}), Some("not a request id")),
            (json!({"id": "ABC", "account": "a"}), Some("not an account id")),
            (json!({"id": id, "account": " a"}), Some("'account' is not a name")),
            (json!({"id": id, "tenant": "a\nb"}), Some("'tenant' is not a name")),
            (json!({"id": id, "tenant": "x".repeat(257)}), Some("'tenant' is not a name")),
            (json!({"id": id, "tenant": "a", "expires": NOW}), Some("next 366 days")),
            (json!({"id": id, "tenant": "a", "expires": NOW * 2}), Some("next 366 days")),
            (json!({"id": id, "tenants": "a"}), Some("unknown field")),
            (json!({"id": 7, "tenant": "a"}), Some("invalid type")),
            (json!(null), Some("invalid type")),
        ];
        for (entry, expected) in rows {
            let result = PrincipalsUpload::parse(&json!({"principals": [entry]}).to_string(), NOW);
            match (result, expected) {
                (Ok(_), None) => {}
                (Err(problem), Some(expected)) => {
                    assert!(problem.starts_with("principals[0]: "), "{problem}");
                    assert!(problem.contains(expected), "{entry}: {problem}");
                }
                (result, _) => panic!("{entry}: {result:?}"),
            }
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_and_bodies_are_bounded() {
        let bad = vec![json!({"tenant": "a"}); 25];
        let problem =
            PrincipalsUpload::parse(&json!({"principals": bad}).to_string(), NOW).unwrap_err();
        assert_eq!(problem.matches("the subject is missing").count(), MAX_PROBLEMS);
        assert!(problem.contains("principals[19]") && problem.ends_with("; and 5 more"));
        let many = vec![json!({"account": "a", "tenant": "b"}); MAX_ENTRIES + 1];
        for body in [json!({"principals": many}), json!([]), json!({}), json!({"principals": 1})] {
            assert!(PrincipalsUpload::parse(&body.to_string(), NOW).is_err());
        }
        let entry = PrincipalEntry::default();
        assert_eq!(entry.expires_at(NOW), NOW + DEFAULT_SECONDS);
    }
}
