//! Quotas of names: in a minute, the origin's answers may give a name only to a limited number of
//! new accounts.

use std::collections::HashMap;

/// Maximum number of new accounts per minute to which the origin's answers may give a name.
const MAX_NEW_PER_MINUTE: u32 = 500;

/// Maximum number of these accounts for one tenant. For accounts without a tenant, the maximum
/// applies to accounts with the same name.
const MAX_NEW_PER_TENANT: u32 = 100;

/// Counts the new accounts to which the origin's answers give a name in a minute.
#[derive(Default)]
pub struct NameQuota {
    /// The minute, as minutes since the epoch.
    minute: u64,
    count: u32,
    /// Numbers of accounts by tenant, or by name if there is no tenant. At most
    /// [`MAX_NEW_PER_MINUTE`] entries.
    by_owner: HashMap<String, u32>,
}

impl NameQuota {
    /// Counts a new account of `owner`, which is a tenant, or a name if the account has no tenant.
    /// `minute` is in minutes since the epoch. Returns false, and does not count the account, if a
    /// quota of the minute is used up.
    pub fn take(&mut self, owner: &str, minute: u64) -> bool {
        if self.minute != minute {
            *self = Self { minute, ..Self::default() };
        }
        let used = self.by_owner.get(owner).copied().unwrap_or_default();
        if self.count >= MAX_NEW_PER_MINUTE || used >= MAX_NEW_PER_TENANT {
            return false;
        }
        self.count = self.count.saturating_add(1);
        self.by_owner.insert(owner.to_owned(), used.saturating_add(1));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_leaves_room_for_the_names_of_others() {
        let mut quota = NameQuota::default();
        let mut take = |owner: &str, minute| quota.take(owner, minute);
        let flood = (0..1_000).filter(|_| take("loud", 7)).count();
        assert_eq!(flood, MAX_NEW_PER_TENANT as usize);
        assert!(take("quiet", 7));
        let others = (0..1_000).filter(|number| take(&number.to_string(), 7)).count();
        assert_eq!(others, MAX_NEW_PER_MINUTE as usize - flood - 1);
        assert!(take("loud", 8), "a new minute");
    }
}
