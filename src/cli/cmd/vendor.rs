//! `hedgerow rules init` and `hedgerow rules update`: a project with the shipped rules as its
//! lowest layer, the vendor directory.

mod directory;
mod init;
mod update;

use std::path::Path;

use crate::error::{Outcome, Result};
use crate::terminal::Format;

#[derive(clap::Subcommand)]
pub enum RulesCommand {
    /// Start a project: settings, the shipped rules in `vendor`, and a layer for your own rules in
    /// `ours`.
    Init(init::InitArgs),
    /// Replace the vendor directory by the shipped rules of this program, and show what changes.
    Update(update::UpdateArgs),
}

pub fn run(command: &RulesCommand, config: Option<&Path>, format: Format) -> Result<Outcome> {
    match command {
        RulesCommand::Init(args) => init::run(args, format),
        RulesCommand::Update(args) => update::run(args, config, format),
    }
}
