//! `/_hedgerow/health` and `/_hedgerow/version`: for monitors and deployments, without a token,
//! unless the policy hides the version.
//!
//! Health lists every problem with its remedy. It shows the ruleset, the number of signatures, the
//! mode and the last rejected release only in development.
//!
//! Version shows the version, the release, the ruleset's digest, whether panics unwind, and the
//! role of the host for the console. With the digest, an operator can compare a deployment with the
//! output of `hedgerow build`. The digest reveals nothing about the rules.

use std::rc::Rc;

use hedgerow_core::api::{ConfigProblem, HealthDetails, HealthReport, HealthStatus, VersionInfo};
use web_sys::Response;
use worker::Context;

use crate::admin_api::hidden;
use crate::isolate::access_keys;
use crate::isolate::account_stats;
use crate::isolate::active_rules;
use crate::isolate::active_rules::ActiveRules;
use crate::platform::clock::now_seconds;
use crate::platform::memory::wasm_memory_bytes;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::{RequestError, json_response};

/// Answers GET and HEAD for the two paths, and 404 to other methods.
pub async fn handle(
    request: &ClientRequest,
    settings: &Rc<Settings>,
    context: &Context,
) -> Response {
    match (request.method(), request.path()) {
        ("GET" | "HEAD", "/_hedgerow/health") => health(request, settings),
        ("GET" | "HEAD", "/_hedgerow/version") => {
            let checked = hidden::check(request, settings, context).await;
            checked.map_or_else(
                |rejection| rejection,
                |_| json_response(200, &version(request, settings)),
            )
        }
        _ => RequestError::NotFound.to_response(None, ""),
    }
}

/// Returns the response for health. Its status is 503 if requests are not forwarded or not scored,
/// otherwise 200, even with warnings. So a monitor only needs the status.
fn health(request: &ClientRequest, settings: &Settings) -> Response {
    let mut problems = settings.problems();
    let rules = active_rules::current();
    if let Err(problem) = &rules {
        let message = format!(
            "the embedded ruleset does not load: {problem}; requests are forwarded unscored"
        );
        problems.push(ConfigProblem::new(
            message,
            "run `hedgerow check` and `npm run build`, and deploy again",
        ));
    }
    let (code, status) =
        if problems.is_empty() { (200, HealthStatus::Ok) } else { (503, HealthStatus::Degraded) };
    let mut warnings = settings.warnings(request.header("cf-connecting-ip"));
    if active_rules::has_correlations() && settings.correlators().is_none() {
        warnings.push(ConfigProblem::new(
            "the binding CORRELATOR is missing: correlations are not counted",
            "restore the binding in wrangler.toml, and deploy again",
        ));
    }
    if let Ok(rules) = &rules {
        let policy = rules.active().policy();
        warnings.extend(settings.identity_warnings(&policy.identity));
        if policy.admin.hidden {
            warnings.extend(settings.hidden_console_warning());
        }
    }
    warnings.extend(account_stats::warnings(now_seconds()));
    warnings.extend(access_keys::warning());
    let rejection = active_rules::last_problem();
    if rejection.is_some() {
        // The cause may name rules, so only the log and `hedgerow status` show it.
        warnings.push(ConfigProblem::new(
            "the last release was rejected: the rules before it stay in force",
            "see `hedgerow status`",
        ));
    }
    let details = settings.is_development.then(|| details(rules.as_ref().ok(), rejection));
    json_response(
        code,
        &HealthReport { status, problems, warnings, memory_bytes: wasm_memory_bytes(), details },
    )
}

/// Returns the members that exist only in development. `rules` is `None` if no rules load.
fn details(rules: Option<&ActiveRules>, rejection: Option<String>) -> HealthDetails {
    let ruleset = rules.map(ActiveRules::active);
    HealthDetails {
        ruleset: ruleset.map(|ruleset| ruleset.digest().to_owned()),
        signatures: ruleset.map(|ruleset| ruleset.signatures().len() as u64),
        mode: ruleset.map(|ruleset| ruleset.policy().mode),
        release: rules.and_then(ActiveRules::serial),
        rejection,
    }
}

/// Returns the body of `/_hedgerow/version`.
fn version(request: &ClientRequest, settings: &Settings) -> VersionInfo {
    let rules = active_rules::current().ok();
    VersionInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ruleset: rules.as_ref().map(|rules| rules.active().digest().to_owned()),
        release: rules.as_ref().and_then(ActiveRules::serial),
        // In a build that does not unwind, a panic fails all requests of the isolate in flight.
        panic_unwind: cfg!(panic = "unwind"),
        console_host: settings.console_host(&request.raw.url()),
    }
}
