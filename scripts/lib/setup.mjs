// Installs everything that a build needs and the machine lacks. Each step is skipped if it is done already.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { Failure, fromRoot, run, tryCapture } from './proc.mjs';
import { hasNightly, hasWasmTarget, NIGHTLY, nightlyInstall, WASM_TARGET } from './toolchain.mjs';

const WORKER_BUILD = '0.8.7';
const CARGO_FUZZ = '0.13.2';

/** The most versions of a tool's lock file that may be missing from the registry. */
const MOST_MISSING = 5;

/** The tools run for seconds; optimising them costs minutes. */
const UNOPTIMIZED = {
  CARGO_PROFILE_RELEASE_OPT_LEVEL: '0',
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
  CARGO_PROFILE_RELEASE_DEBUG: '0',
  // One directory for all tools: crates that they share compile once.
  CARGO_TARGET_DIR: fromRoot('.tools/target'),
};

/**
 * Makes the machine ready to build; with `tests` also for `npm test`. `strict` (continuous integration)
 * fails if the pinned nightly cannot be installed.
 */
export async function setup({ tests = false, strict = false } = {}) {
  requireCargo();
  // npm waits for the network while cargo compiles.
  const packages = npmPackages();
  packages.catch(() => {});
  await wasmTarget();
  if (tests || strict) await nightly({ strict });
  await packages;
  await cargoInstall('worker-build', WORKER_BUILD);
  await cargoInstall('wasm-bindgen-cli', wasmBindgenVersion(), 'wasm-bindgen');
  if (tests && hasNightly()) await cargoInstall('cargo-fuzz', CARGO_FUZZ);
}

/** Installs the Node packages: wrangler, workerd, Node 24 (wrangler needs at least 22), esbuild, binaryen. */
async function npmPackages() {
  const installed = fromRoot('node_modules/.package-lock.json');
  const lock = fromRoot('package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  const remedy = 'Is the npm registry reachable? `npm config get registry` prints its address.';
  await run('npm', ['ci', '--no-audit', '--no-fund'], { label: 'npm ci', quiet: true, remedy });
}

function requireCargo() {
  if (tryCapture('cargo', ['--version'])) return;
  throw new Failure('cargo was not found.\n  Install Rust (https://rustup.rs), open a new shell and try again.');
}

async function wasmTarget() {
  if (hasWasmTarget()) return;
  const command = `rustup target add ${WASM_TARGET}`;
  const remedy = `Install the standard library for ${WASM_TARGET}: \`${command}\`, or the package of your system.`;
  if (!tryCapture('rustup', ['--version'])) {
    throw new Failure(`the Wasm target is missing, and there is no rustup to add it.\n  ${remedy}`);
  }
  await run('rustup', ['target', 'add', WASM_TARGET], { label: command, quiet: true, remedy });
}

/** Installs the pinned nightly, which catches panics in Wasm and fuzzes. Tests of both are skipped without it. */
async function nightly({ strict }) {
  if (hasNightly()) return;
  try {
    if (!tryCapture('rustup', ['--version'])) throw new Failure('rustup was not found');
    await run('rustup', nightlyInstall.args, { label: `rustup toolchain install ${NIGHTLY}`, quiet: true });
  } catch (error) {
    if (strict) throw error;
    console.log(`${error.message}\n  Without ${NIGHTLY} a panic fails every request in flight in its isolate.`);
  }
}

/** The version of the wasm-bindgen library: its command must have the same. */
function wasmBindgenVersion() {
  const lock = existsSync(fromRoot('Cargo.lock')) ? readFileSync(fromRoot('Cargo.lock'), 'utf8') : '';
  const version = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock)?.[1];
  if (!version) throw new Failure('Cargo.lock does not name wasm-bindgen.\n  Restore it: `git checkout Cargo.lock`.');
  return version;
}

/** Installs a command at a pinned version, with the versions of all its dependencies as its lock file has them. */
async function cargoInstall(crate, version, binary = crate) {
  const record = fromRoot('.tools/.crates.toml'); // cargo's own list of what it has installed
  const entry = `"${crate} ${version} (`;
  const isRecorded = existsSync(record) && readFileSync(record, 'utf8').includes(entry);
  if (isRecorded && existsSync(fromRoot('.tools/bin', binary))) return;
  const install = (source) =>
    run('cargo', ['install', ...source, '--locked', '--root', fromRoot('.tools'), '--quiet'], {
      label: `cargo install ${crate} ${version} (a few minutes, once)`,
      quiet: true,
      env: UNOPTIMIZED,
      remedy: 'Is crates.io reachable, and is a C compiler installed? The output is above.',
    });
  try {
    await install([crate, '--version', version]);
  } catch (error) {
    const repaired = repairLock(crate, version);
    if (!repaired) throw error;
    await install(['--path', repaired]);
  }
}

/**
 * Returns a copy of a crate's source whose lock file names only versions that the registry has, or null if the lock
 * file is not the problem. A registry mirror can lag behind and lack a version. Only the packages that are missing
 * change, and each change is printed.
 */
function repairLock(crate, version) {
  const sources = path.join(process.env.CARGO_HOME ?? path.join(homedir(), '.cargo'), 'registry/src');
  const registries = existsSync(sources) ? readdirSync(sources) : [];
  const source = registries.map((name) => path.join(sources, name, `${crate}-${version}`)).find(existsSync);
  if (!source) return null;
  const copy = mkdtempSync(path.join(tmpdir(), `${crate}-`));
  cpSync(source, copy, { recursive: true });
  const cargo = (...args) => spawnSync('cargo', args, { cwd: copy, encoding: 'utf8' });
  for (let missing = 0; missing <= MOST_MISSING; missing += 1) {
    const { status, stderr } = cargo('fetch', '--locked');
    if (status === 0) return missing > 0 ? copy : null;
    const name = /failed to select a version for the requirement `([\w-]+) = /.exec(stderr)?.[1];
    if (!name) return null;
    console.log(`${crate}: the registry lacks a locked version:\n${cargo('update', name).stderr.trimEnd()}`);
  }
  return null;
}
