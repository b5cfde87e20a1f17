//! Lists: addresses, networks, clients, accounts and templates that weigh by themselves.
//!
//! A list is a signature without a condition: its name stands in decisions, it has a weight, and
//! policy and exemptions treat it as they treat any signature.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Borrow;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::field::{Field, Name};
use crate::matcher::Evidence;
use crate::request::{Envelope, Request};

/// The family of all lists, whose weights are capped together.
pub const FAMILY: &str = "list";

/// Values that share a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// `list_<what>`; unique among signatures.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What the values are.
    pub kind: Kind,
    /// Weight of evidence in decibans; negative for who is known to be harmless.
    pub weight: f64,
    /// The values.
    pub entries: Vec<Entry>,
}

/// A value on a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The value.
    pub value: String,
    /// The end of its last day, in seconds since the epoch, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Why it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the values of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Client addresses and networks: `203.0.113.7`, `2001:db8::/32`.
    Address,
    /// Autonomous systems: `64496`.
    AsNumber,
    /// Hashes over TLS client hellos, as `hedgerow.tls.fingerprint` has them.
    TlsFingerprint,
    /// Accounts, as decisions show them.
    Account,
    /// Template keys, of user or system text, as the indicators of a correlation by template have them.
    Template,
}

impl Kind {
    /// All kinds, by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("address", Self::Address),
        ("as_number", Self::AsNumber),
        ("tls_fingerprint", Self::TlsFingerprint),
        ("account", Self::Account),
        ("template", Self::Template),
    ];

    /// Whether a value is of this kind.
    pub fn fits(self, value: &str) -> bool {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match self {
            Self::Address => network(value).is_some(),
            Self::AsNumber => value.parse::<u32>().is_ok(),
            Self::TlsFingerprint => !value.trim().is_empty(),
            Self::Account => value.len() == 32 && value.bytes().all(is_hex),
            Self::Template => value.len() == 16 && value.bytes().all(is_hex),
        }
    }
}

/// Lists, compiled: a look-up costs a binary search for each kind, and one for each length of prefix.
#[derive(Debug, Default)]
pub struct Lists {
    networks: Table<(u8, u128)>,
    /// The prefix lengths that occur, of IPv6: those of IPv4 count from 96.
    lengths: Vec<u8>,
    as_numbers: Table<u32>,
    tls_fingerprints: Table<Box<str>>,
    accounts: Table<Box<str>>,
    templates: Table<u64>,
}

/// Keys in order, each with its list and the time until which it counts.
type Table<K> = Vec<(K, usize, Option<u64>)>;

impl Lists {
    /// Compiles lists; what an entry's value must be is checked.
    pub fn new(lists: &[List]) -> Result<Self, Error> {
        let mut compiled = Self::default();
        for (number, list) in lists.iter().enumerate() {
            for entry in &list.entries {
                compiled.add(number, list.kind, entry).ok_or_else(|| {
                    let problem =
                        format!("'{}' cannot stand on the list '{}'", entry.value, list.name);
                    Error::new(problem, "see docs/lists.md for what fits each kind")
                })?;
            }
        }
        compiled.networks.sort_unstable();
        compiled.as_numbers.sort_unstable();
        compiled.tls_fingerprints.sort_unstable();
        compiled.accounts.sort_unstable();
        compiled.templates.sort_unstable();
        compiled.lengths = compiled.networks.iter().map(|((length, _), ..)| *length).collect();
        compiled.lengths.dedup();
        Ok(compiled)
    }

    fn add(&mut self, list: usize, kind: Kind, entry: &Entry) -> Option<()> {
        if !kind.fits(&entry.value) {
            return None;
        }
        let text = || Box::from(entry.value.as_str());
        match kind {
            Kind::Address => self.networks.push((network(&entry.value)?, list, entry.until)),
            Kind::AsNumber => {
                self.as_numbers.push((entry.value.parse().ok()?, list, entry.until));
            }
            Kind::TlsFingerprint => self.tls_fingerprints.push((text(), list, entry.until)),
            Kind::Account => self.accounts.push((text(), list, entry.until)),
            Kind::Template => {
                let key = u64::from_str_radix(&entry.value, 16).ok()?;
                self.templates.push((key, list, entry.until));
            }
        }
        Some(())
    }

