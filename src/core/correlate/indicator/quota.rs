//! Quotas of new indicators: how many one account, tenant or network may cause in a minute.

use std::collections::HashMap;

use super::strength::Strength;
use crate::correlate::firing::Cause;
use crate::rules::policy::CorrelationSettings;

/// Maximum number of counters of accounts, tenants and networks in a minute. Beyond it, an
/// indicator of a single account is refused if its sender needs a new counter.
const MAX_COUNTED: usize = 30_000;

/// Length of the window of all quotas, in seconds.
const WINDOW_SECONDS: u64 = 60;

/// The quotas, by the indicators that they limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// New indicators that one account caused.
    Account,
    /// New indicators that the accounts of one tenant caused.
    Tenant,
    /// New indicators that one network caused.
    Network,
    /// New indicators of single accounts, over all senders.
    All,
}

/// Counts the new indicators of the current minute by the account, tenant and network that caused
/// them.
#[derive(Clone, Debug, Default)]
pub struct QuotaCounter {
    /// Number of the minute since the epoch.
    minute: u64,
    /// Number of new indicators. The key is the quota, whether the indicators are of single
    /// accounts, and the hash of the account, tenant or network. Indicators of single accounts are
    /// counted separately: a client can cause any number of them, and they must not use up the
    /// quota for the indicators of a campaign.
    counts: HashMap<(Quota, bool, u64), u32>,
    /// Number of new indicators of single accounts.
    single_account_count: u32,
}

impl QuotaCounter {
    /// Counts a new indicator. `now` is the time in seconds since the epoch.
    ///
    /// [`Quota::All`] does not apply to indicators that several accounts share: a flood of invented
    /// accounts must not prevent the detection of a campaign.
    ///
    /// # Errors
    ///
    /// Returns the quota that is exhausted, or [`Quota::All`] if there is no room for a new
    /// counter. The indicator is not counted then.
    pub fn admit(
        &mut self,
        cause: &Cause,
        strength: &Strength,
        settings: &CorrelationSettings,
        now: u64,
    ) -> Result<(), Quota> {
        let minute = now / WINDOW_SECONDS;
        if minute != self.minute {
            *self = Self { minute, ..Self::default() };
        }
        let is_single = !strength.is_shared();
        if is_single && self.single_account_count >= settings.quota_all {
            return Err(Quota::All);
        }
        let quotas = [
            (Quota::Account, cause.account, settings.quota_account),
            (Quota::Tenant, cause.tenant, settings.quota_tenant),
            (Quota::Network, cause.network, settings.quota_network),
        ];
        let known = quotas.into_iter().filter(|(_, hash, _)| *hash != 0);
        for (quota, hash, max) in known.clone() {
            match self.counts.get(&(quota, is_single, hash)) {
                Some(count) if *count >= max => return Err(quota),
                None if is_single && self.counts.len() >= MAX_COUNTED => return Err(Quota::All),
                _ => {}
            }
        }
        for (quota, hash, _) in known {
            let key = (quota, is_single, hash);
            if self.counts.len() < MAX_COUNTED || self.counts.contains_key(&key) {
                let count = self.counts.entry(key).or_default();
                *count = count.saturating_add(1);
            }
        }
        self.single_account_count = self.single_account_count.saturating_add(u32::from(is_single));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: CorrelationSettings = CorrelationSettings {
        quota_account: 3,
        quota_tenant: 5,
        quota_network: 7,
        quota_all: 10,
        ..CorrelationSettings::DEFAULT
    };

    /// With invented keys, a client can make correlations of single accounts fire as often as it
    /// wants.
    #[test]
    fn a_flood_from_a_network_leaves_room_for_a_campaign_of_that_network() {
        let single = Strength { accounts: 1, times: 1, last: 0 };
        let shared = Strength { accounts: 4, ..single };
        let mut counter = QuotaCounter::default();
        let mut admit = |account, strength| {
            counter.admit(&Cause { account, tenant: 0, network: 9 }, strength, &SETTINGS, 60)
        };
        let flood = (1..=20).filter(|account| admit(*account, &single).is_ok()).count();
        assert_eq!(flood, 7);
        assert_eq!(admit(21, &shared), Ok(()));
    }

    #[test]
    fn each_quota_is_counted_by_itself_and_for_a_minute() {
        let single = Strength { accounts: 1, times: 1, last: 0 };
        let shared = Strength { accounts: 4, ..single };
        let cause = |account, tenant, network| Cause { account, tenant, network };
        type Row = (&'static str, Strength, fn(u64) -> Cause, u32, Result<(), Quota>);
        let rows: [Row; 6] = [
            (
                "an account",
                shared,
                |_| Cause { account: 1, tenant: 0, network: 0 },
                3,
                Err(Quota::Account),
            ),
            (
                "a tenant",
                shared,
                |n| Cause { account: n, tenant: 2, network: 0 },
                5,
                Err(Quota::Tenant),
            ),
            (
                "a network",
                shared,
                |n| Cause { account: n, tenant: 0, network: 3 },
                7,
                Err(Quota::Network),
            ),
            (
                "single accounts",
                single,
                |n| Cause { account: n, tenant: 0, network: n },
                10,
                Err(Quota::All),
            ),
            ("shared keys", shared, |n| Cause { account: n, tenant: 0, network: n }, 50, Ok(())),
            ("unknown senders", shared, |_| Cause::default(), 50, Ok(())),
        ];
        for (name, strength, cause, admitted, then) in rows {
            let mut counter = QuotaCounter::default();
            for number in 1..=u64::from(admitted) {
                let result = counter.admit(&cause(number), &strength, &SETTINGS, 600);
                assert_eq!(result, Ok(()), "{name} {number}");
            }
            let next = cause(u64::from(admitted) + 1);
            assert_eq!(counter.admit(&next, &strength, &SETTINGS, 659), then, "{name}");
            assert_eq!(counter.admit(&next, &strength, &SETTINGS, 660), Ok(()), "{name}");
        }
        // An indicator that is refused does not count towards the quotas of its tenant and network.
        let mut counter = QuotaCounter::default();
        for _ in 0..100 {
            let _ = counter.admit(&cause(1, 2, 3), &shared, &SETTINGS, 0);
        }
        assert_eq!(counter.admit(&cause(4, 2, 3), &shared, &SETTINGS, 0), Ok(()));
        assert_eq!(counter.admit(&cause(4, 2, 3), &shared, &SETTINGS, 0), Ok(()));
        assert_eq!(counter.admit(&cause(4, 2, 3), &shared, &SETTINGS, 0), Err(Quota::Tenant));
    }

    #[test]
    fn made_up_accounts_take_bounded_memory() {
        let settings = CorrelationSettings { quota_all: u32::MAX, ..SETTINGS };
        let mut counter = QuotaCounter::default();
        let single = Strength { accounts: 1, times: 1, last: 0 };
        for account in 1..=100_000 {
            let cause = Cause { account, tenant: 0, network: 0 };
            let _ = counter.admit(&cause, &single, &settings, 0);
        }
        assert_eq!(counter.counts.len(), MAX_COUNTED);
        let cause = Cause { account: 200_000, tenant: 0, network: 0 };
        let shared = Strength { accounts: 4, ..single };
        assert_eq!(counter.admit(&cause, &shared, &settings, 0), Ok(()));
        assert_eq!(counter.counts.len(), MAX_COUNTED);
    }
}
