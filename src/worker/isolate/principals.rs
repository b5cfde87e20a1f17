//! The isolate's memory about accounts: credentials that the origin has accepted, and names of
//! accounts, which the origin gives in response headers and the registry publishes.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use hedgerow_core::identity::mapping::{Mapping, Mappings, NamedAccount, resolve};

use crate::platform::clock::now_seconds;

/// The names that the origin gave the sender of a request: an account and a tenant. Ids are hashes
/// of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginNames {
    /// Account id; `None` if the origin did not name the account.
    pub account: Option<String>,
    /// Tenant id; `None` if the origin did not name the tenant.
    pub tenant: Option<String>,
    /// Label of the account; `None` unless the policy has `labels`.
    pub account_label: Option<String>,
    /// Label of the tenant; `None` unless the policy has `labels`.
    pub tenant_label: Option<String>,
}

impl OriginNames {
    /// Returns whether the origin named neither an account nor a tenant.
    pub fn is_empty(&self) -> bool {
        self.account.is_none() && self.tenant.is_none()
    }
}

/// Seconds for which this isolate uses a name that it has learned. An account may move to another
/// tenant, so the time is short.
const NAME_SECONDS: u64 = 3_600;

/// Seconds for which the registry keeps a name that the origin gave: a day.
const REGISTRY_SECONDS: u64 = 86_400;

/// Seconds for which a proof (that the origin has accepted a credential) is valid. The next
/// accepted request renews it.
const PROOF_SECONDS: u64 = 86_400;

/// Maximum number of accounts with names: about a megabyte.
const MAX_NAMES: usize = 4_096;

/// Seconds after which a name is reported again if the registry has not published it. The registry
/// publishes every ten minutes, and a report may be lost.
const REPORTED_SECONDS: u64 = 1_500;

/// Maximum number of proofs: about a megabyte.
const MAX_PROOFS: usize = 16_384;

/// Maximum number of learned names in a report. Further names are reported when they are learned
/// again.
const MAX_LEARNED: usize = 128;

/// The names that the isolate knows.
struct KnownNames {
    /// Names that the origin gave in answers to this isolate.
    local: ExpiringMap<String, Mapping>,
    /// Labels of local names.
    labels: ExpiringMap<String, String>,
    /// Names that the registry published.
    published: Mappings,
    /// Names that were queued for the registry, so that they are not queued again for
    /// [`REPORTED_SECONDS`].
    reported: ExpiringMap<String, Mapping>,
    /// Local names that the registry does not have yet.
    learned: Vec<NamedAccount>,
    /// Whether the policy had `labels` when the last name of `learned` was learned.
    has_labels: bool,
}

/// Number of different *first* credentials that must be exceeded before the origin is assumed to
/// accept another credential. The first credential of a request determines the request's account.
/// If another credential came in accepted requests with more first credentials than this, the
/// origin is unlikely to have accepted each of the first credentials instead.
const MAX_FIRST_CREDENTIALS: usize = 4;

/// Maximum number of entries of `ACCEPTED_WITH`: about a megabyte.
const MAX_ACCEPTED_WITH: usize = 8_192;

thread_local! {
    /// Hashes of credentials that came in accepted requests. The value has the hashes of the first
    /// credentials of those requests, because the origin may have accepted either credential. If
    /// the value has more than [`MAX_FIRST_CREDENTIALS`] hashes, the origin is assumed to accept
    /// the credential. If the credential was the only credential of a request, the value is filled
    /// with placeholders.
    static ACCEPTED_WITH: RefCell<ExpiringMap<u64, Vec<u64>>> =
        RefCell::new(ExpiringMap::new(MAX_ACCEPTED_WITH, PROOF_SECONDS));
    static NAMES: RefCell<KnownNames> = RefCell::new(KnownNames::new());
    static PROOFS: RefCell<ExpiringMap<u64, ()>> =
        RefCell::new(ExpiringMap::new(MAX_PROOFS, PROOF_SECONDS));
}

/// Returns the ids of the account and the tenant that the origin or the operator gave the account
/// `account`, without labels. Names that this isolate learned within the last hour come first;
/// published names complete them. Returns `None` if no name is known.
pub fn named_by_origin(account: &str) -> Option<OriginNames> {
    let now = now_seconds();
    NAMES.with_borrow(|names| {
        let Mapping { account, tenant, .. } = names.resolve(account, now)?;
        Some(OriginNames { account, tenant, ..OriginNames::default() })
    })
}