    /// The lists that whoever asks is on.
    pub fn hits(&self, envelope: &Envelope<'_>) -> Vec<ListHit> {
        let mut hits: Vec<ListHit> = Vec::new();
        let now = envelope.now;
        let mut add = |field: Name, length: usize, lists: &mut dyn Iterator<Item = usize>| {
            lists.for_each(|list| push(&mut hits, list, field, length));
        };
        let client = &envelope.client;
        // An address is parsed only where one is looked for.
        if let Some(text) = client.address.filter(|_| !self.networks.is_empty())
            && let Ok(address) = text.parse::<IpAddr>()
        {
            let bits = bits(address);
            for length in &self.lengths {
                let key = (*length, masked(bits, *length));
                add(Name::ClientAddress, text.len(), &mut find(&self.networks, &key, now));
            }
        }
        if let Some(number) = client.as_number {
            let length = number.checked_ilog10().unwrap_or(0).saturating_add(1) as usize;
            add(Name::AsNumber, length, &mut find(&self.as_numbers, &number, now));
        }
        if let Some(text) = client.tls_fingerprint {
            add(Name::TlsFingerprint, text.len(), &mut find(&self.tls_fingerprints, text, now));
        }
        if let Some(text) = envelope.account {
            add(Name::Account, text.len(), &mut find(&self.accounts, text, now));
        }
        hits
    }

    /// The lists that what is asked is on. Keys are made only where one is looked for.
    pub fn template_hits(&self, request: &Request<'_>, envelope: &Envelope<'_>) -> Vec<ListHit> {
        let mut hits = Vec::new();
        if self.templates.is_empty() {
            return hits;
        }
        for field in [Name::TemplateSystem, Name::TemplateUser] {
            for key in request.hashes(field, &envelope.key) {
                let lists = find(&self.templates, &key, envelope.now);
                lists.for_each(|list| push(&mut hits, list, field, 0));
            }
        }
        hits
    }
}

/// A list that a request is on, by number; with the field that says so, and how long its value is.
pub type ListHit = (usize, Evidence);

/// Adds a list, once.
fn push(hits: &mut Vec<ListHit>, list: usize, field: Name, length: usize) {
    if !hits.iter().any(|(known, _)| *known == list) {
        hits.push((list, Evidence { field: Field::Known(field), start: 0, end: length }));
    }
}

/// The lists on which a key counts now.
fn find<K: Borrow<Q>, Q: Ord + ?Sized>(
    table: &Table<K>,
    key: &Q,
    now: u64,
) -> impl Iterator<Item = usize> {
    let from = table.partition_point(|(own, ..)| own.borrow() < key);
    let equal = table.iter().skip(from).take_while(move |(own, ..)| own.borrow() == key);
    equal.filter(move |(.., until)| until.is_none_or(|until| now < until)).map(|(_, list, _)| *list)
}

/// A network as its prefix length and its bits; an address is a network of one.
fn network(text: &str) -> Option<(u8, u128)> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let length = match net {
        IpNet::V4(net) => net.prefix_len().checked_add(96)?,
        IpNet::V6(net) => net.prefix_len(),
    };
    Some((length, masked(bits(net.addr()), length)))
}

