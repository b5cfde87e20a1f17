//! Hedgerow as a Cloudflare Worker: scores LLM API requests on their way to the origin.
//!
//! This file has the Worker's event handlers and its list of routes. `request/filter.rs` describes
//! the life of a request. The core crate does not use a clock, the network or secrets: this crate
//! does.
//!
//! | folder | content |
//! |---|---|
//! | `request/` | one request: head, body, score, enforcement, origin, response |
//! | `isolate/` | state that an isolate's requests share: rules, indicators, counters, queues |
//! | `admin_api/` | `/_hedgerow/…`: health, version, console and the admin API |
//! | `registry_do/` | the Durable Object that publishes releases, indicators and account names |
//! | `ledger_do/` | the Durable Objects that store counters and sampled decisions |
//! | `correlator_do/` | the Durable Objects that count the observations of all isolates |
//! | `platform/` | KV, SQL, time, HMAC, leases, panics, settings, the log |

mod admin_api;
mod correlator_do;
mod isolate;
mod ledger_do;
mod platform;
mod registry_do;
mod request;

use hedgerow_core::api::ConsoleHost;
use web_sys::{Request, Response};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event};

use crate::admin_api::{console, health, hidden};
use crate::platform::panic;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;
use crate::request::response::RequestError;
use crate::request::{filter, service_worker};

/// The part of the Worker that answers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    /// Health and version, without authentication unless the policy hides the version.
    Health,
    /// The console's files.
    Console,
    /// The admin API, which needs a token.
    AdminApi,
    /// Response 404: the path begins with Hedgerow's prefix, but no endpoint has it.
    NotFound,
    /// The filter, for all other paths: they belong to the origin.
    Filter,
}

/// All routes. A pattern is a path, or a prefix that ends with `*`. The first match is used.
const ROUTES: &[(&str, Route)] = &[
    ("/_hedgerow/health", Route::Health),
    ("/_hedgerow/version", Route::Health),
    ("/_hedgerow", Route::Console),
    ("/_hedgerow/", Route::Console),
    ("/_hedgerow/assets/*", Route::Console),
    ("/_hedgerow/rules/*", Route::Console),
    ("/_hedgerow/v1", Route::AdminApi),
    ("/_hedgerow/v1/*", Route::AdminApi),
    ("/_hedgerow/*", Route::NotFound),
    ("*", Route::Filter),
];

impl Route {
    /// Returns the route of the first pattern that matches `path`. `path` has neither a query nor
    /// dot segments.
    fn for_path(path: &str) -> Self {
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == pattern,
        };
        let found = ROUTES.iter().find(|(pattern, _)| matches(pattern));
        found.map_or(Self::Filter, |(_, route)| *route)
    }

    /// Returns the route on a host that has the role `host` for the console. If CONSOLE_HOST is
    /// set, the console exists only on that host, and the origin's paths only on other hosts:
    /// scripts of the origin's pages then cannot use the console. The admin API and health are on
    /// every host, because they trust nothing that other pages of the host could control.
    fn on_host(self, host: ConsoleHost) -> Self {
        match (self, host) {
            (Self::Console, ConsoleHost::Other) | (Self::Filter, ConsoleHost::Own) => {
                Self::NotFound
            }
            (route, _) => route,
        }
    }
}

/// Answers a request. Each handler turns its own errors into responses.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    // If this handler throws and the Worker runs on a route of a zone, the platform still forwards
    // the request to the origin.
    context.pass_through_on_exception();
    panic::install_hook();
    let settings = Settings::for_isolate(&env);
    let request = ClientRequest::new(request);
    let host = settings.console_host(&request.raw.url());
    Ok(match Route::for_path(request.path()).on_host(host) {
        // Hedgerow has no service worker: a request for a service worker's script is answered with
        // 404.
        route if route != Route::Filter && service_worker::is_script_request(&request) => {
            RequestError::NotFound.to_response(None, "")
        }
        Route::Health => health::handle(&request, &settings, &context).await,
        Route::Console => console::handle(&request, &settings, &context).await,
        Route::AdminApi => admin_api::handle(&request, &settings, &context).await,
        Route::NotFound => hidden::not_found(&request, &settings, &context).await,
        Route::Filter => filter::handle(&request, &settings, &context).await,
    })
}

/// Runs every minute: the registry pulls rules from CONFIG_URL, if that is set, and writes values
/// that are missing in KV.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    panic::install_hook();
    registry_do::client::request_maintenance(&Settings::for_isolate(&env)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_prefix_are_not_filtered() {
        let rows = [
            ("/_hedgerow", Route::Console),
            ("/_hedgerow/", Route::Console),
            ("/_hedgerow/assets/index-a.js", Route::Console),
            ("/_hedgerow/rules/bundle-a.json", Route::Console),
            ("/_hedgerow/health", Route::Health),
            ("/_hedgerow/version", Route::Health),
            ("/_hedgerow/v1", Route::AdminApi),
            ("/_hedgerow/v1/status", Route::AdminApi),
            ("/_hedgerow/v11", Route::NotFound),
            ("/_hedgerow/health/x", Route::NotFound),
            ("/_hedgerow/index.html", Route::NotFound),
            ("/_hedgerows", Route::Filter),
            ("/v1/_hedgerow/health", Route::Filter),
            ("/assets/index-a.js", Route::Filter),
            ("/v1/chat/completions", Route::Filter),
            ("/", Route::Filter),
            ("", Route::Filter),
        ];
        for (path, expected) in rows {
            assert_eq!(Route::for_path(path), expected, "{path}");
        }
    }

    #[test]
    fn the_host_of_the_console_has_nothing_else() {
        use ConsoleHost::{Local, Other, Own, Shared};
        let rows = [
            (Route::Console, [true, true, true, false]),
            (Route::Filter, [false, true, true, true]),
            (Route::Health, [true; 4]),
            (Route::AdminApi, [true; 4]),
        ];
        for (route, expected) in rows {
            let found = [Own, Local, Shared, Other].map(|host| route.on_host(host) == route);
            assert_eq!(found, expected, "{route:?}");
        }
    }
}
