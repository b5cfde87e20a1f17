//! Reads the secret key, and signs with it. Every signature is verified immediately after it is
//! made.

use std::fs;
use std::io::{Cursor, IsTerminal};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use minisign::{PublicKey, SecretKey, SecretKeyBox};

use crate::error::{Error, Result, io_error};
use crate::secret_file::{PASSPHRASE_VARIABLE, env_passphrase, warn_if_readable_by_others};

/// A secret key with its public key.
pub struct Signer {
    secret_key: SecretKey,
    public_key: String,
    verifying_keys: TrustedKeys,
}

impl Signer {
    /// Reads a key file that `hedgerow keygen`, minisign or rsign has written. Asks for the
    /// passphrase if the key has one and the environment does not contain it.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Io(format!(
                "{}: the file does not exist: expected a secret key; make one with `hedgerow \
                 keygen --output {0}`",
                path.display()
            )),
            _ => io_error(path, &error),
        })?;
        warn_if_readable_by_others(path);
        let text = with_checksum(text);
        let secret_key_box =
            SecretKeyBox::from_string(&text).map_err(|_| not_a_secret_key(path))?;
        let secret_key = if is_encrypted(&text).ok_or_else(|| not_a_secret_key(path))? {
            decrypt(path, secret_key_box)?
        } else {
            secret_key_box.into_unencrypted_secret_key().map_err(|_| not_a_secret_key(path))?
        };
        let public_key = PublicKey::from_secret_key(&secret_key)
            .map_err(|_| not_a_secret_key(path))?
            .to_base64();
        let verifying_keys =
            TrustedKeys::parse(&public_key).map_err(|error| Error::Io(error.to_string()))?;
        Ok(Self { secret_key, public_key, verifying_keys })
    }

    /// Returns the public key in base64, as in the variable `PUBLIC_KEYS` of the Worker.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Returns a set of trusted keys that contains only this key's public key.
    pub fn verifying_keys(&self) -> &TrustedKeys {
        &self.verifying_keys
    }

    /// Signs bytes, together with a description of the bytes in `comment`. Returns the text of a
    /// `.minisig` file.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> Result<String> {
        let untrusted_comment = Some("signature by hedgerow");
        let signature_box = minisign::sign(
            None,
            &self.secret_key,
            Cursor::new(bytes),
            Some(comment),
            untrusted_comment,
        );
        let signature = signature_box
            .map_err(|error| Error::Io(format!("signing failed: {error}")))?
            .into_string();
        let verified = self.verifying_keys.verify(bytes, &signature);
        verified.map_err(|error| {
            Error::Io(format!("the signature just made does not verify: {error}"))
        })?;
        Ok(signature)
    }
}

/// Returns whether a key needs a passphrase; `None` if the text is not a key. The second line is
/// base64. Its first two bytes name the signature algorithm; the next two name the key derivation,
/// which is zero for an unencrypted key.
fn is_encrypted(text: &str) -> Option<bool> {
    let bytes = STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    match bytes.get(..4)? {
        b"EdSc" => Some(true),
        b"Ed\0\0" => Some(false),
        _ => None,
    }
}

/// Returns the text of a key, with the checksum filled in if it is missing. `minisign -G -W` writes
/// zeros as the checksum of an unencrypted key, and the crate `minisign` rejects such a key. Other
/// keys are returned unchanged.
fn with_checksum(text: String) -> String {
    let Some((comment, encoded)) = text.split_once('\n') else { return text };
    let Ok(mut bytes) = STANDARD.decode(encoded.trim()) else { return text };
    let Some((head, checksum)) = bytes.split_last_chunk_mut::<CHECKSUM_BYTES>() else {
        return text;
    };
    let Some((algorithm, secret)) = head.split_at_checked(KEY_ID_OFFSET) else { return text };
    if !algorithm.starts_with(b"Ed\0\0") || *checksum != [0; CHECKSUM_BYTES] {
        return text;
    }
    let digest = Blake2b::<U32>::new().chain_update(b"Ed").chain_update(secret).finalize();
    checksum.copy_from_slice(&digest);
    format!("{comment}\n{}\n", STANDARD.encode(&bytes))
}

/// Bytes of the checksum at the end of a secret key: BLAKE2b-256 of the algorithm, the key id and
/// the key.
const CHECKSUM_BYTES: usize = 32;

/// Offset of the key id in a secret key, in bytes. Before the key id are the names of three
/// algorithms (two bytes each), the salt (32 bytes), and two limits of the key derivation (eight
/// bytes each).
const KEY_ID_OFFSET: usize = 6 + 32 + 8 + 8;

/// Decrypts a key with the passphrase in the environment. If the environment has none, tries an
/// empty passphrase first, because `rsign generate -W` writes keys with an empty passphrase, and
/// then asks for a passphrase on the terminal.
fn decrypt(path: &Path, secret_key_box: SecretKeyBox) -> Result<SecretKey> {
    let unlock = |secret_key_box: SecretKeyBox, passphrase: String| {
        secret_key_box.into_secret_key(Some(passphrase)).ok()
    };
    let secret_key = match env_passphrase() {
        Some(passphrase) => unlock(secret_key_box, passphrase),
        None => match unlock(secret_key_box.clone(), String::new()) {
            Some(secret_key) => Some(secret_key),
            None => unlock(secret_key_box, prompt_for_passphrase(path)?),
        },
    };
    secret_key.ok_or_else(|| {
        Error::Io(format!(
            "{}: the passphrase does not open this key; correct {PASSPHRASE_VARIABLE}, or unset it \
             to be asked",
            path.display()
        ))
    })
}

fn prompt_for_passphrase(path: &Path) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Io(format!(
            "{}: the passphrase of the key is missing: expected {PASSPHRASE_VARIABLE}, or a \
             terminal to ask for it; set the variable",
            path.display()
        )));
    }
    prompt_hidden(&format!("Passphrase of {}: ", path.display()))
}

/// Asks for a passphrase on the terminal, without echo.
pub fn prompt_hidden(prompt: &str) -> Result<String> {
    rpassword::prompt_password(prompt)
        .map_err(|error| Error::Io(format!("the terminal cannot be read: {error}")))
}

fn not_a_secret_key(path: &Path) -> Error {
    Error::Io(format!(
        "{}: this is not a minisign secret key: expected the file that `hedgerow keygen`, minisign \
         or rsign wrote, not its .pub; correct the path",
        path.display()
    ))
}
