//! `hedgerow exempt`, `weigh`, `disable` and `override`: change `policy.toml` in the rules
//! directory, with a reason and an end.
//!
//! A change is checked before it is written. It reaches a deployment only with `hedgerow push`.

mod change;
mod document;

use std::path::Path;

use change::{PolicyArgs, change_policy};
use clap::ValueEnum;
use document::{Entry, RuleLabel, day, names};
use hedgerow_core::rules::policy::Exemption;
use hedgerow_sigma::Rules;
use toml_edit::DocumentMut;

use crate::dates::{format_last_day, now, parse_policy_end};
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
    let end = until.as_deref().map(|text| parse_policy_end(text, now())).transpose()?;
    change_policy(&args.policy, config, format, |document, rules| {
        let (Some(reason), Some(end)) = (reason, end) else {
            return remove(document, rules, "exemption", "name", name);
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
            if document::remove_setting(document, rule_label(rules, name), "weight")? {
                return Ok(());
            }
            return Err(no_setting(rules, name, "has no weight in the policy"));
        };
        refuse_second_setting(document, rules, name)?;
        let entry = Entry::new("signature").text("name", name).with("weight", (*weight).into());
        entry.text("reason", reason).add_to(document)
    })
}

pub fn disable(args: &DisableArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let DisableArgs { name, reason, until, .. } = args;
    let end = until.as_deref().map(|text| parse_policy_end(text, now())).transpose()?;
    let exemption_name = format!("disabled-{name}");
    change_policy(&args.policy, config, format, |document, rules| {
        let Some(reason) = reason else {
            return enable(document, rules, name, &exemption_name);
        };
        refuse_second_setting(document, rules, name)?;
        let Some(until) = end else {
            refuse_second_end(document, rules, name, &exemption_name)?;
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
    let end = args.until.as_deref().map(|text| parse_policy_end(text, now())).transpose()?;
    change_policy(&args.policy, config, format, |document, rules| {
        let (Some(mode), Some(reason), Some(end)) = (args.mode, &args.reason, end) else {
            return remove(document, rules, kind, "id", id);
        };
        if let Some(file) = rules.policy_files.get(&(kind.to_owned(), id.clone())) {
            let is_own = document::contains(document, kind, "id", id);
            let undo = format!("hedgerow override --{kind} {id} --remove");
            return Err(Error::Rejected(format!(
                "{file} has settings of the {kind} {id} already; {}",
                remedy(is_own, file, kind, &undo)
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
        let file = file_of(rules, "exemption", &old.name);
        let is_own = document::contains(document, "exemption", "name", &old.name);
        let undo = format!("hedgerow exempt {} --remove", old.name);
        let remedy = remedy(is_own, file, "exemption", &undo);
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

/// Returns the name of a rule, and its id if it has one.
fn rule_label<'r>(rules: &'r Rules, name: &'r str) -> RuleLabel<'r> {
    RuleLabel { name, id: rules.id_of(name) }
}

/// Returns the policy file that has an entry of an array, for messages.
fn file_of<'r>(rules: &'r Rules, kind: &str, label: &str) -> &'r str {
    let file = rules.policy_files.get(&(kind.to_owned(), label.to_owned()));
    file.map_or("policy.toml", String::as_str)
}

/// Returns how to change an entry that exists. `is_own` is whether the uppermost layer has it; only
/// then can the command `undo` remove it.
fn remedy(is_own: bool, file: &str, kind: &str, undo: &str) -> String {
    if is_own {
        return format!("remove it with `{undo}`, or change it in {file}");
    }
    format!(
        "{file} belongs to a lower layer: change it there, or write the whole section [[{kind}]] \
         into the policy.toml of the uppermost layer, which then replaces it"
    )
}

/// Returns `Rejected` if the policy already changes the weight of a rule, or disables it.
fn refuse_second_setting(document: &DocumentMut, rules: &Rules, name: &str) -> Result<()> {
    let settings = &rules.policy.signatures;
    let Some(old) = settings.iter().find(|setting| setting.name == name) else { return Ok(()) };
    let (state, command) = match (old.off, old.weight) {
        (true, _) => ("disables".to_owned(), "disable"),
        (false, Some(weight)) => (format!("gives the weight {weight} to"), "weigh"),
        (false, None) => {
            return Err(Error::Rejected(format!(
                "{} has an entry without effect for '{name}'; remove the entry",
                file_of(rules, "signature", name)
            )));
        }
    };
    let is_own = document::has_setting(document, rule_label(rules, name));
    let undo = format!("hedgerow {command} {name} --remove");
    let file = file_of(rules, "signature", name);
    Err(Error::Rejected(format!(
        "the policy {state} '{name}' already; {}",
        remedy(is_own, file, "signature", &undo)
    )))
}

/// Returns `Rejected` if an exemption in force disables a rule up to a day. With both forms, the
/// rule would stay disabled after that day.
fn refuse_second_end(
    document: &DocumentMut,
    rules: &Rules,
    name: &str,
    exemption_name: &str,
) -> Result<()> {
    let mut exemptions = rules.policy.exemptions.iter();
    let in_force = exemptions.find(|old| old.name == *exemption_name && now() < old.until);
    let Some(old) = in_force else { return Ok(()) };
    let is_own = document::contains(document, "exemption", "name", exemption_name);
    let undo = format!("hedgerow disable {name} --remove");
    Err(Error::Rejected(format!(
        "the exemption '{exemption_name}' disables '{name}' already (last day {}); {}",
        format_last_day(old.until),
        remedy(is_own, file_of(rules, "exemption", exemption_name), "exemption", &undo)
    )))
}

/// Removes both forms of a disabled rule: the exemption with an end, and `off = true`. Returns
/// `Rejected` if the uppermost policy has neither.
fn enable(
    document: &mut DocumentMut,
    rules: &Rules,
    name: &str,
    exemption_name: &str,
) -> Result<()> {
    let had_exemption = document::remove(document, "exemption", "name", exemption_name)?;
    let was_off = document::remove_setting(document, rule_label(rules, name), "off")?;
    if had_exemption || was_off {
        return Ok(());
    }
    let exemption = ("exemption".to_owned(), exemption_name.to_owned());
    if let Some(file) = rules.policy_files.get(&exemption) {
        return Err(Error::Rejected(in_lower_layer(file, "exemption", exemption_name)));
    }
    Err(no_setting(rules, name, "is not disabled in the policy"))
}

/// Returns the error for a setting of a rule that the uppermost policy does not have.
fn no_setting(rules: &Rules, name: &str, problem: &str) -> Error {
    let entry = ("signature".to_owned(), name.to_owned());
    let has_entry = rules.policy_files.get(&entry);
    Error::Rejected(match has_entry {
        Some(file) => format!(
            "'{name}' {problem} of the uppermost layer: expected a setting to remove; {file} has \
             the [[signature]] for '{name}': change it there"
        ),
        None => format!("'{name}' {problem}: expected a setting to remove; correct the name"),
    })
}

/// Returns the message for an entry that only a lower layer has.
fn in_lower_layer(file: &str, kind: &str, label: &str) -> String {
    format!(
        "the {kind} '{label}' is in {file}: expected it in the policy of the uppermost layer; \
         remove it there, or write a section [[{kind}]] that replaces it"
    )
}

/// Removes an entry. Returns `Rejected` if the uppermost policy does not have it.
fn remove(
    document: &mut DocumentMut,
    rules: &Rules,
    kind: &str,
    key: &str,
    label: &str,
) -> Result<()> {
    if document::remove(document, kind, key, label)? {
        return Ok(());
    }
    let lower = rules.policy_files.get(&(kind.to_owned(), label.to_owned()));
    Err(Error::Rejected(match lower {
        Some(file) => in_lower_layer(file, kind, label),
        None => format!(
            "the policy has no {kind} with the {key} '{label}': expected one to remove; correct \
             the {key}"
        ),
    }))
}
