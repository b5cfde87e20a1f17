//! `hedgerow seeds build FILE… -o NAME` and `hedgerow seeds test FILE… --set NAME.fuse`: build and
//! test sets of known prompts. Only a filter of hashes is stored, not the prompts.

mod prompts;

use std::path::{Path, PathBuf};

use hedgerow_core::seeds::{CompiledSeeds, MAX_SEED_BYTES, SeedFile, SeedSet};
use hedgerow_core::seeds::{build, prompt_features};
use serde_json::json;

use crate::error::{Error, Outcome, Result, io_error};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Subcommand)]
pub enum SeedsCommand {
    /// Build the filter of a set from files of prompts.
    Build(BuildSetArgs),
    /// Show how many of the prompts in files are in a set.
    Test(TestSetArgs),
}

#[derive(clap::Args)]
struct PromptFiles {
    /// Read the prompts in these files: JSON lines (`.jsonl`, `.ndjson`), CSV (`.csv`) or, with any
    /// other extension, one prompt per line.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read this member of JSON lines, or this column of CSV.
    #[arg(long, value_name = "NAME", default_value = "prompt")]
    field: String,
}

#[derive(clap::Args)]
pub struct BuildSetArgs {
    #[command(flatten)]
    prompts: PromptFiles,
    /// Write the filter to this file; `.fuse` is appended if it has no extension.
    #[arg(short, long, value_name = "NAME")]
    output: PathBuf,
}

#[derive(clap::Args)]
pub struct TestSetArgs {
    #[command(flatten)]
    prompts: PromptFiles,
    /// Test this set, which `hedgerow seeds build` wrote.
    #[arg(long, value_name = "NAME.fuse")]
    set: PathBuf,
}

pub fn run(command: &SeedsCommand, format: Format) -> Result<Outcome> {
    match command {
        SeedsCommand::Build(args) => run_build(args, format),
        SeedsCommand::Test(args) => run_test(args, format),
    }
}

fn run_build(args: &BuildSetArgs, format: Format) -> Result<Outcome> {
    let prompts = args.prompts.read()?;
    let features: Vec<_> = prompts.iter().filter_map(|prompt| prompt_features(prompt)).collect();
    let too_short = prompts.len().saturating_sub(features.len());
    let (filter, different) = build(&features).ok_or_else(|| {
        Error::Io(format!(
            "no set can be built from {} prompts, of which {too_short} are too short: expected \
             prompts of at least 24 bytes; name other files, or another --field",
            prompts.len()
        ))
    })?;
    let bytes = filter.bytes().len();
    if bytes > MAX_SEED_BYTES {
        return Err(Error::Io(format!(
            "the set has {bytes} bytes: expected at most {MAX_SEED_BYTES}, about 50,000 prompts; \
             build it from fewer prompts"
        )));
    }
    let mut output = args.output.clone();
    if output.extension().is_none() {
        output.set_extension("fuse");
    }
    std::fs::write(&output, SeedFile::new(&filter, different).to_text())
        .map_err(|error| io_error(&output, &error))?;
    match format {
        Format::Json => print_json(&json!({
            "prompts": different, "repeated": features.len().saturating_sub(different),
            "too_short": too_short, "bytes": bytes,
        }))?,
        Format::Text => {
            print_line(format_args!("{}", output.display()))?;
            print_line(format_args!(
                "{different} prompts, {bytes} bytes; left out: {} repeated, {too_short} too short",
                features.len().saturating_sub(different)
            ))?;
        }
    }
    Ok(Outcome::Success)
}

fn run_test(args: &TestSetArgs, format: Format) -> Result<Outcome> {
    let set = read_set(&args.set)?;
    let prompts = args.prompts.read()?;
    let is_known = |prompt: &&String| {
        prompt_features(prompt).is_some_and(|found| set.names_of(&found).next().is_some())
    };
    let known = prompts.iter().filter(is_known).count();
    let share = known as f64 / prompts.len().max(1) as f64;
    match format {
        Format::Json => {
            print_json(&json!({ "prompts": prompts.len(), "known": known, "share": share }))?;
        }
        Format::Text => print_line(format_args!(
            "{known} of {} prompts are known ({:.1} %)",
            prompts.len(),
            share * 100.0
        ))?,
    }
    Ok(Outcome::Success)
}

/// Reads and compiles the filter of a set.
fn read_set(path: &Path) -> Result<CompiledSeeds> {
    let text = std::fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
    let compiled = SeedFile::parse(&text)
        .and_then(|filter| CompiledSeeds::new(&[SeedSet { name: "set".to_owned(), filter }]));
    compiled.map_err(|error| Error::Io(format!("{}: {error}", path.display())))
}

impl PromptFiles {
    /// Reads the prompts of all files.
    fn read(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for path in &self.files {
            let bytes = std::fs::read(path).map_err(|error| io_error(path, &error))?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let line = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
                let line = line.filter(|byte| **byte == b'\n').count().saturating_add(1);
                let problem = "the text is not UTF-8; save the file as UTF-8";
                Error::Io(format!("{}:{line}: {problem}", path.display()))
            })?;
            let extension = path.extension().and_then(|extension| extension.to_str());
            let prompts = prompts::parse(&text, extension.unwrap_or_default(), &self.field);
            all.extend(prompts.map_err(|problem| {
                Error::Io(format!("{}:{}: {}", path.display(), problem.line, problem.text))
            })?);
        }
        Ok(all)
    }
}