/// Returns the label of the account or tenant `id`; `None` if the label is not known.
pub fn label(id: &str) -> Option<String> {
    let now = now_seconds();
    NAMES.with_borrow(|names| {
        let local = names.labels.get(id, now).map(String::as_str);
        local.or_else(|| names.published.label(id)).map(str::to_owned)
    })
}

/// Remembers the names that the origin gave an account. If the origin has accepted the credential
/// (`is_accepted`), the registry gets the names with the next report. `has_labels` is whether the
/// policy sets `labels`. Until the isolate has read the rules of the deployment, the policy is
/// unknown. Callers then pass false for `is_accepted`, so that nothing is reported.
pub fn remember_names(account: &str, names: &OriginNames, is_accepted: bool, has_labels: bool) {
    let now = now_seconds();
    NAMES.with_borrow_mut(|known| known.learn(account, names, (is_accepted, has_labels), now));
}

/// Puts published names in force.
pub fn adopt(published: Mappings) {
    NAMES.with_borrow_mut(|names| names.published = published);
}

/// Queues the names of a report that may have been lost, so that they are reported again.
pub fn restore_learned(names: Vec<NamedAccount>) {
    NAMES.with_borrow_mut(|known| {
        let room = MAX_LEARNED.saturating_sub(known.learned.len());
        known.learned.extend(names.into_iter().take(room));
    });
}

/// Removes and returns the names for the next report. Also returns whether the policy had `labels`
/// when the last of them was learned.
pub fn take_learned() -> (Vec<NamedAccount>, bool) {
    NAMES.with_borrow_mut(|names| (std::mem::take(&mut names.learned), names.has_labels))
}

impl KnownNames {
    fn new() -> Self {
        Self {
            local: ExpiringMap::new(MAX_NAMES, NAME_SECONDS),
            labels: ExpiringMap::new(MAX_NAMES, NAME_SECONDS),
            reported: ExpiringMap::new(MAX_NAMES, REPORTED_SECONDS),
            published: Mappings::default(),
            learned: Vec::new(),
            has_labels: false,
        }
    }

    /// Returns the account and the tenant to which the id `account` is mapped at `now`, in seconds
    /// since the epoch; `None` if the id is not mapped.
    fn resolve(&self, account: &str, now: u64) -> Option<Mapping> {
        resolve(account, |id| {
            let local = self.local.get(id, now);
            let published = self.published.get(id, now);
            let Some(local) = local else { return published.cloned() };
            let mut mapping = local.clone();
            // The origin may have named only the account, and the operator only the tenant, or the
            // reverse.
            if let Some(published) = published {
                mapping.account = mapping.account.or_else(|| published.account.clone());
                mapping.tenant = mapping.tenant.or_else(|| published.tenant.clone());
            }
            Some(mapping)
        })
    }

    /// Adds the names of the account `id`. Queues them for the registry if `is_accepted` is true,
    /// unless they were queued recently, are published with their labels for at least 12 more
    /// hours, or the queue is full. `has_labels` is whether labels are kept. `now` is in seconds
    /// since the epoch.
    fn learn(
        &mut self,
        id: &str,
        names: &OriginNames,
        (is_accepted, has_labels): (bool, bool),
        now: u64,
    ) {
        let OriginNames { account, tenant, account_label, tenant_label } = names.clone();
        let expires = now.saturating_add(REGISTRY_SECONDS);
        let mapping = Mapping { account, tenant, expires };
        let is_same = |known: &Mapping| {
            let has =
                |name: &Option<String>, known: &Option<String>| name.is_none() || name == known;
            has(&mapping.account, &known.account) && has(&mapping.tenant, &known.tenant)
        };
        let is_reported = self.reported.get(id, now).is_some_and(is_same);
        let is_published = self.published.get(id, now).is_some_and(|known| {
            is_same(known) && known.expires > now.saturating_add(REGISTRY_SECONDS / 2)
        });
        let labels = [(&mapping.account, account_label), (&mapping.tenant, tenant_label)];
        let [account_label, tenant_label] = labels.map(|(id, label)| {
            let label = label.filter(|_| has_labels)?;
            self.labels.insert(id.clone()?, label.clone(), now);
            Some(label)
        });
        let lacks_label = [(&mapping.account, &account_label), (&mapping.tenant, &tenant_label)]
            .into_iter()
            .any(|(id, label)| {
                let published = id.as_deref().and_then(|id| self.published.label(id));
                label.is_some() && published != label.as_deref()
            });
        let is_news = !is_reported && (!is_published || lacks_label);
        if is_accepted && is_news && self.learned.len() < MAX_LEARNED {
            self.has_labels = has_labels;
            self.reported.insert(id.to_owned(), mapping.clone(), now);
            let Mapping { account, tenant, expires } = mapping.clone();
            let id = id.to_owned();
            self.learned.push(NamedAccount {
                id,
                account,
                tenant,
                expires,
                account_label,
                tenant_label,
            });
        }
        self.local.insert(id.to_owned(), mapping, now);
    }
}

