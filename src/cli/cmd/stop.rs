//! `hedgerow stop`: stops enforcing, for all requests or for some paths, without the signing key.

use std::path::Path;

use hedgerow_core::api::{StopRequest, StopStatus};
use hedgerow_core::rules::stop::Stop;
use serde_json::json;

use crate::config::{Config, TargetArgs};
use crate::error::{Error, Outcome, Result};
use crate::terminal::{Format, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct StopArgs {
    /// Stop only requests whose path matches this pattern, such as `/v1/chat/**`; can be given
    /// several times; default: all requests.
    #[arg(long = "path", value_name = "PATTERN")]
    paths: Vec<String>,
    /// Record this reason in the audit log, and show it in the console.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    target: TargetArgs,
}

pub fn run(args: &StopArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    Stop::check_paths(&args.paths).map_err(|error| Error::Io(error.to_string()))?;
    let config = Config::load(config, &args.target)?;
    let client = config.admin_client("`hedgerow stop`")?;
    let request = StopRequest {
        paths: args.paths.clone(),
        reason: args.reason.clone(),
        author: config.author(),
    };
    let status: StopStatus = client.post("/stop", json!(request))?;
    if format == Format::Json {
        print_json(&status)?;
    } else {
        print_line(format_args!("stopped: {}", describe_stop(&status.stop)))?;
        print_line(format_args!(
            "isolates read this within REFRESH_SECONDS and the 30 seconds for which KV may answer \
             from its cache; `hedgerow status --watch` shows when"
        ))?;
        print_line(format_args!("a release does not end it; `hedgerow resume` does"))?;
    }
    if let Some(problem) = &status.problem {
        print_error(&format!(
            "warning: the stop is stored, but the edge cannot see it yet: {problem}; the registry \
             retries; to stop without it: `npx wrangler deploy --var MODE_CEILING:shadow`"
        ));
    }
    Ok(Outcome::from_complete(status.published))
}

/// Describes which requests a stop is for.
pub fn describe_stop(stop: &Stop) -> String {
    match stop.paths.as_slice() {
        [] => "no request is enforced".to_owned(),
        paths => format!("requests for {} are not enforced", paths.join(" ")),
    }
}
