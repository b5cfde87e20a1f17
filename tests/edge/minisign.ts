// Minisign with nothing but Node's own cryptography: what a release is signed with must not depend on our own code.
// The prehashed kind ("ED"): Ed25519 over BLAKE2b-512 of the bytes; a second signature ties the trusted comment to the first.
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, verify } from 'node:crypto';

export interface KeyPair {
  id: Buffer;
  privateKey: KeyObject;
  /** The second line of a `.pub` file: what PUBLIC_KEYS takes. */
  publicKey: string;
}

const prehash = (bytes: Uint8Array | string) => createHash('blake2b512').update(bytes).digest();

/** Raw Ed25519 keys have a fixed envelope in SPKI. */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

export function keyPair(): KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const id = randomBytes(8);
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI.length);
  return { id, privateKey, publicKey: Buffer.concat([Buffer.from('Ed'), id, raw]).toString('base64') };
}

/** The text of a `.minisig` file. */
export function minisign(keys: KeyPair, bytes: Uint8Array | string, trusted: string, untrusted = 'signature of a test'): string {
  const signature = sign(null, prehash(bytes), keys.privateKey);
  const global = sign(null, Buffer.concat([signature, Buffer.from(trusted)]), keys.privateKey);
  const first = Buffer.concat([Buffer.from('ED'), keys.id, signature]).toString('base64');
  return `untrusted comment: ${untrusted}\n${first}\ntrusted comment: ${trusted}\n${global.toString('base64')}\n`;
}

/** Holds a `.minisig` against bytes, as minisign does. */
export function verifies(publicKey: string, bytes: Uint8Array | string, minisig: string): boolean {
  const [, first = '', trusted = '', last = ''] = minisig.split('\n');
  const [key, signature] = [Buffer.from(publicKey, 'base64'), Buffer.from(first, 'base64')];
  if (signature.subarray(0, 2).toString() !== 'ED' || !signature.subarray(2, 10).equals(key.subarray(2, 10))) return false;
  const raw = createPublicKey({ key: Buffer.concat([SPKI, key.subarray(10)]), format: 'der', type: 'spki' });
  const comment = Buffer.from(trusted.replace('trusted comment: ', ''));
  return verify(null, prehash(bytes), raw, signature.subarray(10)) && verify(null, Buffer.concat([signature.subarray(10), comment]), raw, Buffer.from(last, 'base64'));
}
