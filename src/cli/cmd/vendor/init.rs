//! `hedgerow rules init [DIR] [--from RULES]`: starts a project.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::directory::{VendorRules, write_file};
use crate::config::CONFIG_FILE_NAME;
use crate::error::{Error, Outcome, Result};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct InitArgs {
    /// Create the project in this directory.
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Use the rules in this directory, such as `rules` of a checkout, instead of the rules of this
    /// program.
    #[arg(long, value_name = "RULES")]
    from: Option<PathBuf>,
}

pub fn run(args: &InitArgs, format: Format) -> Result<Outcome> {
    let directory = &args.directory;
    let taken = [CONFIG_FILE_NAME, VENDOR, OURS].map(|name| directory.join(name));
    if let Some(path) = taken.iter().find(|path| path.exists()) {
        return Err(Error::Rejected(format!(
            "{}: exists already: expected a directory without a project; choose another directory, \
             or follow docs/upgrade.md to divide existing rules into layers",
            path.display()
        )));
    }
    let vendor = VendorRules::load(args.from.as_deref())?;
    for (path, text) in TEMPLATES {
        write_file(&directory.join(path), text)?;
    }
    vendor.write(&directory.join(VENDOR))?;
    let (version, digest, files) = (&vendor.version, vendor.digest(), vendor.files.len());
    match format {
        Format::Json => {
            print_json(&json!({ "version": version, "digest": digest, "files": files }))?
        }
        Format::Text => {
            let path = |name: &str| directory.join(name).display().to_string();
            print_line(format_args!("{}: the settings", path(CONFIG_FILE_NAME)))?;
            let vendor = path(VENDOR);
            print_line(format_args!("{vendor}: version {version}, {files} files; do not edit"))?;
            print_line(format_args!("{}: your own rules and policy", path(OURS)))?;
            print_line(format_args!(
                "next: `hedgerow check` and `hedgerow test` in {}",
                show(directory)
            ))?;
        }
    }
    Ok(Outcome::Success)
}

/// Returns the name of a directory for a sentence.
fn show(directory: &Path) -> String {
    match directory == Path::new(".") {
        true => "this directory".to_owned(),
        false => directory.display().to_string(),
    }
}

const VENDOR: &str = "vendor";

const OURS: &str = "ours";

/// The files of a new project, by path.
const TEMPLATES: [(&str, &str); 4] = [
    (CONFIG_FILE_NAME, include_str!("template/hedgerow.toml")),
    ("ours/families.toml", include_str!("template/families.toml")),
    ("ours/own/example.yml", include_str!("template/example.yml")),
    ("ours/policy.toml", include_str!("template/policy.toml")),
];
