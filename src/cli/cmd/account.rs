//! `hedgerow account`: prints the account id of a credential, as decisions show it.

use std::io::Read;
use std::path::{Path, PathBuf};

use hedgerow_core::identity::kind::AccountKind;
use hedgerow_core::identity::principal::{Account, Principal, valid};
use hedgerow_sigma::recorded::RecordedRequest;
use serde_json::json;

use crate::account_ids::{account_id, find_principal, tenant_id};
use crate::error::{Error, Outcome, Result, io_error};
use crate::rules::RulesetArgs;
use crate::secret_file::{env_var, warn_if_readable_by_others};
use crate::terminal::{Format, print_json, print_line};

/// Prints the account id of a credential on standard input: a key or token, header lines such as
/// `Authorization: Bearer …`, or a whole request. The input is neither printed nor stored.
#[derive(clap::Args)]
pub struct AccountArgs {
    /// Read the deployment's ACCOUNT_SECRET from this file instead of the environment.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Read a name that the origin reports as `x-hedgerow-account`, instead of a credential.
    #[arg(long, conflicts_with = "tenant")]
    origin: bool,
    /// Read the name of a tenant, and print the tenant id.
    #[arg(long)]
    tenant: bool,
    /// Path of the request. If the input contains several credentials, the path decides which one
    /// counts.
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &AccountArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let secret = read_secret(args.secret_file.as_deref())?;
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).map_err(|error| io_error(Path::new("-"), &error))?;
    let name = || {
        let text = std::str::from_utf8(&input).ok();
        text.and_then(valid).map(str::to_owned).ok_or_else(|| {
            Error::Io("the name on standard input is invalid: expected one line of text".to_owned())
        })
    };
    if args.tenant {
        return print_ids(&[("tenant", tenant_id(&secret, &name()?))], format);
    }
    let (account, tenant) = if args.origin {
        (Account { kind: AccountKind::Origin, text: name()? }, None)
    } else {
        let ruleset = args.ruleset.load(config)?;
        let recorded = read_credential(&input, &args.path)?;
        let dialect = ruleset.policy().endpoint(&recorded.path).dialect();
        let Principal { account, tenant, .. } =
            find_principal(&recorded, dialect, ruleset.policy());
        let account = account.ok_or_else(|| {
            Error::Io(
                "standard input names no account: expected a credential, or headers that \
                 [identity] in policy.toml lists"
                    .to_owned(),
            )
        })?;
        (account, tenant)
    };
    let tenant = tenant.and_then(|tenant| tenant_id(&secret, &tenant));
    let mut ids = vec![
        ("account", account_id(&secret, &account)),
        ("kind", Some(account.kind.name().to_owned())),
    ];
    ids.extend(tenant.map(|tenant| ("tenant", Some(tenant))));
    print_ids(&ids, format)
}

/// Prints pairs of a name and an id, as one JSON object or as one line for each pair.
fn print_ids(ids: &[(&str, Option<String>)], format: Format) -> Result<Outcome> {
    match format {
        Format::Json => {
            let pairs = ids.iter().map(|(name, id)| ((*name).to_owned(), json!(id)));
            print_json(&serde_json::Value::Object(pairs.collect()))?;
        }
        Format::Text => {
            for (name, id) in ids {
                print_line(format_args!("{name:<8}{}", id.as_deref().unwrap_or_default()))?;
            }
        }
    }
    Ok(Outcome::Success)
}

/// Parses a raw request or a JSON line. Any other text is taken for header lines or for a value of
/// `Authorization`, and becomes a request with these headers and the path `path`.
fn read_credential(input: &[u8], path: &str) -> Result<RecordedRequest> {
    let text = String::from_utf8_lossy(input);
    let text = text.trim();
    let is_request = text.starts_with('{')
        || text.lines().next().is_some_and(|line| line.contains(" /") || line.contains(" http"));
    let request = if is_request {
        text.to_owned()
    } else if is_header_line(text.lines().next().unwrap_or_default()) {
        format!("POST {path} HTTP/1.1\n{text}\n\n")
    } else {
        format!("POST {path} HTTP/1.1\nauthorization: {text}\n\n")
    };
    RecordedRequest::parse(request.as_bytes())
        .map_err(|problem| Error::Io(format!("standard input: {problem}")))
}

/// Returns whether a line is a header: a name, a colon, a space and a value.
fn is_header_line(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// Reads the secret from the file if a path is given, or else from the environment. Returns an
/// error if the secret is missing or shorter than [`MIN_SECRET_BYTES`].
fn read_secret(path: Option<&Path>) -> Result<String> {
    let secret = match path {
        Some(path) => {
            warn_if_readable_by_others(path);
            let text = std::fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
            Some(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        None => env_var("ACCOUNT_SECRET"),
    };
    secret.filter(|secret| secret.trim().len() >= MIN_SECRET_BYTES).ok_or_else(|| {
        Error::Io(format!(
            "ACCOUNT_SECRET is missing or too short: expected at least {MIN_SECRET_BYTES} \
             characters; give --secret-file, or set the variable to the secret of the deployment"
        ))
    })
}

/// Minimum length of ACCOUNT_SECRET in bytes, as at the edge.
const MIN_SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_in_every_form() {
        let rows = [
            ("sk-1\n", "authorization", "sk-1"),
            ("Bearer sk-1", "authorization", "Bearer sk-1"),
            ("X-Api-Key: sk-1\n", "x-api-key", "sk-1"),
            ("POST /v1/messages HTTP/1.1\nx-api-key: sk-1\n\n", "x-api-key", "sk-1"),
            (r#"{"path":"/v1","headers":{"api-key":"sk-1"}}"#, "api-key", "sk-1"),
        ];
        for (input, name, value) in rows {
            let recorded = read_credential(input.as_bytes(), "/v1/chat/completions").unwrap();
            let header = recorded.headers.first().unwrap();
            assert_eq!((header.0.as_str(), header.1.as_str()), (name, value), "{input}");
        }
    }
}