/// Returns whether the origin is known to accept a credential. `credential` is the credential's
/// hash. The origin is known to accept it in two cases: it was the only credential of an accepted
/// request, or it came in accepted requests with more than [`MAX_FIRST_CREDENTIALS`] different
/// first credentials.
pub fn is_accepted_by_origin(credential: u64) -> bool {
    let now = now_seconds();
    ACCEPTED_WITH.with_borrow(|accepted_with| {
        let first_credentials = accepted_with.get(&credential, now);
        first_credentials
            .is_some_and(|first_credentials| first_credentials.len() > MAX_FIRST_CREDENTIALS)
    })
}

/// Remembers that the origin has accepted a request whose only credential was `credential`.
pub fn remember_only_credential(credential: u64) {
    ACCEPTED_WITH.with_borrow_mut(|accepted_with| {
        accepted_with.insert(credential, vec![0; MAX_FIRST_CREDENTIALS + 1], now_seconds());
    });
}

/// Remembers that the origin has accepted a request with several credentials. The request's account
/// comes from `first`, but the origin may have read any of the others.
pub fn remember_several_credentials(first: u64, others: &[u64]) {
    let now = now_seconds();
    ACCEPTED_WITH.with_borrow_mut(|accepted_with| {
        for other in others {
            let mut first_credentials = accepted_with.get(other, now).cloned().unwrap_or_default();
            if first_credentials.len() <= MAX_FIRST_CREDENTIALS
                && !first_credentials.contains(&first)
            {
                first_credentials.push(first);
                accepted_with.insert(*other, first_credentials, now);
            }
        }
    });
}

/// Returns whether one of `credentials` came in an accepted request whose first credential was not
/// `first`.
pub fn had_other_first_credential(credentials: &[u64], first: u64) -> bool {
    let now = now_seconds();
    ACCEPTED_WITH.with_borrow(|accepted_with| {
        let first_credentials =
            credentials.iter().filter_map(|other| accepted_with.get(other, now));
        first_credentials.flatten().any(|credential| *credential != first)
    })
}

/// Returns whether the origin has accepted a credential within the last day. `proof` is the hash of
/// the credential, or 0 for a request without one.
pub fn is_proven(proof: u64) -> bool {
    PROOFS.with_borrow(|proofs| proofs.get(&proof, now_seconds()).is_some())
}

/// Remembers that the origin has accepted the credential with the hash `proof`. Does nothing for 0,
/// which means that the request had no credential.
pub fn remember_proof(proof: u64) {
    if proof != 0 {
        PROOFS.with_borrow_mut(|proofs| proofs.insert(proof, (), now_seconds()));
    }
}

/// A map of bounded size whose entries expire. If it is full, a new entry replaces the entry that
/// was added first.
struct ExpiringMap<K, V> {
    /// Values with the time at which they expire, in seconds since the epoch.
    entries: HashMap<K, (u64, V)>,
    /// Keys in the order in which they were added.
    order: VecDeque<K>,
    capacity: usize,
    seconds: u64,
}

