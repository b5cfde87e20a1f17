//! The mode in which a request is treated.

use hedgerow_core::rules::policy::Mode;

use crate::isolate::active_rules::ActiveRules;
use crate::isolate::stop;
use crate::platform::settings::Settings;
use crate::request::client_request::ClientRequest;

/// Returns the mode of a request. `policy_mode` is the mode by the policy; in development, the
/// request may choose another. A stop and MODE_CEILING lower either.
pub fn effective_mode(
    request: &ClientRequest,
    settings: &Settings,
    rules: &ActiveRules,
    policy_mode: Mode,
) -> Mode {
    let chosen = settings.is_development.then(|| request.override_header("x-hedgerow-mode"));
    let mode = chosen.flatten().and_then(Mode::parse).unwrap_or(policy_mode);
    mode.min(settings.mode_ceiling).min(stop::ceiling(rules.release(), request.path()))
}
