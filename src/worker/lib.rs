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
//! | `rules` | the isolate's ruleset |
//! | `tag` | what the origin (and, in development, the client) is told about a decision |
//! | `settings` | what the deployment has set, and what it lacks |
//! | `admin` | `/_hedgerow/…` |
//! | `error` | failures, and the response to each |
//! | `log` | every line that is logged |
//! | `mac` | keyed hashes |

mod admin;
mod body;
mod error;
mod filter;
mod forward;
mod intake;
mod log;
mod mac;
mod rules;
mod settings;
mod tag;

use web_sys::{Request, Response};
use worker::{Context, Env, event};

use crate::intake::Arrival;
use crate::settings::Settings;

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    // Where the Worker sits on a route, what escapes all else below still reaches the origin.
    context.pass_through_on_exception();
    log::quiet_panics();
    let settings = Settings::of(&env);
    let arrival = Arrival::of(request);
    if admin::owns(arrival.path()) {
        return Ok(admin::answer(&arrival, &settings));
    }
    Ok(filter::handle(&arrival, &settings, &context).await)
}
