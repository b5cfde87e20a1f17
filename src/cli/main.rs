//! The program `hedgerow`: parses the arguments, runs the command that they name, and returns the
//! exit code.

mod account_ids;
mod atomic_file;
mod cmd;
mod config;
mod dates;
mod error;
mod format;
mod remote;
mod rollout;
mod rule_directories;
mod rules;
mod secret_file;
mod shipped_rules;
mod signer;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cmd::{
    account, audit, backup, build, calibrate, check, clusters, convert, cost, decisions, diff,
    docs, evaluate, explain, indicators, keygen, policy, push, release, replay, score, seeds,
    simulate, status, stop, tail, test, vendor,
};
use error::Error;
use terminal::{Format, print_error};

/// Detects harvesting of LLM APIs: checks, tests and builds rules; scores, explains and replays
/// requests; signs rules and releases them to a deployment.
#[derive(Parser)]
#[command(
    name = "hedgerow",
    version,
    after_help = "Exit codes: 0 success, 1 findings or rejection, 2 usage or I/O error."
)]
struct Cli {
    /// Choose the form of the output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Read the settings of commands that use a registry from this file; default:
    /// HEDGEROW_CONFIG, or `hedgerow.toml` in the current directory.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check rule files: print every problem with line, column and remedy.
    Check(check::CheckArgs),
    /// Run the exemplars of every rule, with the rule alone and with all rules together, and check
    /// that at least one exemplar needs each part of the rule.
    Test(test::TestArgs),
    /// Check and test rules, and build them into a bundle.
    Build(build::BuildArgs),
    /// Score one request: raw HTTP or a JSON line.
    Score(score::ScoreArgs),
    /// Show every condition of the rules for one request, true or false.
    Explain(explain::ExplainArgs),
    /// Convert logs of gateways, servers or browsers to recorded requests.
    Convert(convert::ConvertArgs),
    /// Score recorded requests, and summarise by file, label and signature.
    Replay(replay::ReplayArgs),
    /// Measure detection on recorded, labelled requests, and write the report as a page.
    Evaluate(evaluate::EvaluateArgs),
    /// Estimate the weights of signatures and correlations from recorded, labelled requests.
    Calibrate(calibrate::CalibrateArgs),
    /// Build a set of known prompts, or show how many prompts of a file are in a set.
    #[command(subcommand)]
    Seeds(seeds::SeedsCommand),
    /// Generate the traffic of a scenario, and show how the rules judge it.
    Simulate(simulate::SimulateArgs),
    /// Write the generated pages of the documentation.
    Docs(docs::DocsArgs),
    /// Start a project with the shipped rules as a vendor layer, or update that layer.
    #[command(subcommand)]
    Rules(vendor::RulesCommand),
    /// Make a pair of keys that signs bundles and releases.
    Keygen(keygen::KeygenArgs),
    /// Check, test, build, sign and upload rules.
    Push(push::PushArgs),
    /// Release a bundle: for all accounts, as a canary for some accounts, or as a shadow.
    Release(release::ReleaseArgs),
    /// Make the canary active for all accounts; without a canary, the shadow.
    Promote(release::PromoteArgs),
    /// End the canary and the shadow; without them, reactivate the previous bundle.
    Rollback(release::RollbackArgs),
    /// Stop enforcing at once, for all requests or for some paths, with a token but without the
    /// signing key.
    Stop(stop::StopArgs),
    /// End a stop: release the current bundles again, signed, so that they are enforced.
    Resume(release::ResumeArgs),
    /// Copy the signed bundles and releases of a deployment to a directory.
    Backup(backup::BackupArgs),
    /// Copy the bundles and releases of a backup to a deployment that has lost them, without the
    /// signing key.
    Restore(backup::RestoreArgs),
    /// Exempt an account, a tenant, a path or a signature: add an exemption to policy.toml, or
    /// remove one.
    Exempt(policy::ExemptArgs),
    /// Give a signature, correlation or list another weight in policy.toml, or its own weight
    /// again.
    Weigh(policy::WeighArgs),
    /// Disable a signature, correlation or list in policy.toml, or enable it again.
    Disable(policy::DisableArgs),
    /// Set the mode of an account, tenant or cluster in policy.toml, or remove the setting.
    Override(policy::OverrideArgs),
    /// Show the current release, its share of the traffic, and its decisions.
    Status(status::StatusArgs),
    /// Show what changes from one bundle to another.
    Diff(diff::DiffArgs),
    /// List changes of the registry with author, time and result.
    Audit(audit::AuditArgs),
    /// List, explain or revoke indicators: keys for which a correlation holds.
    Indicators(indicators::IndicatorsArgs),
    /// Show or split clusters: accounts that share indicators.
    Clusters(clusters::ClustersArgs),
    /// Show the decision about one request, by its request id.
    Decision(decisions::DecisionArgs),
    /// List decisions: a sample of all, or every enforced one.
    Decisions(decisions::DecisionsArgs),
    /// Follow decisions: print the last ones, and then each new one.
    Tail(tail::TailArgs),
    /// Estimate the bill of a deployment on Cloudflare's Workers Paid plan, and which setting
    /// matters most.
    Cost(cost::CostArgs),
    /// Print the account id of a credential, as decisions show it.
    Account(account::AccountArgs),
}

