//! `hedgerow keygen [--output PATH] [--password]`

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use minisign::KeyPair;

use super::config::password;
use super::key::{PASSWORD, ask};
use super::{Failure, Format, Outcome, Result, line, print, unable};

#[derive(clap::Args)]
pub struct Options {
    /// The secret key's file; the public key goes beside it, with `.pub`.
    #[arg(short, long, value_name = "PATH", default_value = "hedgerow.key")]
    output: PathBuf,
    /// Ask for a passphrase; HEDGEROW_KEY_PASSWORD is taken instead, where it is set.
    #[arg(long)]
    password: bool,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let secret = &options.output;
    let public = beside(secret);
    for path in [secret, &public] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(Failure::Unable(format!(
                "{}: there is a file already, and no key is overwritten; give another --output",
                path.display()
            )));
        }
    }
    let pair = match passphrase(options.password)? {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password)),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let failed = |error| Failure::Unable(format!("no key could be made: {error}"));
    let pair = pair.map_err(failed)?;
    let comment = "hedgerow secret key: whoever has it chooses the rules";
    let text = pair.sk.to_box(Some(comment)).map_err(failed)?.into_string();
    write(secret, &text, 0o600)?;
    write(&public, &pair.pk.to_box().map_err(failed)?.into_string(), 0o644)?;
    report(secret, &public, &pair.pk.to_base64(), format)?;
    Ok(Outcome::Fine)
}

fn report(secret: &Path, public: &Path, key: &str, format: Format) -> Result<()> {
    if format == Format::Json {
        return print(
            &serde_json::json!({ "public_key": key, "secret": secret, "public": public }),
        );
    }
    line(format_args!("{key}"))?;
    line(format_args!("\n{}  the secret key: keep it out of repositories", secret.display()))?;
    line(format_args!("{}  the public key: show it to anybody", public.display()))?;
    line(format_args!(
        "\nNext: name the secret key as `key` in hedgerow.toml, and let the edge believe it:"
    ))?;
    line(format_args!(
        "  PUBLIC_KEYS = \"{key}\"   under [vars] in wrangler.toml, then `wrangler deploy`"
    ))?;
    line(format_args!(
        "A key that follows another stands beside it there until nothing of the old one is in force."
    ))
}

/// The passphrase of the new key, where it is to have one.
fn passphrase(is_asked: bool) -> Result<Option<String>> {
    if let Some(password) = password() {
        return Ok(Some(password));
    }
    if !is_asked {
        return Ok(None);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Unable(format!("there is no terminal to ask at; set {PASSWORD}")));
    }
    let first = ask("Passphrase: ")?;
    if first.is_empty() {
        return Err(Failure::Unable(
            "an empty passphrase keeps nobody out; leave out --password for a key without one"
                .to_owned(),
        ));
    }
    match ask("Once more: ")? == first {
        true => Ok(Some(first)),
        false => Err(Failure::Unable("the two passphrases differ; try again".to_owned())),
    }
}

/// The public key's path.
fn beside(secret: &Path) -> PathBuf {
    let mut path = secret.as_os_str().to_owned();
    path.push(".pub");
    PathBuf::from(path)
}

/// Writes a file that was not there.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| unable(path, &error))
}
