//! The routes of the admin API: method, path, handler and scope.

use crate::admin_api::auth::Scope;
use crate::admin_api::error::ApiError;

/// The part of the Worker that handles a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteHandler {
    /// `status.rs`: the registry's status and recent traffic.
    Status,
    /// `metrics.rs`: counters and states for Prometheus.
    Metrics,
    /// `series.rs`: counts over time.
    Series,
    /// `decisions.rs`: sampled decisions.
    Decisions,
    /// `live.rs`: the WebSocket.
    Live,
    /// `live.rs`: tickets for the WebSocket.
    LiveTicket,
    /// `clusters.rs`: the registry's clusters and their traffic.
    Clusters,
    /// `principals.rs`: names of accounts.
    Principals,
    /// `registry_do.rs`: the registry gets the request under the same path.
    Registry,
}

/// A route of the admin API.
#[derive(Debug)]
pub struct AdminRoute {
    /// HTTP method.
    pub method: &'static str,
    /// Path below [`PREFIX`](super::PREFIX). A parameter in braces matches any text.
    pub path: &'static str,
    /// The part of the Worker that handles the route.
    pub handler: RouteHandler,
    /// The scope that the caller needs.
    pub scope: Scope,
}

/// All routes. The first path that matches a request wins; docs/openapi.yaml describes them.
#[rustfmt::skip]
const ROUTES: &[AdminRoute] = &[
    route("GET",  "/status",                  RouteHandler::Status,     Scope::Read),
    route("GET",  "/metrics",                 RouteHandler::Metrics,    Scope::Read),
    route("GET",  "/series",                  RouteHandler::Series,     Scope::Read),
    route("GET",  "/decisions",               RouteHandler::Decisions,  Scope::Read),
    route("GET",  "/live",                    RouteHandler::Live,       Scope::Read),
    route("GET",  "/live/ticket",             RouteHandler::LiveTicket, Scope::Read),
    route("GET",  "/clusters",                RouteHandler::Clusters,   Scope::Read),
    route("POST", "/clusters/{id}/split",     RouteHandler::Registry,   Scope::Admin),
    route("GET",  "/clusters/{id}",           RouteHandler::Clusters,   Scope::Read),
    route("GET",  "/indicators",              RouteHandler::Registry,   Scope::Read),
    route("POST", "/indicators/revoke",       RouteHandler::Registry,   Scope::Admin),
    route("POST", "/indicators/{key}/revoke", RouteHandler::Registry,   Scope::Admin),
    route("GET",  "/indicators/{key}",        RouteHandler::Registry,   Scope::Read),
    route("POST", "/principals",              RouteHandler::Principals, Scope::Admin),
    route("GET",  "/bundles",                 RouteHandler::Registry,   Scope::Read),
    route("GET",  "/bundles/{digest}",        RouteHandler::Registry,   Scope::Read),
    route("PUT",  "/bundles/{digest}",        RouteHandler::Registry,   Scope::Admin),
    route("GET",  "/releases",                RouteHandler::Registry,   Scope::Read),
    route("POST", "/releases",                RouteHandler::Registry,   Scope::Admin),
    route("GET",  "/releases/current",        RouteHandler::Registry,   Scope::Read),
    route("POST", "/promote",                 RouteHandler::Registry,   Scope::Admin),
    route("POST", "/rollback",                RouteHandler::Registry,   Scope::Admin),
    route("POST", "/stop",                    RouteHandler::Registry,   Scope::Stop),
    route("GET",  "/diff",                    RouteHandler::Registry,   Scope::Read),
    route("GET",  "/audit",                   RouteHandler::Registry,   Scope::Read),
];

const fn route(
    method: &'static str,
    path: &'static str,
    handler: RouteHandler,
    scope: Scope,
) -> AdminRoute {
    AdminRoute { method, path, handler, scope }
}

