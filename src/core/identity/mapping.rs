//! Statements of the origin or the operator about accounts: mappings of account ids to names, and
//! labels. The registry publishes them in one value of KV, which isolates read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Maximum number of mappings in a value, and also of labels. A full value has about a megabyte.
pub const MAX_MAPPINGS: usize = 10_000;

/// Maximum bytes of a value.
pub const MAX_MAPPINGS_BYTES: usize = 4 << 20;

/// Maximum number of characters of a label. Further characters are cut off.
pub const MAX_LABEL_CHARS: usize = 64;

/// A statement about an account. Ids are keyed hashes: 32 hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedAccount {
    /// Id of the account that the statement is about.
    pub id: String,
    /// Id of the account to which `id` belongs; `None` if the statement names none.
    pub account: Option<String>,
    /// Id of the tenant to which `id` belongs; `None` if the statement names none.
    pub tenant: Option<String>,
    /// Time at which the statement ends, in seconds since the epoch.
    pub expires: u64,
    /// Label of `account`; `None` unless the policy has `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_label: Option<String>,
    /// Label of `tenant`; `None` unless the policy has `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_label: Option<String>,
}

/// The account and the tenant that an id stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Id of the account; `None` if it is not known.
    pub account: Option<String>,
    /// Id of the tenant; `None` if it is not known.
    pub tenant: Option<String>,
    /// Time at which the mapping ends, in seconds since the epoch.
    pub expires: u64,
}

/// All mappings and labels, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    by_id: BTreeMap<String, Mapping>,
    labels: BTreeMap<String, String>,
}

/// The value in KV.
#[derive(Serialize, Deserialize)]
struct Packed {
    /// Number of the publication, which increases with each publication.
    number: u64,
    /// Id, account, tenant and end of each mapping.
    mappings: Vec<(String, Option<String>, Option<String>, u64)>,
    labels: BTreeMap<String, String>,
}

impl Mappings {
    /// Adds a mapping, which replaces a mapping of the same id. Does nothing if there are already
    /// [`MAX_MAPPINGS`] other mappings.
    pub fn insert(&mut self, id: String, mapping: Mapping) {
        if self.by_id.len() < MAX_MAPPINGS || self.by_id.contains_key(&id) {
            self.by_id.insert(id, mapping);
        }
    }

    /// Adds a label, which replaces a label of the same id. Does nothing if there are already
    /// [`MAX_MAPPINGS`] other labels.
    pub fn insert_label(&mut self, id: String, label: String) {
        if self.labels.len() < MAX_MAPPINGS || self.labels.contains_key(&id) {
            self.labels.insert(id, label);
        }
    }

    /// Returns the mapping of an id; `None` if there is none, or if it has ended at `now`, in
    /// seconds since the epoch.
    pub fn get(&self, id: &str, now: u64) -> Option<&Mapping> {
        self.by_id.get(id).filter(|mapping| now < mapping.expires)
    }

    /// Returns the label of an account or a tenant; `None` if it has none.
    pub fn label(&self, id: &str) -> Option<&str> {
        self.labels.get(id).map(String::as_str)
    }

    /// Encodes the value for KV; `number` is the number of the publication.
    pub fn encode(self, number: u64) -> Vec<u8> {
        let row = |(id, Mapping { account, tenant, expires })| (id, account, tenant, expires);
        let mappings = self.by_id.into_iter().map(row).collect();
        let packed = Packed { number, mappings, labels: self.labels };
        serde_json::to_vec(&packed).unwrap_or_default()
    }

    /// Decodes a value of KV. Returns the number of the publication, and the mappings.
    ///
    /// # Errors
    /// If the value is malformed. Rows beyond [`MAX_MAPPINGS`] are left out.
    pub fn decode(bytes: &[u8]) -> Result<(u64, Self), Error> {
        let packed: Packed = serde_json::from_slice(bytes).map_err(|_| {
            Error::new("the names of accounts in KV are malformed", "publish them again")
        })?;
        let mut mappings = Self::default();
        for (id, account, tenant, expires) in packed.mappings {
            mappings.insert(id, Mapping { account, tenant, expires });
        }
        packed.labels.into_iter().for_each(|(id, text)| mappings.insert_label(id, text));
        Ok((packed.number, mappings))
    }
}

/// Returns the account and the tenant of an id; `None` if the id has no mapping. If the mapping of
/// the id names another account, the mapping of that account takes precedence, and the mapping of
/// the id completes it. The result ends as soon as one of them ends. `find` returns the mapping of
/// an id. Only these two steps are made, so that mappings that refer to each other cause no endless
/// loop.
pub fn resolve(id: &str, find: impl Fn(&str) -> Option<Mapping>) -> Option<Mapping> {
    let own = find(id)?;
    let Some(next) = own.account.as_deref().filter(|account| *account != id).and_then(&find) else {
        return Some(own);
    };
    Some(Mapping {
        account: next.account.or(own.account),
        tenant: next.tenant.or(own.tenant),
        expires: own.expires.min(next.expires),
    })
}

