//! `hedgerow exempt`, `weigh`, `disable` and `override`: change `policy.toml` in the rules
//! directory, with a reason and an end.
//!
//! A change is checked before it is written. It reaches a deployment only with `hedgerow push`.

mod change;
mod document;

use std::path::Path;

use change::{PolicyArgs, change_policy};
use clap::ValueEnum;
use document::{Entry, day, names};
use hedgerow_core::rules::policy::Exemption;
use hedgerow_sigma::Rules;
use toml_edit::DocumentMut;

use crate::dates::{format_last_day, now, parse_policy_end as parse_until};
use crate::error::{Error, Outcome, Result};
use crate::terminal::Format;

#[derive(clap::Args)]
pub struct ExemptArgs {
    /// Name of the exemption, as decisions show it.
    name: String,
    /// Exempt requests of this account.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Exempt requests of this tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Exempt requests whose path matches this pattern, such as `/v1/audit/**`.
    #[arg(long, value_name = "PATTERN")]
    path: Option<String>,
    /// Exempt only from this signature, correlation or list; can be given several times; default:
    /// allow the requests whatever their score.
    #[arg(long = "signature", value_name = "NAME")]
    signatures: Vec<String>,
    /// Record this reason.
    #[arg(long, value_name = "TEXT", required_unless_present = "remove")]
    reason: Option<String>,
    /// Last day of the exemption: a day in UTC such as 2027-01-31, or the day after a period such
    /// as 7d or 2w.
    #[arg(long, value_name = "WHEN", required_unless_present = "remove")]
    until: Option<String>,
    /// Remove the exemption instead.
    #[arg(
        long,
        conflicts_with_all = ["account", "tenant", "path", "signatures", "reason", "until"],
    )]
    remove: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(clap::Args)]
pub struct WeighArgs {
    /// Name of the signature, correlation or list.
    name: String,
    /// Weight in decibans.
    #[arg(allow_negative_numbers = true, required_unless_present = "remove")]
    weight: Option<f64>,
    /// Record this reason.
    #[arg(long, value_name = "TEXT", required_unless_present = "remove")]
    reason: Option<String>,
    /// Remove the weight from the policy, so that the rule's own weight counts again.
    #[arg(long, conflicts_with_all = ["weight", "reason"])]
    remove: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(clap::Args)]
pub struct DisableArgs {
    /// Name of the signature, correlation or list.
    name: String,
    /// Record this reason.
    #[arg(long, value_name = "TEXT", required_unless_present = "remove")]
    reason: Option<String>,
    /// Disable it up to this day, by an exemption for all requests. Correlations still count the
    /// requests that it matches. Without an end, it is switched off completely.
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Enable it again.
    #[arg(long, conflicts_with_all = ["reason", "until"])]
    remove: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(clap::Args)]
pub struct OverrideArgs {
    #[command(flatten)]
    principal: PrincipalArgs,
    /// Mode of the requests: `shadow` only records actions, `enforce` carries them out. The mode of
    /// a cluster can only be `enforce`.
    #[arg(long, value_enum, required_unless_present = "remove")]
    mode: Option<ModeName>,
    /// Record this reason.
    #[arg(long, value_name = "TEXT", required_unless_present = "remove")]
    reason: Option<String>,
    /// Last day of the setting: a day in UTC such as 2027-01-31, or the day after a period such as
    /// 7d or 2w.
    #[arg(long, value_name = "WHEN", required_unless_present = "remove")]
    until: Option<String>,
    /// Remove all settings of the account, tenant or cluster instead.
    #[arg(long, conflicts_with_all = ["mode", "reason", "until"])]
    remove: bool,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// The requests whose mode is set.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct PrincipalArgs {
    /// Id of the account, as decisions show it.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Id of the tenant.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Id of the cluster.
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    Shadow,
    Enforce,
}

pub fn exempt(args: &ExemptArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let ExemptArgs { name, account, tenant, path, signatures, reason, until, .. } = args;
    let end = until.as_deref().map(|text| parse_until(text, now())).transpose()?;
    change_policy(&args.policy, config, format, |document, rules| {
        let (Some(reason), Some(end)) = (reason, end) else {
            return remove(document, "exemption", "name", name);
        };
        let exemption = Exemption {
            name: name.clone(),
            reason: reason.clone(),
            until: end,
            account: account.clone(),
            tenant: tenant.clone(),
            path: path.clone(),
            signatures: signatures.clone(),
        };
        add_exemption(document, rules, &exemption)
    })
}

pub fn weigh(args: &WeighArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let WeighArgs { name, weight, reason, .. } = args;
    change_policy(&args.policy, config, format, |document, rules| {
        let (Some(weight), Some(reason)) = (weight, reason) else {
            return remove_setting(document, name, "weight", "has no weight in the policy");
        };
        refuse_second_setting(rules, name)?;
        let entry = Entry::new("signature").text("name", name).with("weight", (*weight).into());
        entry.text("reason", reason).add_to(document)
    })
}

