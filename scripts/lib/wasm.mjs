// Measures a Wasm module: bytes of code by crate, and bytes of data. The name section of the module
// shows the crate of each function.
import { gzipSync } from 'node:zlib';

const SECTION = { import: 2, code: 10, data: 11 };

/**
 * Returns the bytes of code by crate and the bytes of data, largest first. The module must have a
 * name section.
 */
export function bytesByCrate(wasm) {
  const reader = new Reader(wasm);
  const sizes = [];
  const names = new Map();
  let imported = 0;
  let data = 0;
  for (const { id, end } of reader.sections()) {
    if (id === SECTION.import) imported = reader.importedFunctions();
    if (id === SECTION.code) sizes.push(...reader.bodies());
    if (id === SECTION.data) data = end - reader.at;
    if (id === 0 && reader.text() === 'name') reader.functionNames(end, names);
  }
  const crates = { data };
  sizes.forEach((size, index) => {
    const crate = crateOf(names.get(index + imported) ?? '');
    crates[crate] = (crates[crate] ?? 0) + size;
  });
  return Object.fromEntries(Object.entries(crates).sort(([, a], [, b]) => b - a));
}

/** Returns the size in bytes after gzip. */
export const gzipSize = (bytes) => gzipSync(bytes, { level: 9 }).length;

/** The first segment of a path in a function's name: `core` in `core[8c1f]::fmt`. */
const CRATE = /(?:^|[^\w:])([a-z_]\w*)(?:\[[0-9a-f]+\])?::/g;

/**
 * Returns the crate of a function: a crate of Hedgerow if the name contains one, else the defining
 * crate.
 */
function crateOf(name) {
  const crates = [...name.matchAll(CRATE)].map(([, crate]) => crate);
  return crates.find((crate) => crate.startsWith('hedgerow')) ?? crates[0] ?? 'other';
}

/** A reader of some parts of a Wasm module: https://webassembly.github.io/spec/core/binary/ */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 8;
  }

  /** Yields the id and the end of each section. Skips the bytes that the caller does not read. */
  *sections() {
    while (this.at < this.bytes.length) {
      const id = this.bytes[this.at++];
      const length = this.number();
      const end = this.at + length;
      yield { id, end };
      this.at = end;
    }
  }

  /** Reads an unsigned LEB128 number. */
  number() {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.bytes[this.at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  text() {
    const length = this.number();
    this.at += length;
    return Buffer.from(this.bytes.subarray(this.at - length, this.at)).toString();
  }

  /** Returns the number of imported functions. */
  importedFunctions() {
    let functions = 0;
    for (let count = this.number(); count > 0; count--) {
      this.text();
      this.text();
      const kind = this.bytes[this.at++];
      if (kind === 0) functions++;
      // Each `at++` skips one byte: the type of a table or a global, the mutability of a global, or
      // the attribute of a tag.
      if (kind === 0) this.number();
      if (kind === 1 || kind === 4) this.at++;
      if (kind === 1 || kind === 2) this.limits();
      if (kind === 3) this.at += 2;
      if (kind === 4) this.number();
    }
    return functions;
  }

  limits() {
    const flags = this.number();
    this.number();
    if (flags & 1) this.number();
  }

  /** Returns the size of each function's body in bytes. */
  bodies() {
    return Array.from({ length: this.number() }, () => {
      const size = this.number();
      this.at += size;
      return size;
    });
  }

  /** Adds the names of functions to `names`, by function index. */
  functionNames(end, names) {
    while (this.at < end) {
      const kind = this.bytes[this.at++];
      const length = this.number();
      const next = this.at + length;
      const count = kind === 1 ? this.number() : 0;
      for (let left = count; left > 0; left--) names.set(this.number(), this.text());
      this.at = next;
    }
  }
}
