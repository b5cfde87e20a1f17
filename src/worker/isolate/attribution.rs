//! Attribution of a decision to rules and a data centre, for counters and records.

use hedgerow_core::rules::release::RulesetRole;

/// The rules and the data centre that decided a request.
pub struct Attribution<'a> {
    /// Serial of the release in force; `None` for the embedded rules.
    pub serial: Option<u64>,
    /// Role of the ruleset that decided.
    pub role: RulesetRole,
    /// IATA code of the data centre; `local` in development.
    pub colo: &'a str,
}
