// The console opens secret keys of minisign.
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { KeyError, openKey, sign } from '../../www/src/rules/minisign.ts';
import { keyPair, verifies } from '../edge/minisign.ts';

/**
 * Makes the text of a key file without a passphrase. Its checksum is `checksum`, by default zeros.
 */
function unencryptedKey(checksum?: Buffer) {
  const keys = keyPair();
  const seed = keys.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32);
  const publicKey = Buffer.from(keys.publicKey, 'base64').subarray(10);
  const secret = Buffer.concat([keys.id, seed, publicKey]);
  // Node has no BLAKE2b with 32 bytes of output, so this function cannot compute a valid checksum.
  const raw = Buffer.concat([
    Buffer.from('Ed\0\0B2', 'latin1'),
    Buffer.alloc(48),
    secret,
    checksum ?? Buffer.alloc(32),
  ]);
  return { ...keys, file: `untrusted comment: a key\n${raw.toString('base64')}\n` };
}

describe('a key without passphrase', () => {
  it('of the C tool has no checksum, and signs', async () => {
    const { file, publicKey } = unencryptedKey();
    const signature = await sign(await openKey(file, ''), 'a text', 'a comment');
    expect(verifies(publicKey, 'a text', signature)).toBe(true);
    expect(verifies(publicKey, 'another text', signature)).toBe(false);
  });

  it('with a wrong checksum is rejected', async () => {
    const { file } = unencryptedKey(createHash('sha256').update('another').digest());
    await expect(openKey(file, '')).rejects.toThrow(KeyError);
  });

  it('may lack a checksum; an encrypted key may not', async () => {
    const { file } = unencryptedKey();
    const raw = Buffer.from(file.split('\n')[1]!, 'base64');
    raw.write('Sc', 2, 'latin1');
    raw.writeBigUInt64LE(32_768n, 38);
    raw.writeBigUInt64LE(16_777_216n, 46);
    const encrypted = `untrusted comment: a key\n${raw.toString('base64')}\n`;
    await expect(openKey(encrypted, 'passphrase')).rejects.toThrow(/passphrase does not open/);
  });
});
