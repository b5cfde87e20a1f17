//! `hedgerow build [DIR] -o BUNDLE`

use std::path::PathBuf;

use hedgerow::{ruleset, sigma};

use super::{Failure, Format, Outcome, Result, line, print, read_rules, report};

#[derive(clap::Args)]
pub struct Options {
    /// The directory that holds the rules.
    #[arg(default_value = "rules")]
    directory: PathBuf,
    /// The bundle to write.
    #[arg(short, long, value_name = "BUNDLE", default_value = "bundle.json")]
    output: PathBuf,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let rules = match read_rules(&options.directory)? {
        Ok(rules) => rules,
        Err(findings) => return report(&options.directory, &findings, "", format),
    };
    let findings = sigma::test(&rules);
    if !findings.is_empty() {
        return report(&options.directory, &findings, "", format);
    }
    let bytes = rules.bytes();
    std::fs::write(&options.output, &bytes)
        .map_err(|error| Failure::Unable(format!("{}: {error}", options.output.display())))?;
    let (digest, signatures) = (ruleset::digest(&bytes), rules.bundle().signatures.len());
    match format {
        Format::Json => print(
            &serde_json::json!({ "digest": digest, "bytes": bytes.len(), "signatures": signatures }),
        )?,
        Format::Text => {
            line(format_args!("{digest}  {}", options.output.display()))?;
            line(format_args!("{signatures} signatures, {} bytes", bytes.len()))?;
        }
    }
    Ok(Outcome::Fine)
}
