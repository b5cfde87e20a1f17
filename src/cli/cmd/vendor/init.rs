//! `hedgerow rules init [DIR] [--from RULES]`: starts a project.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::directory::{VendorRules, write_file};
use crate::config::CONFIG_FILE_NAME;
use crate::error::{Error, Outcome, Result, io_error};
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
    keep_line_ends(directory)?;
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

/// Adds a line to `.gitattributes`, so that a checkout on Windows does not change the line ends of
/// the vendor's files, and with them their digests.
fn keep_line_ends(directory: &Path) -> Result<()> {
    let path = directory.join(".gitattributes");
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io_error(&path, &error)),
    };
    if old.lines().any(|line| line.trim() == VENDOR_ATTRIBUTES) {
        return Ok(());
    }
    let separator = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    write_file(&path, &format!("{old}{separator}{VENDOR_ATTRIBUTES}\n"))
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

/// The line of `.gitattributes` with which Git keeps the files of the vendor byte by byte.
const VENDOR_ATTRIBUTES: &str = "vendor/** -text";

/// The files of a new project, by path.
const TEMPLATES: [(&str, &str); 4] = [
    (CONFIG_FILE_NAME, include_str!("template/hedgerow.toml")),
    ("ours/families.toml", include_str!("template/families.toml")),
    ("ours/own/example.yml", include_str!("template/example.yml")),
    ("ours/policy.toml", include_str!("template/policy.toml")),
];
