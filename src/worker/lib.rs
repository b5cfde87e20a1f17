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

mod admin;
mod api;
mod body;
mod clock;
mod clusters;
mod console;
mod correlator;
mod error;
mod filter;
mod forward;
mod indicators;
mod insight;
mod intake;
mod ledger;
mod log;
mod mac;
mod outbox;
mod recent;
mod registry;
mod rules;
mod series;
mod settings;
mod shadow;
mod sightings;
mod sql;
mod status;
mod store;
mod tag;
mod tally;

use web_sys::{Request, Response};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event};

use crate::intake::Arrival;
use crate::settings::Settings;

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    // Where the Worker sits on a route, what escapes all else below still reaches the origin.
    context.pass_through_on_exception();
    log::quiet_panics();
    let settings = Settings::of_isolate(&env);
    let arrival = Arrival::of(request);
    if api::owns(arrival.path()) {
        return Ok(api::answer(&arrival, &settings, &context).await);
    }
    if console::owns(arrival.path()) {
        return Ok(console::answer(&arrival, &settings).await);
    }
    if admin::owns(arrival.path()) {
        return Ok(admin::answer(&arrival, &settings));
    }
    Ok(filter::handle(&arrival, &settings, &context).await)
}

/// Each minute: fetches rules from CONFIG_URL, where that is set, and sees to it that KV has what it
/// should.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    log::quiet_panics();
    registry::ask_to_tend(&Settings::of_isolate(&env)).await;
}
