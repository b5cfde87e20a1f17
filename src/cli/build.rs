//! Embeds the shipped rules in release builds, so that `hedgerow rules` works without a checkout.
//!
//! Other builds read the rules from the checkout when they run. Otherwise, each change of a rule
//! would compile the program again. For the same reason, a release build for work on the rules can
//! omit the feature `embedded-rules`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    match write_module() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error=the shipped rules cannot be embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the module that contains the rules, or the path of their directory.
fn write_module() -> io::Result<()> {
    let variable = |name: &str| env::var(name).map_err(io::Error::other);
    let rules = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../../rules").canonicalize()?;
    let embeds =
        variable("PROFILE")? == "release" && env::var_os("CARGO_FEATURE_EMBEDDED_RULES").is_some();
    let mut files = Vec::new();
    // A release build does not contain the path of the checkout.
    let checkout = if embeds { String::new() } else { rules.display().to_string() };
    if embeds {
        println!("cargo::rerun-if-changed={}", rules.display());
        walk(&rules, &mut files)?;
        files.sort();
    }
    let mut module =
        format!("const CHECKOUT: &str = {checkout:?};\nconst EMBEDDED: &[(&str, &str)] = &[\n");
    for file in files {
        let name = file.strip_prefix(&rules).map_err(io::Error::other)?;
        let name = name.display().to_string().replace('\\', "/");
        let _ = writeln!(module, "({name:?}, include_str!({:?})),", file.display().to_string());
    }
    module.push_str("];\n");
    fs::write(Path::new(&variable("OUT_DIR")?).join("shipped_rules.rs"), module)
}

/// Adds the rule files below a directory. Other files, such as those of editors and file managers,
/// need not be text.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&path, files)?;
        } else if RULE_EXTENSIONS.iter().any(|end| path.extension().is_some_and(|ext| ext == *end))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Extensions of the files that rules consist of.
const RULE_EXTENSIONS: [&str; 4] = ["yml", "yaml", "toml", "fuse"];
