//! `hedgerow keygen [--output PATH] [--password]`

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use minisign::KeyPair;

use crate::secret_file::{PASSPHRASE_VARIABLE, env_passphrase};
use crate::signer::prompt_hidden;
use crate::{Error, Format, Outcome, Result, io_error, print_json, print_line};

#[derive(clap::Args)]
pub struct KeygenArgs {
    /// The secret key's file; the public key goes beside it, with `.pub`.
    #[arg(short, long, value_name = "PATH", default_value = "hedgerow.key")]
    output: PathBuf,
    /// Ask for a passphrase; HEDGEROW_KEY_PASSWORD is taken instead, where it is set.
    #[arg(long)]
    password: bool,
}

pub fn run(args: &KeygenArgs, format: Format) -> Result<Outcome> {
    let secret_path = &args.output;
    let public_path = public_key_path(secret_path);
    for path in [secret_path, &public_path] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(Error::Io(format!(
                "{}: there is a file already, and no key is overwritten; give another --output",
                path.display()
            )));
        }
    }
    let key_pair = match new_passphrase(args.password)? {
        Some(passphrase) => KeyPair::generate_encrypted_keypair(Some(passphrase)),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let keygen_error = |error| Error::Io(format!("no key could be made: {error}"));
    let key_pair = key_pair.map_err(keygen_error)?;
    let comment = "hedgerow secret key: whoever has it chooses the rules";
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
            &serde_json::json!({ "public_key": public_key, "secret": secret_path, "public": public_path }),
        );
    }
    print_line(format_args!("{public_key}"))?;
    print_line(format_args!(
        "\n{}  the secret key: keep it out of repositories",
        secret_path.display()
    ))?;
    print_line(format_args!("{}  the public key: show it to anybody", public_path.display()))?;
    print_line(format_args!(
        "\nNext: name the secret key as `key` in hedgerow.toml, and let the edge believe it:"
    ))?;
    print_line(format_args!(
        "  PUBLIC_KEYS = \"{public_key}\"   under [vars] in wrangler.toml, then `wrangler deploy`"
    ))?;
    print_line(format_args!(
        "A key that follows another stands beside it there until nothing of the old one is in force."
    ))
}

/// The passphrase of the new key, where it is to have one.
fn new_passphrase(wants_passphrase: bool) -> Result<Option<String>> {
    if let Some(passphrase) = env_passphrase() {
        return Ok(Some(passphrase));
    }
    if !wants_passphrase {
        return Ok(None);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Io(format!(
            "there is no terminal to ask at; set {PASSPHRASE_VARIABLE}"
        )));
    }
    let passphrase = prompt_hidden("Passphrase: ")?;
    if passphrase.is_empty() {
        return Err(Error::Io(
            "an empty passphrase keeps nobody out; leave out --password for a key without one"
                .to_owned(),
        ));
    }
    match prompt_hidden("Once more: ")? == passphrase {
        true => Ok(Some(passphrase)),
        false => Err(Error::Io("the two passphrases differ; try again".to_owned())),
    }
}

/// The public key's path.
fn public_key_path(secret_path: &Path) -> PathBuf {
    let mut path = secret_path.as_os_str().to_owned();
    path.push(".pub");
    PathBuf::from(path)
}

/// Writes a file that was not there.
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
