//! Lists of addresses, networks, clients, accounts or templates. Each list has a weight.
//!
//! A list acts like a signature: decisions show its name, it has a weight, and policy and
//! exemptions treat it as a signature. It matches if a value of the request is on it.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Borrow;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::extract::Request;
use crate::field::{Field, FieldId};
use crate::http::envelope::Envelope;
use crate::matching::Evidence;

/// Family of all lists, whose weights are capped together.
pub const FAMILY: &str = "list";

/// A list: values that share a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Name `list_<what>`; unique among signatures and lists.
    pub name: String,
    /// Title in one line, for people.
    pub title: String,
    /// Kind of the values.
    pub kind: ListKind,
    /// Weight of evidence in decibans; negative for values that are known to be harmless.
    pub weight: f64,
    /// Values of the list.
    pub entries: Vec<ListEntry>,
}

/// A value on a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListEntry {
    /// Value, in the form of the list's kind.
    pub value: String,
    /// Time at which the entry ends, in seconds since the epoch; `None` if it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Reason for the entry, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The kind of a list's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListKind {
    /// Client addresses and networks: `203.0.113.7`, `2001:db8::/32`.
    Address,
    /// Autonomous systems: `64496`.
    AsNumber,
    /// Hashes of TLS client hellos, in the form of the field `hedgerow.tls.fingerprint`.
    TlsFingerprint,
    /// Account ids, as decisions show them: 32 hex digits.
    Account,
    /// Template keys of user or system text, as indicators show them: 16 hex digits.
    Template,
}

impl ListKind {
    /// All kinds, with their names in TOML.
    pub const ALL: [(&'static str, Self); 5] = [
        ("address", Self::Address),
        ("as_number", Self::AsNumber),
        ("tls_fingerprint", Self::TlsFingerprint),
        ("account", Self::Account),
        ("template", Self::Template),
    ];

    /// Returns whether a value has the form of this kind.
    pub fn accepts(self, value: &str) -> bool {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match self {
            Self::Address => parse_network(value).is_some(),
            Self::AsNumber => value.parse::<u32>().is_ok(),
            Self::TlsFingerprint => !value.trim().is_empty(),
            Self::Account => value.len() == 32 && value.bytes().all(is_hex),
            Self::Template => value.len() == 16 && value.bytes().all(is_hex),
        }
    }
}

/// Compiled lists. A look-up costs one binary search per kind, and for addresses one search per
/// prefix length.
#[derive(Debug, Default)]
pub struct CompiledLists {
    networks: ListTable<(u8, u128)>,
    /// Prefix lengths of the networks, in ascending order. An IPv4 prefix counts as a prefix of a
    /// mapped IPv6 address: its length is 96 more.
    prefix_lengths: Vec<u8>,
    as_numbers: ListTable<u32>,
    tls_fingerprints: ListTable<Box<str>>,
    accounts: ListTable<Box<str>>,
    templates: ListTable<u64>,
}

/// Entries sorted by key. Each has the key, the index of its list, and the time at which it ends,
/// in seconds since the epoch.
type ListTable<K> = Vec<(K, usize, Option<u64>)>;

impl CompiledLists {
    /// Compiles lists. Returns an error if a value does not have the form of its kind.
    pub fn new(lists: &[List]) -> Result<Self, Error> {
        let mut compiled = Self::default();
        for (index, list) in lists.iter().enumerate() {
            for entry in &list.entries {
                compiled.add(index, list.kind, entry).ok_or_else(|| {
                    let problem =
                        format!("'{}' does not fit the kind of list '{}'", entry.value, list.name);
                    Error::new(problem, "see docs/lists.md for the values of each kind")
                })?;
            }
        }
        compiled.networks.sort_unstable();
        compiled.as_numbers.sort_unstable();
        compiled.tls_fingerprints.sort_unstable();
        compiled.accounts.sort_unstable();
        compiled.templates.sort_unstable();
        compiled.prefix_lengths =
            compiled.networks.iter().map(|((length, _), ..)| *length).collect();
        compiled.prefix_lengths.dedup();
        Ok(compiled)
    }

    /// Adds an entry. Returns `None` if its value does not have the form of the kind.
    fn add(&mut self, list_index: usize, kind: ListKind, entry: &ListEntry) -> Option<()> {
        if !kind.accepts(&entry.value) {
            return None;
        }
        let text = || Box::from(entry.value.as_str());
        match kind {
            ListKind::Address => {
                self.networks.push((parse_network(&entry.value)?, list_index, entry.until))
            }
            ListKind::AsNumber => {
                self.as_numbers.push((entry.value.parse().ok()?, list_index, entry.until));
            }
            ListKind::TlsFingerprint => {
                self.tls_fingerprints.push((text(), list_index, entry.until))
            }
            ListKind::Account => self.accounts.push((text(), list_index, entry.until)),
            ListKind::Template => {
                let key = u64::from_str_radix(&entry.value, 16).ok()?;
                self.templates.push((key, list_index, entry.until));
            }
        }
        Some(())
    }

