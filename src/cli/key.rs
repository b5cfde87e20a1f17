//! The secret key: read, and used to sign. What it signs is held against its public half at once.

use std::fs;
use std::io::{Cursor, IsTerminal};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hedgerow::trust::Keys;
use minisign::{PublicKey, SecretKey, SecretKeyBox};

use super::config::{password, warn_if_open};
use super::{Failure, Result, unable};

/// The variable that holds a key's passphrase.
pub const PASSWORD: &str = "HEDGEROW_KEY_PASSWORD";

/// A key that signs.
pub struct Signer {
    secret: SecretKey,
    public: String,
    keys: Keys,
}

impl Signer {
    /// Reads a key as `hedgerow keygen`, minisign and rsign write them; asks for its passphrase,
    /// where it has one that the environment does not hold.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::Unable(format!(
                "{}: there is no key; make one with `hedgerow keygen --output {0}`",
                path.display()
            )),
            _ => unable(path, &error),
        })?;
        warn_if_open(path);
        let boxed = SecretKeyBox::from_string(&text).map_err(|_| no_key(path))?;
        let secret = match is_encrypted(&text).ok_or_else(|| no_key(path))? {
            false => boxed.into_unencrypted_secret_key().map_err(|_| no_key(path))?,
            true => decrypt(path, boxed)?,
        };
        let public = PublicKey::from_secret_key(&secret).map_err(|_| no_key(path))?.to_base64();
        let keys = Keys::parse(&public).map_err(|error| Failure::Unable(error.to_string()))?;
        Ok(Self { secret, public, keys })
    }

    /// The public half, as `PUBLIC_KEYS` takes it.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The public half, for what only this key may have signed.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Signs bytes. The comment is signed with them: it says what they are.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> Result<String> {
        let untrusted = Some("signature by hedgerow");
        let signed =
            minisign::sign(None, &self.secret, Cursor::new(bytes), Some(comment), untrusted);
        let signature = signed
            .map_err(|error| Failure::Unable(format!("signing failed: {error}")))?
            .into_string();
        let verified = self.keys.verify(bytes, &signature);
        verified.map_err(|error| {
            Failure::Unable(format!("the signature just made does not verify: {error}"))
        })?;
        Ok(signature)
    }
}

/// Whether a key needs a passphrase; `None` where this is no key. The second line holds, in base64,
/// two bytes each for the kind of signature and the kind of key derivation.
fn is_encrypted(text: &str) -> Option<bool> {
    let bytes = STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    match bytes.get(..4)? {
        b"EdSc" => Some(true),
        b"Ed\0\0" => Some(false),
        _ => None,
    }
}

/// Opens a key with the passphrase of the environment, with none (`rsign generate -W` writes such
/// keys), or with the one that is given on the terminal.
fn decrypt(path: &Path, boxed: SecretKeyBox) -> Result<SecretKey> {
    let open = |boxed: SecretKeyBox, password: String| boxed.into_secret_key(Some(password)).ok();
    let secret = match password() {
        Some(password) => open(boxed, password),
        None => match open(boxed.clone(), String::new()) {
            Some(secret) => Some(secret),
            None => open(boxed, passphrase(path)?),
        },
    };
    secret.ok_or_else(|| {
        Failure::Unable(format!(
            "{}: the passphrase does not open this key; correct {PASSWORD}, or unset it to be asked",
            path.display()
        ))
    })
}

fn passphrase(path: &Path) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Unable(format!(
            "{}: the key has a passphrase, and there is no terminal to ask at; set {PASSWORD}",
            path.display()
        )));
    }
    ask(&format!("Passphrase of {}: ", path.display()))
}

/// Asks for a passphrase, unseen.
pub fn ask(prompt: &str) -> Result<String> {
    rpassword::prompt_password(prompt)
        .map_err(|error| Failure::Unable(format!("the terminal cannot be asked: {error}")))
}

fn no_key(path: &Path) -> Failure {
    Failure::Unable(format!(
        "{}: this is no minisign secret key; give the file that `hedgerow keygen` (or minisign, or \
         rsign) wrote, not the .pub beside it",
        path.display()
    ))
}
