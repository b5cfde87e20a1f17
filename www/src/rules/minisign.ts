// Minisign in the browser: opens a secret key, and signs. Signatures are prehashed ("ED"): Ed25519
// over the BLAKE2b-512 hash of the text. A second signature covers the first signature and the
// trusted comment.
import { blake2b } from '@noble/hashes/blake2.js';
import { scryptAsync } from '@noble/hashes/scrypt.js';

const encoder = new TextEncoder();

/** A key for signing. The browser does not let scripts read its secret. */
export interface Signer {
  id: Uint8Array;
  key: CryptoKey;
}

/** A problem with a key, with its remedy. */
export class KeyError extends Error {
  constructor(
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

const notAKey = () =>
  new KeyError(
    'the file is not a minisign secret key',
    'choose the file that `hedgerow keygen`, minisign or rsign wrote, not the .pub file',
  );

// The binary format of a secret key, in bytes: algorithms, salt, scrypt limits, and the encrypted
// part.
const KEY_BYTES = 158;
/** Offsets of the algorithm names, two bytes each. */
const ALGORITHM = { signature: 0, derivation: 2, checksum: 4 };
const SALT = 6;
const OPS_LIMIT = 38;
const MEMORY_LIMIT = 46;
const ENCRYPTED = 54;
// Offsets in the encrypted part: key id, seed, public key, checksum.
const SEED = { from: 8, to: 40 };
const CHECKSUM = 72;

const MAX_MEMORY = 1 << 30;

/** DER of a PKCS #8 private key, up to the Ed25519 seed. */
const PKCS8_PREFIX = decodeBase64('MC4CAQAwBQYDK2VwBCIEIA==');

/** Opens a secret key from the text of its file. Rejects with `KeyError`. */
export async function openKey(file: string, passphrase: string): Promise<Signer> {
  const raw = parseFile(file);
  try {
    return await decryptKey(raw, passphrase);
  } finally {
    // Erases the secret, because the browser holds the imported key now.
    raw.fill(0);
  }
}

/** Decrypts `raw` in place, and imports the key. */
async function decryptKey(raw: Uint8Array, passphrase: string): Promise<Signer> {
  const algorithm = (at: number) => String.fromCharCode(raw[at]!, raw[at + 1]!);
  const derivation = algorithm(ALGORITHM.derivation);
  const isEncrypted = derivation === 'Sc';
  const isSupported =
    algorithm(ALGORITHM.signature) === 'Ed' &&
    algorithm(ALGORITHM.checksum) === 'B2' &&
    (isEncrypted || derivation === '\0\0');
  if (!isSupported) throw notAKey();
  const secret = raw.subarray(ENCRYPTED);
  if (isEncrypted) {
    const stream = await deriveStream(raw, passphrase);
    secret.forEach((byte, at) => (secret[at] = byte ^ stream[at]!));
    stream.fill(0);
  }
  const input = concat(raw.subarray(0, 2), secret.subarray(0, CHECKSUM));
  const checksum = blake2b(input, { dkLen: 32 });
  input.fill(0);
  const stored = secret.subarray(CHECKSUM);
  // The original minisign tool writes zeros instead of a checksum into a key without a passphrase
  // (`minisign -G -W`).
  const hasNoChecksum = !isEncrypted && stored.every((byte) => byte === 0);
  if (!hasNoChecksum && !checksum.every((byte, at) => byte === stored[at])) {
    if (!isEncrypted) throw notAKey();
    throw new KeyError(
      'the passphrase does not open this key',
      passphrase ? 'correct it' : 'enter the passphrase of the key',
    );
  }
  return { id: secret.slice(0, 8), key: await importKey(secret.subarray(SEED.from, SEED.to)) };
}

function parseFile(file: string): Uint8Array {
  try {
    const raw = decodeBase64(file.split('\n')[1]!.trim());
    if (raw.length === KEY_BYTES) return raw;
  } catch {
    // The text is not valid Base64, or has only one line.
  }
  throw notAKey();
}

/**
 * Derives the key stream with scrypt. Converts the stored limits to scrypt parameters as libsodium
 * does.
 */
async function deriveStream(raw: Uint8Array, passphrase: string): Promise<Uint8Array> {
  const view = new DataView(raw.buffer);
  const ops = Math.max(32_768, Number(view.getBigUint64(OPS_LIMIT, true)));
  const memory = Number(view.getBigUint64(MEMORY_LIMIT, true));
  if (memory > MAX_MEMORY) throw notAKey();
  const r = 8;
  const isLimitedByOps = ops < memory / 32;
  const max = isLimitedByOps ? ops / (r * 4) : memory / (r * 128);
  let log = 1;
  while (2 ** log <= max / 2) log += 1;
  const N = 2 ** log;
  const p = isLimitedByOps ? 1 : Math.floor(Math.floor(ops / 4 / N) / r);
  const salt = raw.slice(SALT, OPS_LIMIT);
  const dkLen = raw.length - ENCRYPTED;
  try {
    return await scryptAsync(encoder.encode(passphrase), salt, { N, r, p, dkLen });
  } catch (error) {
    const message = error instanceof Error ? error.message : error;
    throw new KeyError(
      `the passphrase cannot be processed here: ${message}`,
      'sign on the command line',
    );
  }
}

async function importKey(seed: Uint8Array): Promise<CryptoKey> {
  const pkcs8 = concat(PKCS8_PREFIX, seed);
  try {
    return await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', false, ['sign']);
  } catch {
    throw new KeyError(
      'this browser cannot sign with Ed25519',
      'use a current browser, or sign on the command line',
    );
  } finally {
    pkcs8.fill(0);
  }
}

/** Signs `text`. Returns the text of a `.minisig` file. */
export async function sign({ id, key }: Signer, text: string, trusted: string): Promise<string> {
  const signBytes = async (bytes: Uint8Array<ArrayBuffer>) =>
    new Uint8Array(await crypto.subtle.sign('Ed25519', key, bytes));
  const signature = await signBytes(concat(blake2b(encoder.encode(text))));
  const globalSignature = await signBytes(concat(signature, encoder.encode(trusted)));
  return [
    'untrusted comment: signature by hedgerow',
    encodeBase64(concat(encoder.encode('ED'), id, signature)),
    `trusted comment: ${trusted}`,
    encodeBase64(globalSignature),
    '',
  ].join('\n');
}

function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

function decodeBase64(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

const encodeBase64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