    /// Returns the lists that match the client or the account of a request, each once.
    pub fn client_hits(&self, envelope: &Envelope<'_>) -> Vec<ListHit> {
        let mut hits: Vec<ListHit> = Vec::new();
        let now = envelope.now;
        let mut add = |field: FieldId, value_len: usize, lists: &mut dyn Iterator<Item = usize>| {
            lists.for_each(|list| push_hit(&mut hits, list, field, value_len));
        };
        let client = &envelope.client;
        // The address is parsed only if there are networks to compare with.
        if let Some(text) = client.address.filter(|_| !self.networks.is_empty())
            && let Ok(address) = text.parse::<IpAddr>()
        {
            let bits = address_bits(address);
            for prefix_len in &self.prefix_lengths {
                let key = (*prefix_len, mask(bits, *prefix_len));
                add(FieldId::ClientAddress, text.len(), &mut find_lists(&self.networks, &key, now));
            }
        }
        if let Some(number) = client.as_number {
            let digits = number.checked_ilog10().unwrap_or(0).saturating_add(1) as usize;
            add(FieldId::AsNumber, digits, &mut find_lists(&self.as_numbers, &number, now));
        }
        if let Some(text) = client.tls_fingerprint {
            add(
                FieldId::TlsFingerprint,
                text.len(),
                &mut find_lists(&self.tls_fingerprints, text, now),
            );
        }
        if let Some(text) = envelope.account {
            add(FieldId::Account, text.len(), &mut find_lists(&self.accounts, text, now));
        }
        hits
    }

    /// Returns the lists that match a template key of a request, each once.
    ///
    /// Template keys are expensive to compute, so they are computed only if there is a list of
    /// templates.
    pub fn template_hits(&self, request: &Request<'_>, envelope: &Envelope<'_>) -> Vec<ListHit> {
        let mut hits = Vec::new();
        if self.templates.is_empty() {
            return hits;
        }
        for field in [FieldId::TemplateSystem, FieldId::TemplateUser] {
            for key in request.keyed_hashes(field, &envelope.hash_key) {
                let lists = find_lists(&self.templates, &key, envelope.now);
                lists.for_each(|list| push_hit(&mut hits, list, field, 0));
            }
        }
        hits
    }
}

/// The index of a matching list, and the field whose value is on the list, as evidence.
pub type ListHit = (usize, Evidence);

/// Adds a hit unless the list has a hit already.
fn push_hit(hits: &mut Vec<ListHit>, list: usize, field: FieldId, value_len: usize) {
    if !hits.iter().any(|(existing, _)| *existing == list) {
        hits.push((list, Evidence { field: Field::Known(field), start: 0, end: value_len }));
    }
}

/// Returns the indices of the lists in which an entry with this key has not ended at `now`.
fn find_lists<K: Borrow<Q>, Q: Ord + ?Sized>(
    table: &ListTable<K>,
    key: &Q,
    now: u64,
) -> impl Iterator<Item = usize> {
    let start = table.partition_point(|(entry_key, ..)| entry_key.borrow() < key);
    let equal =
        table.iter().skip(start).take_while(move |(entry_key, ..)| entry_key.borrow() == key);
    equal.filter(move |(.., until)| until.is_none_or(|until| now < until)).map(|(_, list, _)| *list)
}

/// Parses a network, or an address as a network of one address. Returns the prefix length and the
/// masked bits, both as for IPv6. Returns `None` if `text` is neither.
fn parse_network(text: &str) -> Option<(u8, u128)> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let prefix_len = match net {
        IpNet::V4(net) => net.prefix_len().checked_add(96)?,
        IpNet::V6(net) => net.prefix_len(),
    };
    Some((prefix_len, mask(address_bits(net.addr()), prefix_len)))
}

