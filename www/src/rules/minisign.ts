// Minisign in the browser: reads a secret key, and signs with it. The prehashed kind ("ED"): Ed25519 over BLAKE2b-512
// of the bytes; a second signature ties the trusted comment to the first.
import { blake2b } from '@noble/hashes/blake2.js';
import { scryptAsync } from '@noble/hashes/scrypt.js';

const encoder = new TextEncoder();

/** A key that signs. The page cannot read it back. */
export interface Signer {
  id: Uint8Array;
  key: CryptoKey;
}

/** What is wrong, and what to do about it. */
export class KeyProblem extends Error {
  constructor(
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

const NO_KEY = () => new KeyProblem('this is no minisign secret key', 'choose the file that `hedgerow keygen` (or minisign, or rsign) wrote, not the .pub beside it');

/** Where the parts of a secret key lie: kinds, salt, limits, and what the passphrase hides. */
const SIZE = 158;
const KINDS = { signature: 0, derivation: 2, checksum: 4 };
const [SALT, OPS, MEMORY, SECRET] = [6, 38, 46, 54];
const SEED = { from: 8, to: 40 };
const CHECK = 72;

/** Raw Ed25519 seeds have a fixed envelope in PKCS #8. */
const PKCS8 = decode('MC4CAQAwBQYDK2VwBCIEIA==');

/** Opens the text of a key's file. Throws `KeyProblem`. */
export async function open(file: string, passphrase: string): Promise<Signer> {
  const raw = bytesOf(file);
  try {
    return await opened(raw, passphrase);
  } finally {
    raw.fill(0);
  }
}

/** What is secret is wiped once the browser holds the key. */
async function opened(raw: Uint8Array, passphrase: string): Promise<Signer> {
  const kind = (at: number) => String.fromCharCode(raw[at]!, raw[at + 1]!);
  const derivation = kind(KINDS.derivation);
  if (kind(KINDS.signature) !== 'Ed' || kind(KINDS.checksum) !== 'B2' || (derivation !== 'Sc' && derivation !== '\0\0')) throw NO_KEY();
  const secret = raw.subarray(SECRET);
  if (derivation === 'Sc') {
    const stream = await derive(raw, passphrase);
    secret.forEach((byte, at) => (secret[at] = byte ^ stream[at]!));
    stream.fill(0);
  }
  const summed = joined(raw.subarray(0, 2), secret.subarray(0, CHECK));
  const checksum = blake2b(summed, { dkLen: 32 });
  summed.fill(0);
  if (!checksum.every((byte, at) => byte === secret[CHECK + at])) {
    if (derivation !== 'Sc') throw NO_KEY();
    throw new KeyProblem('the passphrase does not open this key', passphrase ? 'correct it' : 'enter the passphrase that the key was made with');
  }
  return { id: secret.slice(0, 8), key: await imported(secret.subarray(SEED.from, SEED.to)) };
}

function bytesOf(file: string): Uint8Array {
  try {
    const raw = decode(file.split('\n')[1]!.trim());
    if (raw.length === SIZE) return raw;
  } catch {
    // Not base64, or but one line.
  }
  throw NO_KEY();
}

/** What libsodium makes of its limits; no key asks for more than a gibibyte. */
async function derive(raw: Uint8Array, passphrase: string): Promise<Uint8Array> {
  const view = new DataView(raw.buffer);
  const [ops, memory] = [Math.max(32_768, Number(view.getBigUint64(OPS, true))), Number(view.getBigUint64(MEMORY, true))];
  if (memory > 1 << 30) throw NO_KEY();
  const r = 8;
  const most = ops < memory / 32 ? ops / (r * 4) : memory / (r * 128);
  let log = 1;
  while (2 ** log <= most / 2) log += 1;
  const p = ops < memory / 32 ? 1 : Math.floor(Math.floor(ops / 4 / 2 ** log) / r);
  try {
    return await scryptAsync(encoder.encode(passphrase), raw.slice(SALT, OPS), { N: 2 ** log, r, p, dkLen: raw.length - SECRET });
  } catch (error) {
    throw new KeyProblem(`the passphrase cannot be tried here: ${error instanceof Error ? error.message : error}`, 'sign on the command line');
  }
}

async function imported(seed: Uint8Array): Promise<CryptoKey> {
  const envelope = joined(PKCS8, seed);
  try {
    return await crypto.subtle.importKey('pkcs8', envelope, 'Ed25519', false, ['sign']);
  } catch {
    throw new KeyProblem('this browser cannot sign with Ed25519', 'use a current browser, or sign on the command line');
  } finally {
    envelope.fill(0);
  }
}

/** The text of a `.minisig` file. */
export async function sign({ id, key }: Signer, text: string, trusted: string): Promise<string> {
  const raw = async (bytes: Uint8Array<ArrayBuffer>) => new Uint8Array(await crypto.subtle.sign('Ed25519', key, bytes));
  const signature = await raw(joined(blake2b(encoder.encode(text))));
  const global = await raw(joined(signature, encoder.encode(trusted)));
  const first = joined(encoder.encode('ED'), id, signature);
  return `untrusted comment: signature by hedgerow\n${encode(first)}\ntrusted comment: ${trusted}\n${encode(global)}\n`;
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function decode(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

const encode = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
