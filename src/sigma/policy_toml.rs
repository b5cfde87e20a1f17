//! Checks the policy, `policy.toml`.

use std::collections::BTreeMap;

use hedgerow_core::identity::credential_place::CredentialPlace;
use hedgerow_core::identity::source::IdentitySource;
use hedgerow_core::rules::policy::{
    Action, Actions, Band, Bands, INNOCENCE_FAMILY, Policy, StatusPattern,
};
use hedgerow_core::rules::{list, policy};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::attributes::MAX_WEIGHT;
use crate::days::{check_days, replace_days};
use crate::families::FAMILIES;
use crate::layers::Layer;
use crate::policy_lints::SECTIONS_WITH_END;
use crate::suggestion::{did_you_mean, replace_unknown};
use crate::toml::{
    TomlDiagnostics, check_unique, deserialize_all, entries, number, remove_at, table, text,
    text_entries, unsigned_integer, value,
};
use crate::{Finding, RuleFile, policy_routes, policy_words, seed_sets};

/// The names in the rules that a policy may refer to.
#[derive(Default)]
pub struct PolicyNames {
    /// Names of all signatures, correlations and lists.
    pub rules: Vec<String>,
    /// Names of signatures and correlations, by id.
    pub by_id: BTreeMap<String, String>,
    /// Families that the layers define.
    pub families: Vec<String>,
}