fn main() -> ExitCode {
    let Cli { format, config, command } = Cli::parse();
    let config = config.as_deref();
    let result = match command {
        Command::Check(args) => check::run(&args, config, format),
        Command::Test(args) => test::run(&args, config, format),
        Command::Build(args) => build::run(&args, config, format),
        Command::Score(args) => score::run(&args, config, format),
        Command::Explain(args) => explain::run(&args, config, format),
        Command::Convert(args) => convert::run(&args, format),
        Command::Replay(args) => replay::run(&args, config, format),
        Command::Evaluate(args) => evaluate::run(&args, config, format),
        Command::Calibrate(args) => calibrate::run(&args, config, format),
        Command::Seeds(command) => seeds::run(&command, format),
        Command::Simulate(args) => simulate::run(&args, config, format),
        Command::Docs(args) => docs::run(&args, config),
        Command::Rules(command) => vendor::run(&command, config, format),
        Command::Keygen(args) => keygen::run(&args, format),
        Command::Push(args) => push::run(&args, config, format),
        Command::Release(args) => release::run(&args, config, format),
        Command::Promote(args) => release::promote(&args, config, format),
        Command::Rollback(args) => release::rollback(&args, config, format),
        Command::Stop(args) => stop::run(&args, config, format),
        Command::Resume(args) => release::resume(&args, config, format),
        Command::Backup(args) => backup::backup(&args, config, format),
        Command::Restore(args) => backup::restore(&args, config, format),
        Command::Exempt(args) => policy::exempt(&args, config, format),
        Command::Weigh(args) => policy::weigh(&args, config, format),
        Command::Disable(args) => policy::disable(&args, config, format),
        Command::Override(args) => policy::set_mode(&args, config, format),
        Command::Status(args) => status::run(&args, config, format),
        Command::Diff(args) => diff::run(&args, config, format),
        Command::Audit(args) => audit::run(&args, config, format),
        Command::Indicators(args) => indicators::run(&args, config, format),
        Command::Clusters(args) => clusters::run(&args, config, format),
        Command::Decision(args) => decisions::show(&args, config, format),
        Command::Decisions(args) => decisions::list(&args, config, format),
        Command::Tail(args) => tail::run(&args, config, format),
        Command::Cost(args) => cost::run(&args, format),
        Command::Account(args) => account::run(&args, config, format),
    };
    match result {
        Ok(outcome) => outcome.exit_code(),
        Err(Error::BrokenPipe) => ExitCode::SUCCESS,
        Err(Error::Rejected(message)) => {
            print_error(&message);
            ExitCode::from(1)
        }
        Err(Error::Io(message)) => {
            print_error(&message);
            ExitCode::from(2)
        }
    }
}
