// The parts of a release: the directories of the Worker and of the command line, before they are
// packed.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, tryCapture } from './proc.mjs';
import {
  bundledPackages,
  cargoMetadata,
  crateChecksums,
  importedPackages,
  joinParts,
  licenceTexts,
  linkedCrates,
  sbom,
  toolchainParts,
} from './sbom.mjs';
import { WASM_TARGET, wasmCargo } from './toolchain.mjs';

const REPOSITORY = 'https://github.com/hedgerow/hedgerow/blob';
const SBOM = 'sbom.cdx.json';
const LICENCES = 'THIRD-PARTY-LICENSES.txt';

const read = (...parts) => readFileSync(fromRoot(...parts), 'utf8');

/** Returns the version in package.json. Throws if Cargo.toml has another one. */
export function releaseVersion(packageJson = read('package.json'), cargo = read('Cargo.toml')) {
  const { version } = JSON.parse(packageJson);
  const crates = /^\[workspace\.package\]\nversion = "([^"]+)"/m.exec(cargo)?.[1];
  if (version === crates) return version;
  const found = `package.json has version ${version}, and Cargo.toml ${crates}`;
  throw new Failure(`${found}.\n  Write the same version into both.`);
}

/** Returns the time of a release in seconds: SOURCE_DATE_EPOCH, or the time of the commit. */
export function releaseEpoch(given = process.env.SOURCE_DATE_EPOCH) {
  const epoch = given || tryCapture('git', ['log', '-1', '--format=%ct']);
  if (/^\d{1,10}$/.test(epoch ?? '')) return Number(epoch);
  const found = given ? `SOURCE_DATE_EPOCH is '${given}'` : 'Git does not return the last commit';
  throw new Failure(`${found}: expected seconds since 1970.\n  Set SOURCE_DATE_EPOCH to a number.`);
}

/** Returns wrangler.toml without its section `[build]`, so that wrangler takes a build as it is. */
export function wranglerToml(text) {
  const derived = text.replace(/^\[build\]\n(?:.+\n)*\n?/m, '');
  if (derived === text || /^(\[build|command *=|watch_dir *=)/m.test(derived)) {
    const expected = 'expected one block of lines that begins with [build]';
    throw new Failure(`wrangler.toml has another form: ${expected}.\n  Change it, or release.mjs.`);
  }
  return derived;
}

/** Returns a page of docs/ for an archive: relative links lead to the repository. */
export function standalonePage(text, version) {
  const base = `${REPOSITORY}/v${version}/`;
  return text.replace(/\]\((?!https?:|#)([^)]+)\)/g, (_, link) => (
    `](${new URL(link, `${base}docs/`).href})`));
}

/** Returns the package.json of the Worker's archive. It names the tested version of wrangler. */
export function workerPackage(version, lock) {
  const { wrangler } = lock.packages[''].devDependencies;
  const contents = {
    name: 'hedgerow-worker',
    private: true,
    version,
    license: 'Apache-2.0',
    type: 'module',
    engines: { node: '>=22' },
    devDependencies: { wrangler },
  };
  return `${JSON.stringify(contents, null, 2)}\n`;
}

/** Writes the directory of the Worker's archive. `build` contains the Worker and the console. */
export function writeWorker({ build, out, version, parts, epoch }) {
  const products = ['index.js', 'index_bg.wasm', 'console/_hedgerow/index.html'];
  const missing = products.filter((name) => !existsSync(path.join(build, name)));
  if (missing.length) {
    const remedy = 'Build them: `npm run build -- worker console`.';
    throw new Failure(`${build} lacks ${missing.join(', ')}.\n  ${remedy}`);
  }
  mkdirSync(path.join(out, 'build'), { recursive: true });
  const modules = readdirSync(build).filter((name) => /\.(js|mjs|wasm)$/.test(name));
  for (const name of modules) cpSync(path.join(build, name), path.join(out, 'build', name));
  const assets = 'console/_hedgerow';
  cpSync(path.join(build, assets), path.join(out, 'build', assets), { recursive: true });
  writeFileSync(path.join(out, 'wrangler.toml'), wranglerToml(read('wrangler.toml')));
  const lock = JSON.parse(read('package-lock.json'));
  writeFileSync(path.join(out, 'package.json'), workerPackage(version, lock));
  for (const name of ['install', 'upgrade']) {
    const page = standalonePage(read('docs', `${name}.md`), version);
    writeFileSync(path.join(out, `${name.toUpperCase()}.md`), page);
  }
  writeNotices({ out, name: 'hedgerow-worker', version, parts, epoch });
}

/** Writes the directory of an archive with the command line. */
export function writeCommandLine({ program, out, version, parts, epoch }) {
  mkdirSync(out, { recursive: true });
  cpSync(program, path.join(out, 'hedgerow'));
  writeNotices({ out, name: 'hedgerow-cli', version, parts, epoch });
}

/** Writes licence, changes, bill of materials and the licences of third parties. */
function writeNotices({ out, name, version, parts, epoch }) {
  for (const file of ['LICENSE', 'CHANGELOG.md']) cpSync(fromRoot(file), path.join(out, file));
  writeFileSync(path.join(out, SBOM), sbom({ name, version, parts, epoch }));
  writeFileSync(path.join(out, LICENCES), licenceTexts(parts));
}

/** Returns the version of the compiler, such as `1.95.0`. */
function rustcVersion(toolchain = []) {
  return /^rustc (\S+)/.exec(tryCapture('rustc', [...toolchain, '--version']) ?? '')?.[1] ?? null;
}

/** Returns the parts of the Worker: its crates, and the crates and npm packages of the console. */
export function workerParts() {
  const metadata = cargoMetadata(WASM_TARGET);
  const checksums = crateChecksums(read('Cargo.lock'));
  const crates = ['hedgerow-worker', 'hedgerow-wasm'].map((name) => (
    linkedCrates(metadata, name, checksums)));
  const lock = JSON.parse(read('package-lock.json'));
  const packages = bundledPackages(lock, importedPackages(fromRoot('www/src')));
  const rustc = rustcVersion(wasmCargo().toolchain);
  return joinParts(...crates, packages, toolchainParts({ rustc }));
}

/** Returns the parts of the command line for a target. */
export function commandLineParts(target) {
  const crates = linkedCrates(
    cargoMetadata(target),
    'hedgerow-cli',
    crateChecksums(read('Cargo.lock')),
  );
  return joinParts(crates, toolchainParts({ rustc: rustcVersion(), musl: true }));
}
