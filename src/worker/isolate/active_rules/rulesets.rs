//! The rulesets in force (active, canary and shadow), and the choice between active and canary by
//! account.

use std::rc::Rc;

use hedgerow_core::Ruleset;
use hedgerow_core::rules::release::RulesetRole;
use hedgerow_core::ruleset::Release;

/// The rulesets of a release, or the embedded ruleset.
#[derive(Clone)]
pub struct ActiveRules {
    /// The release; `None` if the embedded ruleset is in force.
    pub(super) release: Option<Rc<Release>>,
    /// The active ruleset, which decides for all accounts outside the canary.
    pub(super) active: Rc<Ruleset>,
    /// The canary ruleset, which decides for the share of accounts that the release names.
    pub(super) canary: Option<Rc<Ruleset>>,
    /// The shadow ruleset, which scores every call for comparison; its decisions have no effect.
    pub(super) shadow: Option<Rc<Ruleset>>,
}

impl ActiveRules {
    /// Returns rules in which the embedded ruleset decides for all accounts.
    pub(super) fn embedded(active: Rc<Ruleset>) -> Self {
        Self { release: None, active, canary: None, shadow: None }
    }

    /// Returns the ruleset of all accounts outside the canary.
    pub fn active(&self) -> &Rc<Ruleset> {
        &self.active
    }

    /// Returns the ruleset that decides for an account, and its role. Requests without an account
    /// are never in the canary.
    pub fn ruleset_for_account(&self, account: Option<&str>) -> (&Rc<Ruleset>, RulesetRole) {
        match (&self.release, &self.canary) {
            (None, _) => (&self.active, RulesetRole::Embedded),
            (Some(release), Some(canary)) if release.is_in_canary(account) => {
                (canary, RulesetRole::Canary)
            }
            (Some(_), _) => (&self.active, RulesetRole::Active),
        }
    }

    /// Returns the shadow ruleset; `None` if the release has no shadow.
    pub fn shadow(&self) -> Option<&Rc<Ruleset>> {
        self.shadow.as_ref()
    }

    /// Returns all rulesets that exist, in this order: active, canary, shadow.
    pub fn rulesets(&self) -> impl Iterator<Item = &Rc<Ruleset>> {
        [Some(&self.active), self.canary.as_ref(), self.shadow.as_ref()].into_iter().flatten()
    }

    /// Returns the release; `None` if the embedded ruleset is in force.
    pub fn release(&self) -> Option<&Release> {
        self.release.as_deref()
    }

    /// Returns the serial of the release; `None` for the embedded rules.
    pub fn serial(&self) -> Option<u64> {
        self.release.as_ref().map(|release| release.serial)
    }

    /// Returns whether the release has expired at `now`, in seconds since the epoch.
    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.release.as_ref().is_some_and(|release| release.is_expired(now))
    }
}