/// Checks the policy, in which [`resolve_signature_ids`] has replaced the ids of rules. Returns
/// `None`, with findings, if it is invalid. `layers` are all layers of rules.
pub fn check(
    mut document: DeTable<'_>,
    file: &RuleFile,
    names: &PolicyNames,
    layers: &[Layer<'_>],
    findings: &mut Vec<Finding>,
) -> Option<Policy> {
    let mut diagnostics = TomlDiagnostics { file, findings, help: HELP };
    check_required(&document, &mut diagnostics);
    check_bands(&document, &mut diagnostics);
    check_score(&document, &names.families, &mut diagnostics);
    check_sizes(&document, &mut diagnostics);
    check_incomplete(&document, &mut diagnostics);
    for offset in check_identity(&document, &mut diagnostics) {
        remove_at(&mut document, offset);
    }
    check_noise(&document, &mut diagnostics);
    check_log(&document, &mut diagnostics);
    check_paths(&document, &mut diagnostics);
    policy_routes::check(&document, &mut diagnostics);
    policy_words::check(&document, &mut diagnostics);
    check_accounts(&document, &mut diagnostics);
    check_clusters(&document, &mut diagnostics);
    check_signatures(&document, &names.rules, &mut diagnostics);
    check_exemptions(&document, &mut diagnostics);
    seed_sets::check(&document, layers, &mut diagnostics);
    let days: BTreeMap<usize, String> = SECTIONS_WITH_END
        .iter()
        .flat_map(|kind| check_days(&document, kind, "until", &mut diagnostics))
        .collect();
    let document = SECTIONS_WITH_END
        .iter()
        .fold(document, |document, kind| replace_days(document, kind, "until", &days));
    deserialize_all(document, &mut diagnostics)
}

/// Replaces the ids of rules in `[[signature]]` by names. Adds a finding for each entry whose name
/// is not the name of the rule with the id. An id that no rule has becomes a name that no rule has.
pub fn resolve_signature_ids(
    document: &mut DeTable<'_>,
    names: &PolicyNames,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    let entries = document.get_mut("signature").map(|entries| entries.get_mut());
    let Some(DeValue::Array(entries)) = entries else { return };
    for entry in entries.iter_mut() {
        let DeValue::Table(entry) = entry.get_mut() else { continue };
        let Some((offset, id)) = text(entry, "id") else { continue };
        let name = names.by_id.get(id).map_or(id, String::as_str).to_owned();
        if let Some((offset, written)) = text(entry, "name")
            && written != name
        {
            let problem = format!("the rule with the id '{id}' is not '{written}'");
            let remedy = format!("write '{name}', or correct the id");
            diagnostics.add(offset, problem, remedy);
        }
        let span = offset..offset.saturating_add(1);
        entry.remove("id");
        let value = Spanned::new(span.clone(), DeValue::String(name.into()));
        entry.insert(Spanned::new(span, "name".into()), value);
    }
}

/// Adds a finding for each required key that an entry of an array does not have.
fn check_required(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let rows: [(&str, &[&str]); 6] = [
        ("account", &["id"]),
        ("tenant", &["id"]),
        ("cluster", &["id"]),
        ("signature", &["name"]),
        ("exemption", &["name", "reason", "until"]),
        ("seeds", &["name", "file"]),
    ];
    for (kind, keys) in rows {
        for (offset, entry) in entries(document, kind) {
            for key in keys.iter().filter(|key| !entry.contains_key(**key)) {
                let noun = if kind == "seeds" { "seed set" } else { kind };
                diagnostics.add(offset, format!("this {noun} has no '{key}'"), HELP);
            }
        }
    }
}

/// Checks that the limits of the bands are scores in ascending order.
fn check_bands(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some((offset, value)) = value(document, "bands") else { return };
    let Some(table) = value.as_table() else { return };
    let Bands { notice, suspect, hostile } = Bands::default();
    let mut scores = Vec::new();
    for (key, default_score) in [("notice", notice), ("suspect", suspect), ("hostile", hostile)] {
        let (offset, score) = number(table, key).unwrap_or((offset, default_score));
        if (0.0..=100.0).contains(&score) {
            scores.push(score);
        } else {
            let problem = format!("'{key}' is invalid: expected a score from 0 to 100");
            diagnostics.add(offset, problem, "correct the number");
        }
    }
    if !scores.is_sorted() {
        let remedy = "keep 0 ≤ notice ≤ suspect ≤ hostile ≤ 100";
        diagnostics.add(offset, "the bands are not in order", remedy);
    }
}

/// Checks the section `[score]`: the prior and the caps.
fn check_score(
    document: &DeTable<'_>,
    own_families: &[String],
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    let Some(table) = table(document, "score") else { return };
    if let Some((offset, prior)) = number(table, "prior")
        && !prior.is_finite()
    {
        let problem = "'prior' is invalid: expected a finite number";
        diagnostics.add(offset, problem, "use decibans, such as -20.0");
    }
    check_cap(table, "family_cap", diagnostics);
    let Some(caps) = self::table(table, "caps") else { return };
    let own_families = own_families.iter().map(String::as_str);
    let families: Vec<&str> = FAMILIES.iter().copied().chain(own_families).collect();
    for key in caps.keys() {
        let family: &str = key.get_ref();
        check_cap(caps, family, diagnostics);
        if !families.contains(&family) && ![list::FAMILY, INNOCENCE_FAMILY].contains(&family) {
            let problem = format!("unknown family '{family}'");
            diagnostics.add(key.span().start, problem, replace_unknown(family, &families));
        }
    }
}

/// Checks the section `[identity]`. Returns the byte offsets of invalid entries in its lists. The
/// caller removes these entries, because deserialization would report only the first one of each
/// list.
fn check_identity(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) -> Vec<usize> {
    let Some(table) = table(document, "identity") else { return Vec::new() };
    let lists: [(&str, fn(&str) -> Result<(), String>); 4] = [
        ("account", |text| IdentitySource::try_from(text.to_owned()).map(drop)),
        ("tenant", |text| IdentitySource::try_from(text.to_owned()).map(drop)),
        ("credential", |text| CredentialPlace::try_from(text.to_owned()).map(drop)),
        ("proven", |text| StatusPattern::try_from(text.to_owned()).map(drop)),
    ];
    let mut invalid = Vec::new();
    for (key, parse) in lists {
        for (offset, entry) in text_entries(table, key) {
            if let Err(problem) = parse(entry) {
                diagnostics.add(offset, problem, HELP);
                invalid.push(offset);
            }
        }
    }
    check_trust(table, diagnostics);
    invalid
}

/// Checks that accounts have a source, and that headers are only used as sources if a gateway
/// proves that it has set them (`trusted`).
fn check_trust(table: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, sources)) = value(table, "account")
        && sources.as_array().is_some_and(|list| list.is_empty())
    {
        let problem = "'account' is empty: no request would have an account";
        diagnostics.add(offset, problem, policy::ACCOUNT_REMEDY);
    }
    if text(table, "trusted").is_some_and(|(_, proof)| proof != "none") {
        return;
    }
    let sources = ["account", "tenant"].into_iter().flat_map(|key| text_entries(table, key));
    for (offset, source) in sources.chain(text(table, "client_address")) {
        if source.starts_with("header:") {
            let problem = format!("'{source}' is never believed: nothing proves who set it");
            diagnostics.add(offset, problem, policy::TRUST_REMEDY);
        }
    }
}

