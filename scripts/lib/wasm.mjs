// What a Wasm module consists of: bytes of code by crate, told by its name section, and of data.
import { gzipSync } from 'node:zlib';

const SECTION = { import: 2, code: 10, data: 11 };

/** Bytes of code by crate and of data, of a module with names; largest first. */
export function consistsOf(wasm) {
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
  sizes.forEach((size, place) => {
    const crate = crateOf(names.get(place + imported) ?? '');
    crates[crate] = (crates[crate] ?? 0) + size;
  });
  return Object.fromEntries(Object.entries(crates).sort(([, a], [, b]) => b - a));
}

export const gzipped = (bytes) => gzipSync(bytes, { level: 9 }).length;

/** The crate that a function is counted to: ours where it is made for a type of ours, else the one that defines it. */
function crateOf(name) {
  const crates = [...name.matchAll(/(?:^|[^\w:])([a-z_]\w*)(?:\[[0-9a-f]+\])?::/g)].map(([, crate]) => crate);
  return crates.find((crate) => crate.startsWith('hedgerow')) ?? crates[0] ?? 'other';
}

/** Reads as much of the binary format as is needed: https://webassembly.github.io/spec/core/binary/ */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 8;
  }

  /** Each section with its end; whatever its reader left of it is passed over. */
  *sections() {
    while (this.at < this.bytes.length) {
      const id = this.bytes[this.at++];
      const length = this.number();
      const end = this.at + length;
      yield { id, end };
      this.at = end;
    }
  }

  /** LEB128. */
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

  importedFunctions() {
    let functions = 0;
    for (let count = this.number(); count > 0; count--) {
      this.text();
      this.text();
      const kind = this.bytes[this.at++];
      if (kind === 0) functions++;
      // A table and a global have a type before their limits or flag, a tag an attribute before its type.
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

  /** The size of each function's body. */
  bodies() {
    return Array.from({ length: this.number() }, () => {
      const size = this.number();
      this.at += size;
      return size;
    });
  }

  functionNames(end, names) {
    while (this.at < end) {
      const kind = this.bytes[this.at++];
      const length = this.number();
      const next = this.at + length;
      if (kind === 1) for (let count = this.number(); count > 0; count--) names.set(this.number(), this.text());
      this.at = next;
    }
  }
}
