// Software bills of materials (CycloneDX 1.6) and licence texts of the released programs. All of it
// depends only on the lock files, so that two builds give the same bytes.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, tryCapture } from './proc.mjs';

/** Names of files with licences and notices in a package. */
const LICENCE_FILE = /^(licen[cs]e|copying|notice|unlicense|copyright)([-_].*|\.md|\.txt)?$/i;

/** The licence of a component without an SPDX expression. */
const LICENCE_IN_FILE = 'see the licence file of the package in THIRD-PARTY-LICENSES.txt';

/**
 * Returns the crates that a program contains: all normal dependencies of a crate for a target,
 * without those that only run while it is compiled. `metadata` is the output of `cargo metadata`,
 * `checksums` that of `crateChecksums`.
 */
export function linkedCrates(metadata, root, checksums = new Map()) {
  const packages = new Map(metadata.packages.map((item) => [item.id, item]));
  const nodes = new Map(metadata.resolve.nodes.map((node) => [node.id, node]));
  const isMacro = ({ targets }) => targets.some(({ kind }) => kind.includes('proc-macro'));
  const first = metadata.packages.find(({ name }) => name === root);
  if (!first) throw new Failure(`cargo metadata does not contain ${root}.`);
  const found = new Map([[first.id, []]]);
  const open = [first.id];
  while (open.length) {
    const id = open.pop();
    const used = nodes.get(id).deps
      .filter(({ dep_kinds: kinds }) => kinds.some(({ kind }) => kind === null))
      .map(({ pkg }) => pkg)
      .filter((pkg) => !isMacro(packages.get(pkg)));
    found.set(id, used);
    for (const pkg of used.filter((pkg) => !found.has(pkg))) {
      found.set(pkg, []);
      open.push(pkg);
    }
  }
  const ref = (id) => crateRef(packages.get(id));
  return [...found].map(([id, used]) => {
    const { name, version, license, source, manifest_path: manifest } = packages.get(id);
    const content = checksums.get(ref(id));
    const hash = content && { alg: 'SHA-256', content };
    return {
      component: component({ ref: ref(id), name, version, license, hash, own: source === null }),
      uses: used.map(ref),
      directory: path.dirname(manifest),
      own: source === null,
      direct: id === first.id,
    };
  });
}

const crateRef = ({ name, version }) => `pkg:cargo/${name}@${encodeURIComponent(version)}`;