pub fn disable(args: &DisableArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let DisableArgs { name, reason, until, .. } = args;
    let end = until.as_deref().map(|text| parse_until(text, now())).transpose()?;
    let exemption_name = format!("disabled-{name}");
    change_policy(&args.policy, config, format, |document, rules| {
        let Some(reason) = reason else {
            if document::contains(document, "exemption", "name", &exemption_name) {
                return remove(document, "exemption", "name", &exemption_name);
            }
            return remove_setting(document, name, "off", "is not disabled in the policy");
        };
        refuse_second_setting(rules, name)?;
        let Some(until) = end else {
            let entry = Entry::new("signature").text("name", name).with("off", true.into());
            return entry.text("reason", reason).add_to(document);
        };
        let exemption = Exemption {
            name: exemption_name.clone(),
            reason: reason.clone(),
            until,
            account: None,
            tenant: None,
            path: None,
            signatures: vec![name.clone()],
        };
        add_exemption(document, rules, &exemption)
    })
}

pub fn set_mode(args: &OverrideArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let PrincipalArgs { account, tenant, cluster } = &args.principal;
    let rows = [("account", account), ("tenant", tenant), ("cluster", cluster)];
    let Some((kind, id)) = rows.into_iter().find_map(|(kind, id)| Some((kind, id.as_ref()?)))
    else {
        return Err(Error::Io(
            "nothing is named: expected --account, --tenant or --cluster".into(),
        ));
    };
    let end = args.until.as_deref().map(|text| parse_until(text, now())).transpose()?;
    change_policy(&args.policy, config, format, |document, _| {
        let (Some(mode), Some(reason), Some(end)) = (args.mode, &args.reason, end) else {
            return remove(document, kind, "id", id);
        };
        if document::contains(document, kind, "id", id) {
            return Err(Error::Rejected(format!(
                "the policy has settings of the {kind} {id} already; change them in policy.toml, \
                 or remove them with `hedgerow override --{kind} {id} --remove`"
            )));
        }
        let mode = match mode {
            ModeName::Shadow => "shadow",
            ModeName::Enforce => "enforce",
        };
        let entry = Entry::new(kind).text("id", id).text("mode", mode).text("reason", reason);
        entry.with("until", day(&format_last_day(end))?).add_to(document)
    })
}

/// Adds an exemption. Returns `Rejected` if the policy has its name, or exempts the same requests
/// from the same signatures.
fn add_exemption(document: &mut DocumentMut, rules: &Rules, new: &Exemption) -> Result<()> {
    let Exemption { name, reason, until, account, tenant, path, signatures } = new;
    for old in &rules.policy.exemptions {
        let remedy = format!(
            "remove it with `hedgerow exempt {} --remove`, or change it in policy.toml",
            old.name
        );
        if old.name == *name {
            let day = format_last_day(old.until);
            return Err(Error::Rejected(format!(
                "the exemption '{name}' exists already (last day {day}); {remedy}"
            )));
        }
        let is_same = old.account == *account
            && old.tenant == *tenant
            && old.path == *path
            && old.signatures == *signatures;
        if is_same && now() < old.until {
            return Err(Error::Rejected(format!(
                "the exemption '{}' exempts the same already; {remedy}",
                old.name
            )));
        }
    }
    let mut entry = Entry::new("exemption").text("name", name);
    for (key, value) in [("account", account), ("tenant", tenant), ("path", path)] {
        if let Some(value) = value {
            entry = entry.text(key, value);
        }
    }
    if !signatures.is_empty() {
        entry = entry.with("signatures", names(signatures));
    }
    entry.text("reason", reason).with("until", day(&format_last_day(*until))?).add_to(document)
}

/// Returns `Rejected` if the policy already changes the weight of a signature, or disables it.
fn refuse_second_setting(rules: &Rules, name: &str) -> Result<()> {
    let settings = &rules.policy.signatures;
    let Some(old) = settings.iter().find(|setting| setting.name == name) else { return Ok(()) };
    let (state, command) = match (old.off, old.weight) {
        (true, _) => ("disables".to_owned(), "disable"),
        (false, Some(weight)) => (format!("gives the weight {weight} to"), "weigh"),
        (false, None) => ("has an entry without effect for".to_owned(), "weigh"),
    };
    Err(Error::Rejected(format!(
        "the policy {state} '{name}' already; remove that with `hedgerow {command} {name} --remove`"
    )))
}

/// Removes the setting `key` of a signature, and its entry if no setting remains. Returns
/// `Rejected` if the signature does not have the setting.
fn remove_setting(document: &mut DocumentMut, name: &str, key: &str, problem: &str) -> Result<()> {
    if !document::remove_setting(document, name, key)? {
        return Err(Error::Rejected(format!(
            "'{name}' {problem}: expected a setting to remove; correct the name"
        )));
    }
    Ok(())
}

/// Removes an entry. Returns `Rejected` if the policy does not have it.
fn remove(document: &mut DocumentMut, kind: &str, key: &str, label: &str) -> Result<()> {
    if !document::remove(document, kind, key, label)? {
        return Err(Error::Rejected(format!(
            "the policy has no {kind} with the {key} '{label}': expected one to remove; correct \
             the {key}"
        )));
    }
    Ok(())
}