impl<K: Clone + Eq + Hash, V> ExpiringMap<K, V> {
    fn new(capacity: usize, seconds: u64) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), capacity, seconds }
    }

    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, now: u64) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value)
    }

    /// Adds or renews an entry.
    fn insert(&mut self, key: K, value: V, now: u64) {
        let until = now.saturating_add(self.seconds);
        if self.entries.insert(key.clone(), (until, value)).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(account: Option<&str>, tenant: Option<&str>) -> OriginNames {
        let [account, tenant] = [account, tenant].map(|name| name.map(str::to_owned));
        let account_label = account.as_ref().map(|name| format!("label of {name}"));
        OriginNames { account, tenant, account_label, tenant_label: None }
    }

    #[test]
    fn the_registry_gets_accepted_names_once() {
        let mut known = KnownNames::new();
        let acme = names(Some("acme"), None);
        known.learn("k", &acme, (false, false), 0);
        assert!(known.learned.is_empty() && known.resolve("k", 1).is_some(), "not accepted");
        (1..5).for_each(|now| known.learn("k", &acme, (true, false), now));
        assert_eq!(known.learned.len(), 1);
        assert_eq!(known.learned[0].account_label, None, "without labels nothing is in the clear");
        assert_eq!(known.labels.get("acme", 1), None);
        known.learn("k", &names(Some("other"), None), (true, false), 5);
        assert_eq!(known.learned.len(), 2, "another name is news");
        known.learn("k", &names(Some("other"), None), (true, false), REPORTED_SECONDS + 5);
        assert_eq!(known.learned.len(), 3, "a name that is still not published is reported again");
        for number in 0..1_000 {
            known.learn(&number.to_string(), &acme, (true, false), 6);
        }
        assert_eq!(known.learned.len(), MAX_LEARNED);
    }

    #[test]
    fn published_names_are_reported_again_only_when_they_end_soon() {
        let acme = names(Some("acme"), None);
        let rows = [
            ("fresh", "acme", REGISTRY_SECONDS, false, 0),
            ("ends soon", "acme", REGISTRY_SECONDS / 3, false, 1),
            ("another name", "other", REGISTRY_SECONDS, false, 1),
            ("a label is missing", "acme", REGISTRY_SECONDS, true, 1),
        ];
        for (row, account, expires, has_labels, expected) in rows {
            let mut known = KnownNames::new();
            let mapping = Mapping { account: Some(account.to_owned()), tenant: None, expires };
            known.published.insert("k".to_owned(), mapping);
            known.learn("k", &acme, (true, has_labels), 0);
            assert_eq!(known.learned.len(), expected, "{row}");
        }
    }

    #[test]
    fn local_names_come_before_published_ones_and_are_completed_by_them() {
        let mut known = KnownNames::new();
        let mapping = |account: Option<&str>, tenant: &str| Mapping {
            account: account.map(str::to_owned),
            tenant: Some(tenant.to_owned()),
            expires: 10_000,
        };
        known.published.insert("k".to_owned(), mapping(Some("old"), "group"));
        known.published.insert("new".to_owned(), mapping(None, "shop"));
        let names_at = |known: &KnownNames, now| {
            known.resolve("k", now).map(|mapping| (mapping.account, mapping.tenant)).unwrap()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(names_at(&known, 0), (some("old"), some("group")));
        known.learn("k", &names(Some("new"), None), (true, true), 0);
        assert_eq!(names_at(&known, 0), (some("new"), some("shop")), "the account has a tenant");
        assert_eq!(names_at(&known, NAME_SECONDS), (some("old"), some("group")));
    }

    #[test]
    fn entries_expire_and_the_oldest_makes_room() {
        let mut map = ExpiringMap::new(2, 10);
        map.insert(1, 'a', 0);
        map.insert(2, 'b', 5);
        assert_eq!((map.get(&1, 9), map.get(&1, 10)), (Some(&'a'), None));
        map.insert(1, 'c', 10);
        assert_eq!(map.get(&1, 19), Some(&'c'));
        map.insert(3, 'd', 11);
        assert_eq!(
            (map.get(&1, 11), map.get(&2, 11), map.get(&3, 11)),
            (None, Some(&'b'), Some(&'d'))
        );
        (4..100).for_each(|key| map.insert(key, 'e', 12));
        assert_eq!((map.entries.len(), map.order.len()), (2, 2));
    }
}