/** Returns the SHA-256 of each crate by reference, from the text of Cargo.lock. */
export function crateChecksums(lock) {
  const entry = /name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([^"]+)"/g;
  const entries = [...lock.matchAll(entry)];
  return new Map(entries.map(([, name, version, sum]) => [crateRef({ name, version }), sum]));
}

/** Converts the notation `MIT/Apache-2.0` of old crates to an SPDX expression. */
const spdx = (license) => license.replace(/\s*\/\s*/g, ' OR ');

/** Returns a component of CycloneDX. Crates of this repository (`own`) are in no registry. */
function component({ ref, name, version, license, hash, own = false }) {
  return {
    type: 'library',
    'bom-ref': ref,
    name,
    version,
    ...(own ? {} : { purl: ref }),
    licenses: license
      ? [{ expression: spdx(license) }]
      : [{ license: { name: LICENCE_IN_FILE } }],
    ...(hash ? { hashes: [hash] } : {}),
  };
}

/**
 * Returns the npm packages that the console contains: the packages that its sources import, with
 * their dependencies. `lock` is the parsed package-lock.json; `imports` are package names.
 */
export function bundledPackages(lock, imports, root = fromRoot()) {
  const found = new Map();
  const open = imports.map((name) => ({ name, from: '' }));
  const ref = (key) => npmRef(nameOf(key), lock.packages[key].version);
  while (open.length) {
    const { name, from } = open.pop();
    const key = resolve(lock, name, from);
    if (!key) throw new Failure(`package-lock.json lacks ${name}.\n  Run \`npm install\`.`);
    if (found.has(key)) continue;
    const needs = Object.keys(lock.packages[key].dependencies ?? {});
    found.set(key, needs);
    open.push(...needs.map((need) => ({ name: need, from: key })));
  }
  return [...found].map(([key, needs]) => {
    const { version, license, integrity } = lock.packages[key];
    const name = nameOf(key);
    const content = Buffer.from(integrity.replace(/^sha512-/, ''), 'base64').toString('hex');
    const hash = { alg: 'SHA-512', content };
    return {
      component: component({ ref: ref(key), name, version, license, hash }),
      uses: needs.map((need) => ref(resolve(lock, need, key))),
      directory: path.join(root, key),
      own: false,
      direct: imports.includes(name),
    };
  });
}

const nameOf = (key) => key.replace(/^.*node_modules\//, '');
const npmRef = (name, version) => `pkg:npm/${name.replace('@', '%40')}@${version}`;

/** Returns the key in package-lock.json of a package that the package `from` imports. */
function resolve(lock, name, from) {
  for (let base = from; ; base = base.replace(/\/?node_modules\/(@[^/]+\/)?[^/]+$/, '')) {
    const key = [base, `node_modules/${name}`].filter(Boolean).join('/');
    if (lock.packages[key]) return key;
    if (!base) return null;
  }
}

/** Returns the names of the npm packages that TypeScript files below a directory import. */
export function importedPackages(directory) {
  const names = new Set();
  const files = readdirSync(directory, { recursive: true }).map(String).sort();
  for (const file of files.filter((name) => /\.tsx?$/.test(name))) {
    const text = readFileSync(path.join(directory, file), 'utf8');
    for (const [, name] of text.matchAll(/(?:from|import\()\s*'((?:@[^/']+\/)?[^./'][^/']*)/g)) {
      names.add(name);
    }
  }
  return [...names].sort();
}

/** Joins lists of parts. A part that several lists contain occurs once. */
export function joinParts(...lists) {
  const joined = new Map();
  for (const part of lists.flat()) {
    const ref = part.component['bom-ref'];
    const known = joined.get(ref);
    const uses = [...(known?.uses ?? []), ...part.uses];
    joined.set(ref, { ...part, uses, direct: part.direct || Boolean(known?.direct) });
  }
  return [...joined.values()];
}

/** Returns the libraries that the compiler adds to a program. */
export function toolchainParts({ rustc, musl = false }) {
  const part = (name, version, license, text) => ({
    component: {
      type: 'library',
      'bom-ref': name,
      name,
      ...(version ? { version } : {}),
      licenses: [{ expression: license }],
    },
    uses: [],
    text,
    own: false,
    direct: true,
  });
  const std = part('rust-std', rustc, 'MIT OR Apache-2.0', 'Copyright (c) The Rust Project.');
  return musl ? [std, part('musl', null, 'MIT', MUSL_NOTICE)] : [std];
}

const MUSL_NOTICE = `Copyright © 2005-2020 Rich Felker, et al.

Permission is hereby granted, free of charge, to any person obtaining
a copy of this software and associated documentation files (the
"Software"), to deal in the Software without restriction, including
without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to
permit persons to whom the Software is furnished to do so, subject to
the following conditions:

The above copyright notice and this permission notice shall be
included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT,
TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

const byRef = (a, b) => (a.component['bom-ref'] < b.component['bom-ref'] ? -1 : 1);

/**
 * Returns the CycloneDX document of a program as text. `parts` are results of `linkedCrates` and
 * `bundledPackages`; `epoch` is the time of the commit in seconds.
 */
export function sbom({ name, version, parts, epoch }) {
  const sorted = [...parts].sort(byRef);
  const ref = `${name}@${version}`;
  const licenses = [{ expression: 'Apache-2.0' }];
  const main = { type: 'application', 'bom-ref': ref, name, version, licenses };
  const direct = sorted.filter((part) => part.direct).map((part) => part.component['bom-ref']);
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { timestamp: new Date(epoch * 1000).toISOString(), component: main },
    components: sorted.map((part) => part.component),
    dependencies: [
      { ref, dependsOn: direct },
      ...sorted.map(({ component: part, uses }) => ({
        ref: part['bom-ref'],
        dependsOn: [...new Set(uses)].sort(),
      })),
    ],
  };
  const serialNumber = `urn:uuid:${uuidV5(JSON.stringify(document))}`;
  const { bomFormat, specVersion, ...rest } = document;
  return `${JSON.stringify({ bomFormat, specVersion, serialNumber, ...rest }, null, 2)}\n`;
}

/** Namespace of URLs in RFC 9562. */
const URL_NAMESPACE = Buffer.from('6ba7b8119dad11d180b400c04fd430c8', 'hex');

/** Returns the UUID of version 5 of a text. */
export function uuidV5(text) {
  const hash = createHash('sha1').update(URL_NAMESPACE).update(text).digest().subarray(0, 16);
  hash[6] = (hash[6] & 0x0f) | 0x50;
  hash[8] = (hash[8] & 0x3f) | 0x80;
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Returns the licences of all third parties in a program, as one text. Equal texts occur once. */
export function licenceTexts(parts) {
  const texts = new Map();
  const sorted = parts.filter(({ own }) => !own).sort(byRef);
  const list = [];
  for (const { component: { name, version, licenses: [entry] }, directory, text } of sorted) {
    const user = [name, version].filter(Boolean).join(' ');
    const found = text ? [text] : readLicences(directory);
    for (const licence of found) texts.set(licence, [...(texts.get(licence) ?? []), user]);
    const remark = found.length ? '' : ' (the package contains no licence file)';
    list.push(`${user}: ${entry.expression ?? entry.license.name}${remark}`);
  }
  const sections = [...texts].map(([text, users]) => (
    `${'='.repeat(80)}\n${[...new Set(users)].join(', ')}\n\n${text}`));
  return `${[list.join('\n'), ...sections].join('\n\n')}\n`;
}

/** Returns the texts of the licence files of a package. */
function readLicences(directory) {
  if (!existsSync(directory)) return [];
  const entries = readdirSync(directory, { withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && LICENCE_FILE.test(entry.name));
  const read = ({ name }) => readFileSync(path.join(directory, name), 'utf8');
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((file) => read(file).replaceAll('\r', '').trim());
}

/** Returns the output of `cargo metadata` for a target. */
export function cargoMetadata(target) {
  const args = ['metadata', '--locked', '--format-version', '1', '--filter-platform', target];
  const text = tryCapture('cargo', args, { maxBuffer: 1 << 28 });
  if (text) return JSON.parse(text);
  throw new Failure(`cargo metadata fails for ${target}.\n  Run \`cargo ${args.join(' ')}\`.`);
}
