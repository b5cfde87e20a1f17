// Writes files into a ustar archive, which all systems can unpack.
import type { Files } from './drafts.ts';

const BLOCK = 512;

export function tar(files: Files): Blob {
  const encoder = new TextEncoder();
  const parts: BlobPart[] = [];
  for (const [path, text] of Object.entries(files)) {
    const content = encoder.encode(text);
    const padding = new Uint8Array(-content.length & (BLOCK - 1));
    parts.push(header(encoder.encode(path), content.length), content, padding);
  }
  return new Blob([...parts, new Uint8Array(2 * BLOCK)], { type: 'application/x-tar' });
}

/**
 * Returns a file name with a hash (FNV-1a) of the content. With a fixed name, the browser would
 * rename a second download, and the displayed command would unpack the first download.
 */
export function archiveName(files: Files): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(JSON.stringify(files))) {
    hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return `hedgerow-rules-${(hash >>> 0).toString(16).padStart(8, '0')}.tar`;
}

/** Byte offsets of the members of a file header. */
const OFFSET = {
  path: 0,
  mode: 100,
  owner: 108,
  group: 116,
  size: 124,
  modified: 136,
  checksum: 148,
  type: 156,
  magic: 257,
};
const MAX_PATH = 100;

function header(path: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const encoder = new TextEncoder();
  const octal = (value: number, digits: number) =>
    encoder.encode(value.toString(8).padStart(digits, '0'));
  block.set(path.subarray(0, MAX_PATH), OFFSET.path);
  block.set(octal(0o644, 7), OFFSET.mode);
  block.set(octal(0, 7), OFFSET.owner);
  block.set(octal(0, 7), OFFSET.group);
  block.set(octal(size, 11), OFFSET.size);
  block.set(octal(Math.floor(Date.now() / 1000), 11), OFFSET.modified);
  block.set(encoder.encode('0'), OFFSET.type);
  block.set(encoder.encode('ustar\u000000'), OFFSET.magic);
  // The checksum is computed with spaces in the checksum field. Its format is six digits, NUL,
  // space.
  block.fill(32, OFFSET.checksum, OFFSET.type);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  block.set(octal(checksum, 6), OFFSET.checksum);
  block[OFFSET.checksum + 6] = 0;
  return block;
}