/// Checks the percentages of the noise budget.
fn check_noise(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some(table) = table(document, "noise") else { return };
    for key in ["suspect", "notice"] {
        if let Some((offset, percent)) = number(table, key)
            && !(0.0..=100.0).contains(&percent)
        {
            let problem = format!("'{key}' is invalid: expected a percentage from 0 to 100");
            diagnostics.add(offset, problem, "correct the number");
        }
    }
}

/// Checks the shares of decisions that are logged.
fn check_log(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some(table) = table(document, "log") else { return };
    for key in ["clear", "notice", "suspect", "hostile"] {
        if let Some((offset, share)) = number(table, key)
            && !(0.0..=1.0).contains(&share)
        {
            let problem = format!("the share '{key}' is invalid: expected a number from 0 to 1");
            let remedy = "1.0 logs every decision of the band, 0.01 one in a hundred";
            diagnostics.add(offset, problem, remedy);
        }
    }
}

/// Checks that a cap, in decibans, is a finite number and not negative.
fn check_cap(table: &DeTable<'_>, key: &str, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, cap)) = number(table, key)
        && (!cap.is_finite() || cap < 0.0)
    {
        let problem = format!("the cap '{key}' is invalid: expected a finite number of at least 0");
        let remedy = "use decibans: the maximum that a family adds or subtracts";
        diagnostics.add(offset, problem, remedy);
    }
}

/// The allowed range of an integer setting.
struct SizeLimit {
    section: &'static str,
    key: &'static str,
    min: u64,
    /// Reason why a smaller number is invalid.
    min_reason: &'static str,
    max: u64,
    /// Reason why a larger number is invalid.
    max_reason: &'static str,
}

