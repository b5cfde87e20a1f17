// Installs the missing tools of a build. Each step is skipped if its result exists.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { Failure, fromRoot, run, tryCapture } from './proc.mjs';
import { hasNightly, hasWasmTarget, NIGHTLY, nightlyInstall, WASM_TARGET } from './toolchain.mjs';

const WORKER_BUILD = '0.8.7';
const CARGO_FUZZ = '0.13.2';

/** Maximum number of a tool's locked dependencies whose version may be missing in the registry. */
const MAX_MISSING = 5;

/**
 * Environment that compiles tools without optimisation, which would take minutes. The tools run
 * only for seconds.
 */
const UNOPTIMIZED = {
  CARGO_PROFILE_RELEASE_OPT_LEVEL: '0',
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
  CARGO_PROFILE_RELEASE_DEBUG: '0',
  // All tools use one target directory, so that shared crates are compiled once.
  CARGO_TARGET_DIR: fromRoot('.tools/target'),
};

/**
 * Installs the tools for builds and, with `tests`, also the tools for `npm test`. With `strict`
 * (continuous integration), throws if the pinned nightly cannot be installed.
 */
export async function setup({ tests = false, strict = false } = {}) {
  requireCargo();
  // npm downloads while cargo compiles.
  await Promise.all([npmPackages(), rustTools({ tests, strict })]);
}

/** Installs the Wasm target, the nightly toolchain if tests need it, and tools from crates.io. */
async function rustTools({ tests, strict }) {
  await wasmTarget();
  if (tests || strict) await nightly({ strict });
  await cargoInstall('worker-build', WORKER_BUILD);
  await cargoInstall('wasm-bindgen-cli', wasmBindgenVersion(), 'wasm-bindgen');
  if (tests && hasNightly()) await cargoInstall('cargo-fuzz', CARGO_FUZZ);
}

/** Installs the Node packages, such as wrangler, esbuild and Node 24 (wrangler needs 22). */
async function npmPackages() {
  const installed = fromRoot('node_modules/.package-lock.json');
  const lock = fromRoot('package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  const remedy = 'Is the npm registry reachable? `npm config get registry` prints its address.';
  await run('npm', ['ci', '--no-audit', '--no-fund'], { label: 'npm ci', quiet: true, remedy });
}

function requireCargo() {
  if (tryCapture('cargo', ['--version'])) return;
  throw new Failure(
    'cargo was not found.\n  Install Rust (https://rustup.rs), open a new shell and try again.',
  );
}

async function wasmTarget() {
  if (hasWasmTarget()) return;
  const command = `rustup target add ${WASM_TARGET}`;
  const library = `Install the standard library for ${WASM_TARGET}`;
  const remedy = `${library}: \`${command}\`, or the package of your system.`;
  if (!tryCapture('rustup', ['--version'])) {
    throw new Failure(`the Wasm target is missing, and there is no rustup to add it.\n  ${remedy}`);
  }
  await run('rustup', ['target', 'add', WASM_TARGET], { label: command, quiet: true, remedy });
}

/** Installs the pinned nightly. Without it, tests of panics and the fuzz targets are skipped. */
async function nightly({ strict }) {
  if (hasNightly()) return;
  try {
    if (!tryCapture('rustup', ['--version'])) throw new Failure('rustup was not found');
    const label = `rustup toolchain install ${NIGHTLY}`;
    await run('rustup', nightlyInstall.args, { label, quiet: true });
  } catch (error) {
    if (strict) throw error;
    const effect = 'a panic fails every request in flight in its isolate';
    console.log(`${error.message}\n  Without ${NIGHTLY} ${effect}.`);
  }
}

/** Returns the version of the wasm-bindgen library. The command must have the same version. */
function wasmBindgenVersion() {
  const file = fromRoot('Cargo.lock');
  const lock = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const version = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock)?.[1];
  if (version) return version;
  const remedy = 'Restore it: `git checkout Cargo.lock`.';
  throw new Failure(`Cargo.lock does not contain wasm-bindgen.\n  ${remedy}`);
}

/** Installs a command at a pinned version, with the versions in the command's lock file. */
async function cargoInstall(crate, version, binary = crate) {
  // Cargo records installed crates in this file.
  const record = fromRoot('.tools/.crates.toml');
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
 * Makes a copy of a crate's source, and changes the versions in its lock file that the registry
 * does not have. Such versions are missing if a registry mirror is out of date. Prints each change.
 * Returns the path of the copy, or null if the lock file is not the problem.
 */
function repairLock(crate, version) {
  const cargoHome = process.env.CARGO_HOME ?? path.join(homedir(), '.cargo');
  const registries = path.join(cargoHome, 'registry/src');
  const names = existsSync(registries) ? readdirSync(registries) : [];
  const candidates = names.map((name) => path.join(registries, name, `${crate}-${version}`));
  const source = candidates.find((directory) => existsSync(directory));
  if (!source) return null;
  const copy = mkdtempSync(path.join(tmpdir(), `${crate}-`));
  cpSync(source, copy, { recursive: true });
  const cargo = (...args) => spawnSync('cargo', args, { cwd: copy, encoding: 'utf8' });
  for (let missing = 0; missing <= MAX_MISSING; missing += 1) {
    const { status, stderr } = cargo('fetch', '--locked');
    if (status === 0) return missing > 0 ? copy : null;
    const name = /failed to select a version for the requirement `([\w-]+) = /.exec(stderr)?.[1];
    if (!name) return null;
    const change = cargo('update', name).stderr.trimEnd();
    console.log(`${crate}: the registry lacks a locked version:\n${change}`);
  }
  return null;
}