/// Returns the label of a name: the first [`MAX_LABEL_CHARS`] of its visible characters. Characters
/// that are invisible or change the direction of text are left out. `None` if nothing is left.
pub fn label_of(name: &str) -> Option<String> {
    let visible = name.trim().chars().filter(|character| is_visible(*character));
    let label: String = visible.take(MAX_LABEL_CHARS).collect();
    let label = label.trim();
    (!label.is_empty()).then(|| label.to_owned())
}

/// Returns whether a label may have a character: no control, format or private character.
fn is_visible(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}'
            | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(account: Option<&str>, tenant: Option<&str>) -> Mapping {
        Mapping {
            account: account.map(str::to_owned),
            tenant: tenant.map(str::to_owned),
            expires: 100,
        }
    }

    fn mappings() -> Mappings {
        let mut mappings = Mappings::default();
        let rows = [
            ("key", mapping(Some("acme"), None)),
            ("acme", mapping(None, Some("group"))),
            ("pod", mapping(None, Some("shop"))),
            ("moved", mapping(Some("acme"), Some("old"))),
            ("self", mapping(Some("self"), Some("own"))),
            ("left", mapping(Some("right"), None)),
            ("right", mapping(Some("left"), None)),
        ];
        rows.into_iter().for_each(|(id, mapping)| mappings.insert(id.to_owned(), mapping));
        mappings.insert_label("acme".to_owned(), "ACME & Söhne".to_owned());
        mappings
    }

    #[test]
    fn an_account_resolves_in_at_most_two_steps() {
        let mappings = mappings();
        let rows = [
            ("key", Some((Some("acme"), Some("group")))),
            ("acme", Some((None, Some("group")))),
            ("pod", Some((None, Some("shop")))),
            ("moved", Some((Some("acme"), Some("group")))),
            ("self", Some((Some("self"), Some("own")))),
            ("left", Some((Some("left"), None))),
            ("unknown", None),
        ];
        for (id, expected) in rows {
            let found = resolve(id, |id| mappings.get(id, 99).cloned());
            let found =
                found.as_ref().map(|found| (found.account.as_deref(), found.tenant.as_deref()));
            assert_eq!(found, expected, "{id}");
            assert_eq!(resolve(id, |id| mappings.get(id, 100).cloned()), None, "{id} has ended");
        }
    }

    #[test]
    fn values_decode_to_what_was_encoded_and_hostile_values_are_errors() {
        let expected = mappings();
        let bytes = expected.clone().encode(7);
        assert_eq!(Mappings::decode(&bytes).unwrap(), (7, expected));
        for hostile in ["", "[]", "{}", "{\"number\":-1,\"mappings\":[],\"labels\":{}}", "\u{0}"] {
            assert!(Mappings::decode(hostile.as_bytes()).is_err(), "{hostile}");
        }
    }

    #[test]
    fn mappings_and_labels_are_bounded() {
        let mut mappings = Mappings::default();
        for number in 0..MAX_MAPPINGS + 5 {
            mappings.insert(number.to_string(), Mapping { expires: 1, ..Mapping::default() });
            mappings.insert_label(number.to_string(), "x".repeat(MAX_LABEL_CHARS));
        }
        assert!(mappings.get("0", 0).is_some());
        assert!(mappings.get(&MAX_MAPPINGS.to_string(), 0).is_none());
        mappings.insert("0".to_owned(), mapping(Some("a"), None));
        assert_eq!(mappings.get("0", 0), Some(&mapping(Some("a"), None)));
        assert!(mappings.encode(1).len() < MAX_MAPPINGS_BYTES);
    }

    #[test]
    fn labels_are_short_visible_text() {
        let long = "ä".repeat(MAX_LABEL_CHARS + 1);
        let rows = [
            (" acme/7 ", Some("acme/7".to_owned())),
            ("<b>\"ACME\"</b>", Some("<b>\"ACME\"</b>".to_owned())),
            ("株式会社 😀", Some("株式会社 😀".to_owned())),
            ("a\u{202e}b\u{200b}c\u{feff}\u{7}\u{e0041}d", Some("abcd".to_owned())),
            ("\u{200b} \u{202e}", None),
            ("", None),
            (&long, Some("ä".repeat(MAX_LABEL_CHARS))),
        ];
        for (name, expected) in rows {
            assert_eq!(label_of(name), expected, "{name:?}");
        }
    }
}