impl SizeLimit {
    /// Creates a row of [`SIZE_LIMITS`] from the section and key of the setting, the minimum and
    /// the maximum, each with its reason.
    const fn new(
        (section, key): (&'static str, &'static str),
        (min, min_reason): (u64, &'static str),
        (max, max_reason): (usize, &'static str),
    ) -> Self {
        Self { section, key, min, min_reason, max: max as u64, max_reason }
    }
}

const SIZE_LIMITS: [SizeLimit; 16] = [
    SizeLimit::new(
        ("scan", "window"),
        (1024, "almost nothing would be scanned"),
        (policy::MAX_SCAN_WINDOW, ISOLATE_MEMORY),
    ),
    SizeLimit::new(
        ("scan", "max_body"),
        (1024, "almost nothing would be read"),
        (policy::MAX_SCAN_WINDOW, ISOLATE_MEMORY),
    ),
    SizeLimit::new(
        ("scan", "max_upload_time"),
        (1, "no upload would be read to its end"),
        (policy::MAX_UPLOAD_SECONDS, "slow clients would hold memory for hours"),
    ),
    SizeLimit::new(
        ("scan", "max_decompressed"),
        (1, "no compressed body would be scanned"),
        (policy::MAX_DECOMPRESSED, ISOLATE_MEMORY),
    ),
    SizeLimit::new(
        ("scan", "max_entries"),
        (1, "no batch would be scanned"),
        (policy::MAX_SCANNED_ENTRIES, ISOLATE_MEMORY),
    ),
    SizeLimit::new(
        ("enforce", "retry_after"),
        (1, "clients would retry at once"),
        (604_800, "clients would wait for more than a week"),
    ),
    SizeLimit::new(
        ("correlate", "shards"),
        (1, "nothing would be counted"),
        (policy::MAX_CORRELATION_SHARDS, "each shard costs calls"),
    ),
    SizeLimit::new(
        ("correlate", "memory"),
        (policy::MIN_CORRELATOR_BYTES as u64, "groups would be evicted at once"),
        (policy::MAX_CORRELATOR_BYTES, "a Durable Object does not have as much"),
    ),
    SizeLimit::new(
        ("correlate", "snapshot_interval"),
        (1, "the correlator would only write snapshots"),
        (policy::MAX_SNAPSHOT_SECONDS, "a crash would lose the events of that time"),
    ),
    SizeLimit::new(
        ("correlate", "max_indicators"),
        (policy::MIN_MAX_INDICATORS, "a single campaign would fill the table"),
        (policy::MAX_STORED_INDICATORS, ISOLATE_MEMORY),
    ),
    SizeLimit::new(
        ("correlate", "quota_account"),
        (1, "the correlations would have no effect"),
        (policy::MAX_QUOTA_PER_MINUTE, "a flood could fill the table within a minute"),
    ),
    SizeLimit::new(
        ("correlate", "quota_tenant"),
        (1, "the correlations would have no effect"),
        (policy::MAX_QUOTA_PER_MINUTE, "a flood could fill the table within a minute"),
    ),
    SizeLimit::new(
        ("correlate", "quota_network"),
        (1, "the correlations would have no effect"),
        (policy::MAX_QUOTA_PER_MINUTE, "a flood could fill the table within a minute"),
    ),
    SizeLimit::new(
        ("correlate", "quota_all"),
        (1, "the correlations would have no effect"),
        (policy::MAX_QUOTA_PER_MINUTE, "a flood could fill the table within a minute"),
    ),
    SizeLimit {
        section: "decisions",
        key: "keep_days",
        min: 1,
        min_reason: "no enforced decision would be found",
        max: policy::MAX_KEEP_DAYS,
        max_reason: "the ledger keeps decisions for at most 90 days",
    },
    // Not `new`: the maximum exceeds `usize` in the Wasm module.
    SizeLimit {
        section: "decisions",
        key: "max_bytes",
        min: policy::MIN_DECISION_BYTES,
        min_reason: "a flood would delete the decisions of the same minute",
        max: policy::MAX_DECISION_BYTES,
        max_reason: "a Durable Object does not have as much",
    },
];

const ISOLATE_MEMORY: &str = "an isolate does not have enough memory";

/// Checks the integer settings against [`SIZE_LIMITS`].
fn check_sizes(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for SizeLimit { section, key, min, min_reason, max, max_reason } in SIZE_LIMITS {
        let size = table(document, section).and_then(|table| unsigned_integer(table, key));
        let Some((offset, size)) = size else { continue };
        if size < min {
            let problem = format!("'{key}' is {size}: {min_reason}");
            diagnostics.add(offset, problem, format!("use at least {min}"));
        } else if size > max {
            let problem = format!("'{key}' is {size}: {max_reason}");
            diagnostics.add(offset, problem, format!("use at most {max}"));
        }
    }
}

/// Checks the section `[incomplete]`: only the reason `late` (a slow upload) may have the effect
/// `wait`.
fn check_incomplete(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let Some(table) = table(document, "incomplete") else { return };
    for key in table.keys() {
        let key: &str = key.get_ref();
        if let Some((offset, "wait")) = text(table, key)
            && key != "late"
        {
            let problem = format!("'{key}' is \"wait\": only an upload can be waited for");
            diagnostics.add(offset, problem, "use \"allow\", \"degrade\" or \"refuse\"");
        }
    }
}

/// Checks that the path patterns of routes and exemptions can match a path.
fn check_paths(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (_, entry) in ["route", "exemption"].into_iter().flat_map(|kind| entries(document, kind)) {
        if let Some((offset, path)) = text(entry, "path")
            && !path.starts_with(['/', '*'])
        {
            let problem =
                format!("the path '{path}' never matches: expected `/` or `*` at its start");
            diagnostics.add(offset, problem, "begin it with `/` or `**`");
        }
    }
}

/// Checks the ids of accounts and tenants in overrides, routes and exemptions.
fn check_accounts(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let rows = [
        ("account", "id", "account"),
        ("tenant", "id", "tenant"),
        ("route", "tenant", "tenant"),
        ("exemption", "account", "account"),
        ("exemption", "tenant", "tenant"),
    ];
    for (kind, key, noun) in rows {
        for (_, entry) in entries(document, kind) {
            // The ids of tenants and of accounts have the same form.
            if let Some((offset, id)) = text(entry, key)
                && !list::ListKind::Account.accepts(id)
            {
                let problem =
                    format!("the {noun} '{id}' is invalid: expected 32 digits, 0-9 and a-f");
                diagnostics.add(offset, problem, "copy it from a decision");
            }
        }
    }
    check_unique(document, "account", "id", diagnostics);
    check_unique(document, "tenant", "id", diagnostics);
}

/// Checks the overrides for clusters: their ids, and that they are not milder than the general
/// settings.
fn check_clusters(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (_, entry) in entries(document, "cluster") {
        let Some((offset, id)) = text(entry, "id") else { continue };
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() != 8 || !id.bytes().all(is_hex) {
            let problem = format!("the cluster '{id}' is invalid: expected 8 digits, 0-9 and a-f");
            diagnostics.add(offset, problem, "copy it from `hedgerow clusters list`");
        }
    }
    check_unique(document, "cluster", "id", diagnostics);
    check_not_milder(document, diagnostics);
}

/// Checks that no override for a cluster is milder than the general settings. Clients influence
/// which clusters they belong to, so they could choose the cluster with the mildest treatment.
fn check_not_milder(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let general = table(document, "actions");
    let default_actions = Actions::default();
    for (_, entry) in entries(document, "cluster") {
        if let Some((offset, "shadow")) = text(entry, "mode") {
            let problem = "'mode' of this cluster is \"shadow\": expected \"enforce\", since \
                naming a cluster can only tighten";
            diagnostics.add(offset, problem, MILDER_REMEDY);
        }
        let Some(actions) = table(entry, "actions") else { continue };
        for key in [Band::Clear, Band::Notice, Band::Suspect, Band::Hostile] {
            let action = |table| text(table, key.name()).and_then(|(_, name)| Action::parse(name));
            let least = general.and_then(action).unwrap_or_else(|| default_actions.action(key));
            let Some(milder) = action(actions).filter(|action| *action < least) else { continue };
            let offset = text(actions, key.name()).map_or(0, |(offset, _)| offset);
            let problem = format!(
                "'{}' of this cluster is \"{}\": expected at least \"{}\", the general action, \
                 since naming a cluster can only tighten",
                key.name(),
                milder.name(),
                least.name()
            );
            diagnostics.add(offset, problem, MILDER_REMEDY);
        }
    }
}

/// The remedy for an override that would make the treatment of a cluster milder.
const MILDER_REMEDY: &str =
    "name accounts or tenants instead: [[account]], [[tenant]] or [[exemption]]";

/// Checks the names and weights of signatures in overrides and exemptions.
fn check_signatures(
    document: &DeTable<'_>,
    names: &[String],
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    for (_, entry) in entries(document, "signature") {
        if let Some((offset, name)) = text(entry, "name") {
            check_signature_name(name, offset, names, diagnostics);
        }
        if let Some((offset, weight)) = number(entry, "weight")
            && !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight)
        {
            let problem = format!(
                "the weight is invalid: expected a number from -{MAX_WEIGHT} to {MAX_WEIGHT}"
            );
            diagnostics.add(offset, problem, "use decibans");
        }
    }
    for (_, entry) in entries(document, "exemption") {
        let listed_names = value(entry, "signatures").and_then(|(_, list)| list.as_array());
        for name in listed_names.into_iter().flatten() {
            if let Some(text) = name.get_ref().as_str() {
                check_signature_name(text, name.span().start, names, diagnostics);
            }
        }
    }
    check_unique(document, "signature", "name", diagnostics);
}

/// Adds a finding if no signature, correlation or list has the name.
fn check_signature_name(
    name: &str,
    offset: usize,
    names: &[String],
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    if !names.iter().any(|candidate| candidate == name) {
        let remedy = did_you_mean(name, names.iter().map(String::as_str)).unwrap_or_else(|| {
            "correct the name or remove the entry; an update of the rules may have removed the rule"
                .to_owned()
        });
        diagnostics.add(offset, format!("unknown signature '{name}'"), remedy);
    }
}

/// Checks that each exemption has a reason, a unique name, and at least one limit: an account, a
/// tenant, a path or signatures. A cluster is not allowed as a limit.
fn check_exemptions(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for (offset, entry) in entries(document, "exemption") {
        let name = text(entry, "name").map_or("", |(_, name)| name);
        if let Some((offset, reason)) = text(entry, "reason")
            && reason.trim().is_empty()
        {
            let remedy = "write the reason, for the next person who reads the policy";
            diagnostics.add(offset, format!("exemption '{name}' has no reason"), remedy);
        }
        if let Some(key) = entry.keys().find(|key| key.get_ref() == "cluster") {
            let problem = format!(
                "exemption '{name}' names a cluster: expected an account or a tenant, since naming \
                 a cluster can only tighten"
            );
            diagnostics.add(key.span().start, problem, MILDER_REMEDY);
        }
        let has_no_signatures = value(entry, "signatures")
            .is_none_or(|(_, list)| list.as_array().is_some_and(|list| list.is_empty()));
        let has_condition =
            ["account", "tenant", "path"].iter().any(|condition| entry.contains_key(*condition));
        if has_no_signatures && !has_condition {
            let problem = format!(
                "exemption '{name}' exempts everything: expected an account, a tenant, a path or \
                 signatures"
            );
            diagnostics.add(offset, problem, "add one of the four");
        }
    }
    check_unique(document, "exemption", "name", diagnostics);
}

/// Remedy for a finding without a better one.
pub const HELP: &str = "rules/policy.toml shows every setting";