/// Returns the bits of an address as IPv6; IPv4 addresses are mapped.
fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(bits: u128, prefix_len: u8) -> u128 {
    let host_bits = 128_u32.saturating_sub(u32::from(prefix_len));
    bits & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{FieldValue, Request};
    use crate::field::Section;
    use crate::http::envelope::Client;
    use crate::keyed_hash::HashKey;

    fn list(kind: ListKind, values: &[(&str, Option<u64>)]) -> List {
        let entries = values.iter().map(|(value, until)| ListEntry {
            value: (*value).to_owned(),
            until: *until,
            reason: None,
        });
        List {
            name: "list_x".into(),
            title: "X".into(),
            kind,
            weight: 1.0,
            entries: entries.collect(),
        }
    }

    #[test]
    fn clients_and_accounts_hit_their_lists() {
        let lists = [
            list(ListKind::Address, &[("203.0.113.0/24", None), ("2001:db8::/32", None)]),
            list(ListKind::Address, &[("203.0.113.7", Some(100)), ("0.0.0.0/0", Some(50))]),
            list(ListKind::AsNumber, &[("64496", None)]),
            list(ListKind::TlsFingerprint, &[("abc-def-517", None)]),
            list(ListKind::Account, &[("0123456789abcdef0123456789abcdef", None)]),
        ];
        let compiled = CompiledLists::new(&lists).unwrap();
        let address = |text| Client { address: Some(text), ..Client::default() };
        let rows: [(&str, Client<'_>, u64, &[usize]); 10] = [
            ("in a network", address("203.0.113.9"), 60, &[0]),
            ("in a network and a single address", address("203.0.113.7"), 60, &[0, 1]),
            ("after the entry has ended", address("203.0.113.7"), 100, &[0]),
            ("all of IPv4", address("198.51.100.1"), 49, &[1]),
            ("all of IPv4, after the entry has ended", address("198.51.100.1"), 50, &[]),
            ("IPv4 written as IPv6", address("::ffff:203.0.113.9"), 60, &[0]),
            ("IPv6", address("2001:db8:1::1"), 60, &[0]),
            ("IPv6 is not IPv4", address("2001:db9::1"), 0, &[]),
            ("not an address", address("nonsense"), 0, &[]),
            ("AS", Client { as_number: Some(64496), ..Client::default() }, 0, &[2]),
        ];
        for (name, client, now, expected) in rows {
            let envelope = Envelope { client, now, ..Envelope::default() };
            let mut hit_lists: Vec<usize> =
                compiled.client_hits(&envelope).into_iter().map(|(list, _)| list).collect();
            hit_lists.sort_unstable();
            assert_eq!(hit_lists, expected, "{name}");
        }
        let client = Client { tls_fingerprint: Some("abc-def-517"), ..Client::default() };
        let account = Some("0123456789abcdef0123456789abcdef");
        let hits = compiled.client_hits(&Envelope { client, account, ..Envelope::default() });
        assert_eq!(hits.iter().map(|(list, _)| *list).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn a_template_matches_by_any_of_its_keys() {
        let key = HashKey::derive(b"secret");
        let template =
            "answer as a senior surveyor who weighs every claim against two sources and cites them";
        let template_keys = |field, suffix: &str| {
            let text = format!("{template} {suffix}");
            Request::from_values([(field, FieldValue::Text(section_of(field), &text))])
                .keyed_hashes(field, &key)
        };
        fn section_of(name: FieldId) -> Section {
            if name == FieldId::TemplateSystem { Section::System } else { Section::User }
        }
        for field in [FieldId::TemplateSystem, FieldId::TemplateUser] {
            let keys = template_keys(field, "first the north wall of the old barn by the river");
            let other_keys =
                template_keys(field, "then what became of the bridge that the flood had taken");
            let shared = keys.iter().find(|key| other_keys.contains(key)).unwrap();
            let value = format!("{shared:016x}");
            let compiled =
                CompiledLists::new(&[list(ListKind::Template, &[(&value, Some(100))])]).unwrap();
            let rows = [
                ("the same template", template, HashKey::derive(b"secret"), 99, 1),
                ("after the entry has ended", template, HashKey::derive(b"secret"), 100, 0),
                ("another deployment", template, HashKey::derive(b"other"), 99, 0),
                (
                    "another template",
                    "how long do beans take to grow in a cold spring if one waters them a lot",
                    key,
                    99,
                    0,
                ),
            ];
            for (name, text, key, now, expected) in rows {
                let text =
                    format!("{text} then what became of the bridge that the flood had taken");
                let request =
                    Request::from_values([(field, FieldValue::Text(section_of(field), &text))]);
                let envelope = Envelope { hash_key: key, now, ..Envelope::default() };
                let hits = compiled.template_hits(&request, &envelope);
                assert_eq!(hits.len(), expected, "{name}");
                assert!(
                    hits.iter().all(|(_, evidence)| evidence.field == Field::Known(field)),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn values_are_checked_against_their_kind() {
        let rows = [
            (ListKind::Address, "203.0.113.0/33", false),
            (ListKind::Address, "::/0", true),
            (ListKind::AsNumber, "AS64496", false),
            (ListKind::AsNumber, "4294967296", false),
            (ListKind::TlsFingerprint, " ", false),
            (ListKind::Account, "0123456789ABCDEF0123456789abcdef", false),
            (ListKind::Template, "0123456789abcdef", true),
            (ListKind::Template, "+123456789abcdef", false),
        ];
        for (kind, value, accepted) in rows {
            assert_eq!(kind.accepts(value), accepted, "{value}");
            assert_eq!(
                CompiledLists::new(&[list(kind, &[(value, None)])]).is_ok(),
                accepted,
                "{value}"
            );
        }
    }
}
