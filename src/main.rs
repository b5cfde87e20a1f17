//! `hedgerow`: checks, tests and builds rules; scores, explains and replays requests.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
