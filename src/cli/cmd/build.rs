//! `hedgerow build [DIR] -o BUNDLE`

use std::path::PathBuf;

use hedgerow_core::ruleset;

use crate::{Error, Format, Outcome, Result, print_findings, print_json, print_line, read_rules};

#[derive(clap::Args)]
pub struct BuildArgs {
    /// The directory that holds the rules.
    #[arg(default_value = "rules")]
    directory: PathBuf,
    /// The bundle to write.
    #[arg(short, long, value_name = "BUNDLE", default_value = "bundle.json")]
    output: PathBuf,
}

pub fn run(args: &BuildArgs, format: Format) -> Result<Outcome> {
    let rules = match read_rules(&args.directory)? {
        Ok(rules) => rules,
        Err(findings) => return print_findings(&args.directory, &findings, "", format),
    };
    let findings = hedgerow_sigma::test(&rules);
    if !findings.is_empty() {
        return print_findings(&args.directory, &findings, "", format);
    }
    let bytes = rules.encode_bundle();
    std::fs::write(&args.output, &bytes)
        .map_err(|error| Error::Io(format!("{}: {error}", args.output.display())))?;
    let (digest, signatures) = (ruleset::digest(&bytes), rules.bundle().signatures.len());
    match format {
        Format::Json => print_json(
            &serde_json::json!({ "digest": digest, "bytes": bytes.len(), "signatures": signatures }),
        )?,
        Format::Text => {
            print_line(format_args!("{digest}  {}", args.output.display()))?;
            print_line(format_args!("{signatures} signatures, {} bytes", bytes.len()))?;
        }
    }
    Ok(Outcome::Success)
}
