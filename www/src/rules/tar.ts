// Several files in one, which every system unpacks: a ustar archive.
import type { Files } from './store.ts';

const BLOCK = 512;

export function tar(files: Files): Blob {
  const encoder = new TextEncoder();
  const parts: BlobPart[] = [];
  for (const [path, text] of Object.entries(files)) {
    const content = encoder.encode(text);
    parts.push(header(encoder.encode(path), content.length), content, new Uint8Array(-content.length & (BLOCK - 1)));
  }
  return new Blob([...parts, new Uint8Array(2 * BLOCK)], { type: 'application/x-tar' });
}

/** A name that tells contents apart: under one name the browser would rename the second file, and the command unpack the first. */
export function archiveName(files: Files): string {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(JSON.stringify(files))) hash = Math.imul(hash ^ byte, 0x01000193);
  return `hedgerow-rules-${(hash >>> 0).toString(16).padStart(8, '0')}.tar`;
}

function header(path: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const encoder = new TextEncoder();
  const octal = (value: number, digits: number) => encoder.encode(value.toString(8).padStart(digits, '0'));
  block.set(path.subarray(0, 100));
  block.set(octal(0o644, 7), 100);
  block.set(octal(0, 7), 108);
  block.set(octal(0, 7), 116);
  block.set(octal(size, 11), 124);
  block.set(octal(Math.floor(Date.now() / 1000), 11), 136);
  block.set(encoder.encode('0'), 156);
  block.set(encoder.encode('ustar\u000000'), 257);
  // The checksum is made with spaces in its own place.
  block.fill(32, 148, 156);
  block.set(octal(block.reduce((sum, byte) => sum + byte, 0), 6), 148);
  block[154] = 0;
  return block;
}
