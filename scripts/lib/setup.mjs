// Installs everything that a build needs and the machine lacks. Each step is skipped if it is done already.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { Failure, fromRoot, run, tryCapture } from './proc.mjs';
import { hasNightly, hasWasmTarget, NIGHTLY, nightlyInstall, WASM_TARGET } from './toolchain.mjs';

const WORKER_BUILD = '0.8.7';
const CARGO_FUZZ = '0.13.2';

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

async function cargoInstall(crate, version, binary = crate) {
  const record = fromRoot('.tools/.crates.toml'); // cargo's own list of what it has installed
  const entry = `"${crate} ${version} (`;
  const isRecorded = existsSync(record) && readFileSync(record, 'utf8').includes(entry);
  if (isRecorded && existsSync(fromRoot('.tools/bin', binary))) return;
  const install = (flags, label) =>
    run('cargo', ['install', crate, '--version', version, ...flags, '--root', fromRoot('.tools'), '--quiet'], {
      label,
      quiet: true,
      env: UNOPTIMIZED,
      remedy: 'Is crates.io reachable, and is a C compiler installed? The output is above.',
    });
  const label = `cargo install ${crate} ${version} (a few minutes, once)`;
  try {
    await install(['--locked'], label);
  } catch {
    // A registry mirror can lag behind and lack a version of the lock file; the version ranges still hold. The version
    // of the tool itself is pinned, so this is announced, and allowed in continuous integration, too.
    console.log(`${crate}: not installable with its lock file; trying the newest versions it accepts`);
    await install([], label);
  }
}
