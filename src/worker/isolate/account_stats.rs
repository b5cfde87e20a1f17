//! Looks in the isolate's traffic for signs that the policy identifies accounts wrongly.

use std::cell::RefCell;
use std::collections::HashMap;

use hedgerow_core::api::ConfigProblem;

use crate::isolate::telemetry;

/// Length of a window in seconds. The warnings are computed for one window of traffic at a time.
const WINDOW_SECONDS: u64 = 3_600;

/// Minimum number of scored calls in a window for a warning.
const MIN_CALLS: u32 = 500;

/// Maximum number of accounts per window whose calls are counted. They take about 100 KB, and their
/// credentials at most 0.5 MB.
const MAX_ACCOUNTS: usize = 1_024;

/// Minimum number of calls in a window that make an account *busy*.
const BUSY_CALLS: u32 = 10;

/// Minimum number of short-lived busy accounts for a warning.
const MIN_BUSY_ACCOUNTS: usize = 20;

/// Maximum seconds between the first and the last call of a short-lived account.
const SHORT_LIFE_SECONDS: u64 = 900;

/// Minimum number of different credentials in a window that make an account look like a group of
/// customers. Renewed tokens and signatures of the same subject or access key count as one
/// credential.
const MANY_CREDENTIALS: usize = 50;

/// A sign that the identity settings do not fit the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AccountWarning {
    /// More than half of the scored calls have no account.
    NoAccount,
    /// One account makes more than half of the scored calls.
    OneAccount,
    /// At least 90 % of the busy accounts are short-lived.
    ShortLived,
    /// An account has at least [`MANY_CREDENTIALS`] credentials.
    ManyCredentials,
}

/// The calls of a window, by account.
#[derive(Default)]
struct AccountStats {
    /// Start of the window, in seconds since the epoch.
    since: u64,
    calls: u32,
    calls_without_account: u32,
    /// Counted accounts, by the first 16 hex digits of their id.
    accounts: HashMap<u64, AccountActivity>,
    /// Warnings of the previous window.
    previous: Vec<AccountWarning>,
}

/// The calls of an account; times are in seconds since the epoch.
struct AccountActivity {
    calls: u32,
    first: u64,
    last: u64,
    /// Different credentials, at most [`MANY_CREDENTIALS`].
    credentials: Vec<u64>,
}

thread_local! {
    static STATS: RefCell<AccountStats> = RefCell::default();
}

/// Counts a scored call at `now`, in seconds since the epoch. When a window ends, its warnings are
/// counted as errors, which `hedgerow status` shows.
///
/// `account` is the account's id in hex. `credential` is a hash of the account that would result
/// from the credential alone; 0 for a call without a credential.
pub fn record(account: Option<&str>, credential: u64, now: u64) {
    let ended = STATS.with_borrow_mut(|stats| stats.record(account, credential, now));
    ended.iter().for_each(|warning| telemetry::count_error(warning.message()));
}

/// Returns the warnings for `/_hedgerow/health`: those of the current window if it has enough
/// calls, otherwise those of the previous window. `now` is in seconds since the epoch.
pub fn warnings(now: u64) -> Vec<ConfigProblem> {
    let warnings = STATS.with_borrow(|stats| {
        if stats.calls >= MIN_CALLS { stats.warnings(now) } else { stats.previous.clone() }
    });
    let problem = |warning: AccountWarning| ConfigProblem::new(warning.message(), warning.remedy());
    warnings.into_iter().map(problem).collect()
}

impl AccountStats {
    /// Counts a call. If the call is after the end of the window, returns the warnings of that
    /// window and starts a new one; otherwise returns none.
    fn record(&mut self, account: Option<&str>, credential: u64, now: u64) -> Vec<AccountWarning> {
        let mut ended = Vec::new();
        if now.saturating_sub(self.since) >= WINDOW_SECONDS {
            ended = if self.calls >= MIN_CALLS { self.warnings(now) } else { Vec::new() };
            *self = Self { since: now, previous: ended.clone(), ..Self::default() };
        }
        self.calls = self.calls.saturating_add(1);
        let key = account.and_then(|id| u64::from_str_radix(id.get(..16)?, 16).ok());
        let Some(key) = key else {
            self.calls_without_account = self.calls_without_account.saturating_add(1);
            return ended;
        };
        if self.accounts.len() < MAX_ACCOUNTS || self.accounts.contains_key(&key) {
            let new =
                || AccountActivity { calls: 0, first: now, last: now, credentials: Vec::new() };
            self.accounts.entry(key).or_insert_with(new).add(credential, now);
        }
        ended
    }

    fn warnings(&self, now: u64) -> Vec<AccountWarning> {
        let is_most = |calls: u32| calls > self.calls / 2;
        let most_calls = self.accounts.values().map(|activity| activity.calls).max();
        let busy = self.accounts.values().filter(|activity| activity.calls >= BUSY_CALLS);
        // Skip accounts that appeared recently: they may still become long-lived.
        let old =
            busy.filter(|activity| now.saturating_sub(activity.first) > SHORT_LIFE_SECONDS * 2);
        let lives: Vec<u64> = old.map(|activity| activity.last - activity.first).collect();
        let short = lives.iter().filter(|life| **life <= SHORT_LIFE_SECONDS).count();
        let is_short = short >= MIN_BUSY_ACCOUNTS && short * 10 >= lives.len() * 9;
        let has_many =
            self.accounts.values().any(|activity| activity.credentials.len() >= MANY_CREDENTIALS);
        let rows = [
            (is_most(self.calls_without_account), AccountWarning::NoAccount),
            (most_calls.is_some_and(is_most), AccountWarning::OneAccount),
            (is_short, AccountWarning::ShortLived),
            (has_many, AccountWarning::ManyCredentials),
        ];
        rows.into_iter().filter(|(holds, _)| *holds).map(|(_, warning)| warning).collect()
    }
}

