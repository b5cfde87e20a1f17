//! `hedgerow keygen [--output PATH] [--password]`: makes a pair of keys.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use minisign::KeyPair;
use serde_json::json;

use crate::error::{Error, Outcome, Result, io_error};
use crate::secret_file::{PASSPHRASE_VARIABLE, env_passphrase};
use crate::signer::prompt_hidden;
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct KeygenArgs {
    /// Write the secret key to this file, and the public key next to it, with `.pub` appended.
    #[arg(short, long, value_name = "PATH", default_value = "hedgerow.key")]
    output: PathBuf,
    /// Ask for a passphrase. If HEDGEROW_KEY_PASSWORD is set, its value is the passphrase, with or
    /// without this option.
    #[arg(long)]
    password: bool,
}

pub fn run(args: &KeygenArgs, format: Format) -> Result<Outcome> {
    let secret_path = &args.output;
    let public_path = public_key_path(secret_path);
    for path in [secret_path, &public_path] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(Error::Io(format!(
                "{}: the file exists already: expected a new path, because keys are never \
                 overwritten; give another --output",
                path.display()
            )));
        }
    }
    let key_pair = match new_passphrase(args.password)? {
        Some(passphrase) => KeyPair::generate_encrypted_keypair(Some(passphrase)),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let keygen_error = |error| Error::Io(format!("the key cannot be made: {error}"));
    let key_pair = key_pair.map_err(keygen_error)?;
    let comment = "hedgerow secret key: its owner chooses the rules";
    let text = key_pair.sk.to_box(Some(comment)).map_err(keygen_error)?.into_string();
    write_new_file(secret_path, &text, 0o600)?;
    write_new_file(
        &public_path,
        &key_pair.pk.to_box().map_err(keygen_error)?.into_string(),
        0o644,
    )?;
    print_key_pair(secret_path, &public_path, &key_pair.pk.to_base64(), format)?;
    Ok(Outcome::Success)
}

fn print_key_pair(
    secret_path: &Path,
    public_path: &Path,
    public_key: &str,
    format: Format,
) -> Result<()> {
    if format == Format::Json {
        return print_json(
            &json!({ "public_key": public_key, "secret": secret_path, "public": public_path }),
        );
    }
    print_line(format_args!("{public_key}"))?;
    print_line(format_args!(
        "\n{}  the secret key: keep it out of repositories",
        secret_path.display()
    ))?;
    print_line(format_args!("{}  the public key: it is not a secret", public_path.display()))?;
    print_line(format_args!(
        "\nNext: set `key` in hedgerow.toml to the path of the secret key, and let the edge trust \
         it:"
    ))?;
    print_line(format_args!(
        "  PUBLIC_KEYS = \"{public_key}\"   under [vars] in wrangler.toml, then `wrangler deploy`"
    ))?;
    print_line(format_args!(
        "If the key replaces another, keep both there until no active rules are signed with the \
         old one."
    ))
}

/// Returns the passphrase for the new key from the environment, or else from the terminal if
/// `wants_passphrase` is true. Returns `None` if the key gets no passphrase.
fn new_passphrase(wants_passphrase: bool) -> Result<Option<String>> {
    if let Some(passphrase) = env_passphrase() {
        return Ok(Some(passphrase));
    }
    if !wants_passphrase {
        return Ok(None);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Io(format!(
            "the passphrase is missing: expected {PASSPHRASE_VARIABLE}, or a terminal to ask for \
             it; set the variable"
        )));
    }
    let passphrase = prompt_hidden("Passphrase: ")?;
    if passphrase.is_empty() {
        return Err(Error::Io(
            "the passphrase is empty: expected at least one character; omit --password for a key \
             without a passphrase"
                .to_owned(),
        ));
    }
    if prompt_hidden("Once more: ")? != passphrase {
        return Err(Error::Io("the two passphrases differ; try again".to_owned()));
    }
    Ok(Some(passphrase))
}

/// Returns the path of the public key: the path of the secret key with `.pub` appended.
fn public_key_path(secret_path: &Path) -> PathBuf {
    let mut path = secret_path.as_os_str().to_owned();
    path.push(".pub");
    PathBuf::from(path)
}

/// Writes a file that must not exist yet, with a Unix file mode.
fn write_new_file(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| io_error(path, &error))
}