/// An address as IPv6: those of IPv4 are mapped.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn masked(bits: u128, length: u8) -> u128 {
    let host = 128_u32.saturating_sub(u32::from(length));
    bits & u128::MAX.checked_shl(host).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Place;
    use crate::hash::HashKey;
    use crate::request::{Client, Value};

    fn list(kind: Kind, values: &[(&str, Option<u64>)]) -> List {
        let entries = values.iter().map(|(value, until)| Entry {
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
    fn who_is_on_which_list() {
        let lists = [
            list(Kind::Address, &[("203.0.113.0/24", None), ("2001:db8::/32", None)]),
            list(Kind::Address, &[("203.0.113.7", Some(100)), ("0.0.0.0/0", Some(50))]),
            list(Kind::AsNumber, &[("64496", None)]),
            list(Kind::TlsFingerprint, &[("abc-def-517", None)]),
            list(Kind::Account, &[("0123456789abcdef0123456789abcdef", None)]),
        ];
        let compiled = Lists::new(&lists).unwrap();
        let address = |text| Client { address: Some(text), ..Client::default() };
        let rows: [(&str, Client<'_>, u64, &[usize]); 10] = [
            ("in a network", address("203.0.113.9"), 60, &[0]),
            ("in two, one of one", address("203.0.113.7"), 60, &[0, 1]),
            ("its last day is over", address("203.0.113.7"), 100, &[0]),
            ("all of IPv4", address("198.51.100.1"), 49, &[1]),
            ("no longer", address("198.51.100.1"), 50, &[]),
            ("IPv4 written as IPv6", address("::ffff:203.0.113.9"), 60, &[0]),
            ("IPv6", address("2001:db8:1::1"), 60, &[0]),
            ("IPv6 is not IPv4", address("2001:db9::1"), 0, &[]),
            ("no address", address("nonsense"), 0, &[]),
            ("AS", Client { as_number: Some(64496), ..Client::default() }, 0, &[2]),
        ];
        for (name, client, now, expected) in rows {
            let envelope = Envelope { client, now, ..Envelope::default() };
            let mut found: Vec<usize> =
                compiled.hits(&envelope).into_iter().map(|(list, _)| list).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{name}");
        }
        let client = Client { tls_fingerprint: Some("abc-def-517"), ..Client::default() };
        let account = Some("0123456789abcdef0123456789abcdef");
        let hits = compiled.hits(&Envelope { client, account, ..Envelope::default() });
        assert_eq!(hits.iter().map(|(list, _)| *list).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn a_template_is_known_by_any_of_its_keys() {
        let key = HashKey::derive(b"secret");
        let template =
            "answer as a senior surveyor who weighs every claim against two sources and cites them";
        let asked = |place, rest: &str| {
            let text = format!("{template} {rest}");
            Request::from_values([(place, Value::Text(place_of(place), &text))]).hashes(place, &key)
        };
        fn place_of(name: Name) -> Place {
            if name == Name::TemplateSystem { Place::System } else { Place::User }
        }
        for place in [Name::TemplateSystem, Name::TemplateUser] {
            let keys = asked(place, "first the north wall of the old barn by the river");
            let other = asked(place, "then what became of the bridge that the flood had taken");
            let shared = keys.iter().find(|key| other.contains(key)).unwrap();
            let value = format!("{shared:016x}");
            let compiled = Lists::new(&[list(Kind::Template, &[(&value, Some(100))])]).unwrap();
            let rows = [
                ("the other", template, HashKey::derive(b"secret"), 99, 1),
                ("its last day is over", template, HashKey::derive(b"secret"), 100, 0),
                ("another deployment", template, HashKey::derive(b"other"), 99, 0),
                (
                    "something else",
                    "how long do beans take to grow in a cold spring if one waters them a lot",
                    key,
                    99,
                    0,
                ),
            ];
            for (name, text, key, now, expected) in rows {
                let text =
                    format!("{text} then what became of the bridge that the flood had taken");
                let request = Request::from_values([(place, Value::Text(place_of(place), &text))]);
                let envelope = Envelope { key, now, ..Envelope::default() };
                let hits = compiled.template_hits(&request, &envelope);
                assert_eq!(hits.len(), expected, "{name}");
                assert!(hits.iter().all(|(_, own)| own.field == Field::Known(place)), "{name}");
            }
        }
    }

    #[test]
    fn values_fit_their_kind() {
        let rows = [
            (Kind::Address, "203.0.113.0/33", false),
            (Kind::Address, "::/0", true),
            (Kind::AsNumber, "AS64496", false),
            (Kind::AsNumber, "4294967296", false),
            (Kind::TlsFingerprint, " ", false),
            (Kind::Account, "0123456789ABCDEF0123456789abcdef", false),
            (Kind::Template, "0123456789abcdef", true),
            (Kind::Template, "+123456789abcdef", false),
        ];
        for (kind, value, fits) in rows {
            assert_eq!(kind.fits(value), fits, "{value}");
            assert_eq!(Lists::new(&[list(kind, &[(value, None)])]).is_ok(), fits, "{value}");
        }
    }
}