impl AccountActivity {
    /// Counts a call. `credential` is 0 for a call without a credential.
    fn add(&mut self, credential: u64, now: u64) {
        self.calls = self.calls.saturating_add(1);
        self.last = now;
        if credential != 0
            && self.credentials.len() < MANY_CREDENTIALS
            && !self.credentials.contains(&credential)
        {
            self.credentials.push(credential);
        }
    }
}

impl AccountWarning {
    fn message(self) -> &'static str {
        match self {
            Self::NoAccount => "accounts: most scored calls have no account",
            Self::OneAccount => "accounts: one account makes most of the scored calls",
            Self::ShortLived => "accounts: most busy accounts live for minutes",
            Self::ManyCredentials => "accounts: an account has many credentials within an hour",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::NoAccount => {
                "name the source of accounts in [identity] of policy.toml: a cookie, a header of \
                 your gateway, or where the origin looks for credentials (docs/accounts.md)"
            }
            Self::OneAccount => {
                "if a gateway sends its own key for all customers, let it name the customer in a \
                 header, and list it in [identity] of policy.toml (docs/accounts.md)"
            }
            Self::ShortLived => {
                "credentials seem to rotate: list a stable claim or header in [identity] of \
                 policy.toml, or let the origin answer with x-hedgerow-account (docs/accounts.md)"
            }
            Self::ManyCredentials => {
                "if several customers share a header, a claim or a name, list a source in \
                 [identity] of policy.toml that differs between them, or name the group in \
                 `tenant` instead (docs/accounts.md)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;

    /// Counts one call per second, and returns the warnings at the end. `account` returns the
    /// number of the account of a call.
    fn warnings_after(calls: u64, account: impl Fn(u64) -> Option<u64>) -> Vec<AccountWarning> {
        let mut stats = AccountStats { since: START, ..AccountStats::default() };
        for call in 0..calls {
            let id = account(call).map(|number| format!("{number:032x}"));
            let id = id.map(|id| id.chars().rev().collect::<String>());
            assert_eq!(stats.record(id.as_deref(), 7, START + call), []);
        }
        if stats.calls >= MIN_CALLS { stats.warnings(START + calls) } else { stats.previous }
    }

    #[test]
    fn signs_of_wrong_accounts_are_found() {
        use AccountWarning::*;
        type Account = fn(u64) -> Option<u64>;
        let rows: [(&str, u64, Account, &[AccountWarning]); 7] = [
            ("few calls", 499, |_| None, &[]),
            ("no accounts", 500, |_| None, &[NoAccount]),
            ("some without", 3_500, |call| (call % 3 > 0).then_some(call % 50), &[]),
            ("many accounts", 3_500, |call| Some(call % 50), &[]),
            (
                "a shared key",
                3_500,
                |call| Some(if call % 4 > 0 { 1 } else { call }),
                &[OneAccount],
            ),
            ("rotating tokens", 3_500, |call| Some(call / 60), &[ShortLived]),
            ("visitors", 3_500, Some, &[]),
        ];
        for (name, calls, account, expected) in rows {
            assert_eq!(warnings_after(calls, account), expected, "{name}");
        }
    }

    #[test]
    fn an_account_with_many_credentials_is_found() {
        let many = MANY_CREDENTIALS as u64;
        let rows: [(&str, fn(u64) -> (u64, u64), bool); 5] = [
            ("a key each", |call| (call % 600, 1 + call % 600), false),
            ("some keys each", |call| (call % 20, 1 + call % 800), false),
            ("a group", |call| (call % 10, if call % 10 > 0 { 1 } else { call }), true),
            ("no credentials", |call| (call % 10, 0), false),
            ("one below", |call| (call % 2, 1 + call % (MANY_CREDENTIALS as u64 - 1)), false),
        ];
        for (name, call, expected) in rows {
            let mut stats = AccountStats { since: START, ..AccountStats::default() };
            for number in 0..many * 20 {
                let (account, credential) = call(number);
                stats.record(Some(&format!("{account:016x}")), credential, START + number);
            }
            let warnings = stats.warnings(START + many * 20);
            assert_eq!(warnings.contains(&AccountWarning::ManyCredentials), expected, "{name}");
            let largest = stats.accounts.values().map(|activity| activity.credentials.len()).max();
            assert!(largest.is_some_and(|largest| largest <= MANY_CREDENTIALS), "{name}");
        }
    }

    #[test]
    fn a_window_ends_with_its_warnings_and_is_bounded() {
        let mut stats = AccountStats { since: START, ..AccountStats::default() };
        for call in 0..5_000_u64 {
            stats.record(Some(&format!("{call:016x}")), call, START);
        }
        assert_eq!((stats.accounts.len(), stats.calls), (MAX_ACCOUNTS, 5_000));
        (0..6_000).for_each(|_| assert_eq!(stats.record(None, 0, START + 1), []));
        let ended = stats.record(None, 0, START + WINDOW_SECONDS);
        assert_eq!(ended, [AccountWarning::NoAccount]);
        assert_eq!((stats.calls, stats.previous.as_slice()), (1, ended.as_slice()));
    }
}
