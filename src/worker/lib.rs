//! Hedgerow as a Cloudflare Worker: every LLM API request is scored on its way to the origin.
//!
//! This file is the table of contents; a request's life is in `filter`. The core, `hedgerow`, knows
//! no clock, no network and no secret: all of that is here.
//!
//! | module | what it knows |
//! |---|---|
//! | `filter` | one request: the order of I/O, and that trouble of ours never costs a client its answer |
//! | `intake` | what came, without its body: target, headers, client, account |
//! | `body` | the body: read up to the scan window, the rest streamed on |
//! | `forward` | the origin, and what reaches it |
//! | `rules` | the isolate's rulesets, and where newer ones come from |
//! | `store` | KV: how what was published reaches isolates |
//! | `shadow` | what a ruleset that is only watched says |
//! | `tag` | what the origin (and, in development, the client) is told about a decision |
//! | `outbox`, `tally`, `recent` | what the isolate counts, and single decisions, until they are reported |
//! | `sightings` | what correlation is to see of requests, until it is sent |
//! | `indicators` | the isolate's indicators, and where newer ones come from |
//! | `correlator` | the objects that count over all isolates |
//! | `ledger` | the objects that keep the counts, and the last decisions |
//! | `registry` | the object that holds bundles and releases, and publishes them |
//! | `settings` | what the deployment has set, and what it lacks |
//! | `admin` | `/_hedgerow/health`, `/_hedgerow/version` |
//! | `api`, `status`, `clusters`, `insight`, `series` | `/_hedgerow/v1/…`, for those who have a token |
//! | `console` | `/_hedgerow/`: the page for people |
//! | `clock`, `sql` | what the platform's time and its SQLite leave open |
//! | `error` | failures, and the response to each |
//! | `log` | every line that is logged |
//! | `mac` | keyed hashes |

mod admin_api;
mod correlator_do;
mod isolate;
mod ledger_do;
mod platform;
mod registry_do;
mod request;

use web_sys::{Request, Response};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event};

use crate::admin_api::{console, health};
use crate::platform::log;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::filter;

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    // Where the Worker sits on a route, what escapes all else below still reaches the origin.
    context.pass_through_on_exception();
    log::install_panic_hook();
    let settings = Settings::for_isolate(&env);
    let request = ClientRequest::new(request);
    if admin_api::matches_path(request.path()) {
        return Ok(admin_api::handle(&request, &settings, &context).await);
    }
    if console::matches_path(request.path()) {
        return Ok(console::handle(&request, &settings).await);
    }
    if health::matches_path(request.path()) {
        return Ok(health::handle(&request, &settings));
    }
    Ok(filter::handle(&request, &settings, &context).await)
}

/// Each minute: fetches rules from CONFIG_URL, where that is set, and sees to it that KV has what it
/// should.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    log::install_panic_hook();
    registry_do::request_maintenance(&Settings::for_isolate(&env)).await;
}
