// Makes a minisign key pair without a passphrase, for local use. `npm start` does not use `hedgerow
// keygen`, because it would have to wait until the command line is compiled. Formats:
// https://jedisct1.github.io/minisign/
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { blake2b } from '@noble/hashes/blake2.js';

/** Bytes of a DER envelope before a raw Ed25519 key. */
const SPKI_HEADER = 12;
const PKCS8_HEADER = 16;
/** Salt and limits of the key derivation: zero, because the key has no passphrase. */
const NO_DERIVATION = Buffer.alloc(32 + 8 + 8);

/** Returns the texts of two key files: `{ secret, public }`. */
export function minisignKeyPair() {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const id = randomBytes(8);
  const point = publicKey.export({ format: 'der', type: 'spki' }).subarray(SPKI_HEADER);
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(PKCS8_HEADER);
  const algorithm = Buffer.from('Ed');
  const secret = Buffer.concat([id, seed, point]);
  const checksum = blake2b(Buffer.concat([algorithm, secret]), { dkLen: 32 });
  const parts = [algorithm, Buffer.alloc(2), Buffer.from('B2'), NO_DERIVATION, secret, checksum];
  const name = Buffer.from(id).reverse().toString('hex').toUpperCase();
  const file = (kind, bytes) => {
    const comment = `untrusted comment: minisign ${kind} key ${name}`;
    return `${comment}\n${bytes.toString('base64')}\n`;
  };
  return {
    secret: file('secret', Buffer.concat(parts)),
    public: file('public', Buffer.concat([algorithm, id, point])),
  };
}
