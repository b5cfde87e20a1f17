//! Checks whether correlations can be compiled.

use std::collections::HashMap;

use crate::correlate::indicator::MAX_NAME_BYTES;
use crate::error::Error;
use crate::rules::correlation::{Correlation, MAX_GROUP_BY_FIELDS, TIMESPAN_RANGE_SECONDS};

/// Checks the parts of a correlation against their limits.
pub fn validate(correlation: &Correlation) -> Result<(), Error> {
    let Correlation { timespan, ttl, name, rules, group_by, .. } = correlation;
    if !TIMESPAN_RANGE_SECONDS.contains(timespan) {
        let problem = format!("`timespan` is {timespan} seconds: expected 10 seconds to 30 days");
        return Err(error(correlation, &problem, "change `timespan`"));
    }
    if !TIMESPAN_RANGE_SECONDS.contains(ttl) && *ttl != 0 {
        let problem = format!("`ttl` is {ttl} seconds: expected 0, or 10 seconds to 30 days");
        return Err(error(correlation, &problem, "change `ttl`"));
    }
    if name.len() > MAX_NAME_BYTES {
        let problem =
            format!("the name has {} bytes: expected at most {MAX_NAME_BYTES}", name.len());
        return Err(error(correlation, &problem, "shorten the name"));
    }
    if rules.is_empty() {
        return Err(error(correlation, "`rules` is empty", "name signatures under `rules`"));
    }
    if !(1..=MAX_GROUP_BY_FIELDS).contains(&group_by.len()) {
        let problem = format!("it groups by {} fields", group_by.len());
        let remedy = format!("group by one to {MAX_GROUP_BY_FIELDS} fields");
        return Err(error(correlation, &problem, &remedy));
    }
    Ok(())
}

/// Checks a correlation that has another correlation, `inner`, as an event. The groups of both must
/// be in the same shard, so both must group by the same field first. The events of `inner` must be
/// signatures.
pub fn validate_nesting(
    outer: &Correlation,
    inner: Option<&Correlation>,
    correlation_indexes: &HashMap<&str, usize>,
) -> Result<(), Error> {
    let Some(inner) = inner else { return Ok(()) };
    if outer.group_by.first() != inner.group_by.first() {
        let problem = format!("its first field to group by differs from that of '{}'", inner.name);
        return Err(error(outer, &problem, "group both by the same field first"));
    }
    if inner.rules.iter().any(|name| correlation_indexes.contains_key(name.as_str())) {
        let problem = format!("'{}' is itself a correlation over correlations", inner.name);
        return Err(error(outer, &problem, "nest correlations at most two levels deep"));
    }
    Ok(())
}

/// Returns the error for a name under `rules` that no signature and no correlation has.
pub fn unknown_rule(correlation: &Correlation, name: &str) -> Error {
    let problem = format!("unknown rule '{name}'");
    error(correlation, &problem, "name a signature or a correlation")
}

/// Returns the error for a share or variety that refers to a correlation whose counts cannot be
/// compared.
pub fn invalid_relative_minimum(correlation: &Correlation, name: &str) -> Error {
    let problem = format!("'{name}' cannot be compared with it");
    let remedy = "name a value_count with the same group-by, and for a share with the same field";
    error(correlation, &problem, remedy)
}

fn error(correlation: &Correlation, problem: &str, remedy: &str) -> Error {
    Error::new(format!("correlation '{}': {problem}", correlation.name), remedy)
}