/// Returns the route of a request. `path` is the part after the API's prefix.
///
/// # Errors
/// `not_found`, if no route has the path; `method`, if its routes have other methods.
pub fn find(method: &str, path: &str) -> Result<&'static AdminRoute, ApiError> {
    let first = ROUTES.iter().find(|route| route.matches_path(path)).ok_or_else(not_found)?;
    let mut with_path = ROUTES.iter().filter(|route| route.path == first.path);
    let methods = with_path.clone().map(|route| route.method);
    with_path.find(|route| route.method == method).ok_or_else(|| {
        let remedy = format!("use {}", methods.collect::<Vec<_>>().join(" or "));
        ApiError::new(405, "method", "this path does not support the method", remedy)
    })
}

/// Returns the error for a path without a route.
pub fn not_found() -> ApiError {
    let remedy = "docs/openapi.yaml lists every path";
    ApiError::new(404, "not_found", "unknown path", remedy)
}

impl AdminRoute {
    fn matches_path(&self, path: &str) -> bool {
        let Some((prefix, rest)) = self.path.split_once('{') else { return self.path == path };
        let suffix = rest.split_once('}').map_or("", |(_, suffix)| suffix);
        path.strip_prefix(prefix).is_some_and(|rest| rest.ends_with(suffix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_match_method_and_path() {
        let rows = [
            ("GET", "/bundles", Ok(Scope::Read)),
            ("PUT", "/bundles/abc", Ok(Scope::Admin)),
            ("POST", "/rollback", Ok(Scope::Admin)),
            ("GET", "/rollback", Err(405)),
            ("DELETE", "/bundles/abc", Err(405)),
            ("GET", "", Err(404)),
            ("POST", "/pull", Err(404)),
            ("POST", "/audit", Err(405)),
            ("POST", "/maintenance", Err(404)),
            ("POST", "/principals", Ok(Scope::Admin)),
            ("GET", "/principals", Err(405)),
            ("POST", "/names", Err(404)),
            ("POST", "/labels", Err(404)),
            ("POST", "/firings", Err(404)),
            ("POST", "/indicators", Err(405)),
            ("GET", "/indicators/00/revoke", Err(405)),
            ("POST", "/indicators/00/revoke", Ok(Scope::Admin)),
            ("POST", "/indicators/revoke", Ok(Scope::Admin)),
            ("GET", "/indicators/revoke", Err(405)),
            ("GET", "/indicators/00", Ok(Scope::Read)),
            ("GET", "/clusters/00", Ok(Scope::Read)),
            ("POST", "/clusters/00/split", Ok(Scope::Admin)),
        ];
        for (method, path, expected) in rows {
            let scope = find(method, path).map(|route| route.scope).map_err(|error| error.status);
            assert_eq!(scope, expected, "{method} {path}");
        }
        assert_eq!(find("GET", "/releases/current").unwrap().path, "/releases/current");
        assert_eq!(find("GET", "/bundles/").unwrap().path, "/bundles/{digest}");
        assert_eq!(find("PATCH", "/bundles/0").unwrap_err().remedy, "use GET or PUT");
    }

    #[test]
    fn only_the_admin_scope_writes_except_stops() {
        for AdminRoute { method, path, scope, .. } in ROUTES {
            let expected = match (*method, *path) {
                ("GET", _) => Scope::Read,
                (_, "/stop") => Scope::Stop,
                _ => Scope::Admin,
            };
            assert_eq!(*scope, expected, "{method} {path}");
        }
    }

    #[test]
    fn every_route_is_documented() {
        let openapi = include_str!("../../../docs/openapi.yaml");
        for AdminRoute { method, path, .. } in ROUTES {
            let (_, operations) =
                openapi.split_once(&format!("\n  /_hedgerow/v1{path}:\n")).unwrap_or_default();
            let operations = operations.split("\n  /").next().unwrap_or_default();
            let operation = format!("    {}:\n", method.to_lowercase());
            assert!(operations.contains(&operation), "{method} {path}");
        }
    }
}
