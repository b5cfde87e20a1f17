// An implementation of minisign with only Node's cryptography, because tests must not sign with the
// code that they test. It supports only prehashed signatures ("ED"): Ed25519 over the BLAKE2b-512
// hash of the bytes. A second signature covers the first signature and the trusted comment.
import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';

export interface KeyPair {
  id: Buffer;
  privateKey: KeyObject;
  /** The second line of a `.pub` file, as in PUBLIC_KEYS. */
  publicKey: string;
}

const prehash = (bytes: Uint8Array | string) => createHash('blake2b512').update(bytes).digest();

/** Bytes before a raw Ed25519 key in SPKI. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

export function keyPair(): KeyPair {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const id = randomBytes(8);
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI_PREFIX.length);
  return {
    id,
    privateKey,
    publicKey: Buffer.concat([Buffer.from('Ed'), id, raw]).toString('base64'),
  };
}

/** Signs bytes, and returns the text of the `.minisig` file. */
export function minisign(
  keys: KeyPair,
  bytes: Uint8Array | string,
  trustedComment: string,
  untrustedComment = 'signature of a test',
): string {
  const signature = sign(null, prehash(bytes), keys.privateKey);
  const global = sign(
    null,
    Buffer.concat([signature, Buffer.from(trustedComment)]),
    keys.privateKey,
  );
  const first = Buffer.concat([Buffer.from('ED'), keys.id, signature]).toString('base64');
  return [
    `untrusted comment: ${untrustedComment}`,
    first,
    `trusted comment: ${trustedComment}`,
    `${global.toString('base64')}\n`,
  ].join('\n');
}

/** Returns whether the text of a `.minisig` file is a valid signature of bytes and comment. */
export function verifies(publicKey: string, bytes: Uint8Array | string, minisig: string): boolean {
  const [, first = '', trusted = '', last = ''] = minisig.split('\n');
  const [key, signature] = [Buffer.from(publicKey, 'base64'), Buffer.from(first, 'base64')];
  if (
    signature.subarray(0, 2).toString() !== 'ED' ||
    !signature.subarray(2, 10).equals(key.subarray(2, 10))
  )
    return false;
  const raw = createPublicKey({
    key: Buffer.concat([SPKI_PREFIX, key.subarray(10)]),
    format: 'der',
    type: 'spki',
  });
  const comment = Buffer.from(trusted.replace('trusted comment: ', ''));
  return (
    verify(null, prehash(bytes), raw, signature.subarray(10)) &&
    verify(null, Buffer.concat([signature.subarray(10), comment]), raw, Buffer.from(last, 'base64'))
  );
}
