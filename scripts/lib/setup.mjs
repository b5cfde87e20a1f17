// What has to be on the machine before anything can be built. Every step is skipped when it is already done.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { at, capture, Failure, run, toolEnv } from './proc.mjs';

const WORKER_BUILD = '0.8.7';
const CARGO_FUZZ = '0.13.2';
const RSIGN = '0.6.7';
// Tools that run for seconds are not worth minutes of optimising.
const QUICKLY = { CARGO_PROFILE_RELEASE_OPT_LEVEL: '1', CARGO_PROFILE_RELEASE_LTO: 'off', CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16', CARGO_PROFILE_RELEASE_DEBUG: '0' };
const WASM = 'wasm32-unknown-unknown';

/** Node packages: wrangler, workerd, Node 24 (wrangler needs ≥ 22), esbuild, binaryen. */
async function npmPackages() {
  const installed = at('node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(at('package-lock.json')).mtimeMs) return;
  await run('npm', ['ci', '--no-audit', '--no-fund'], { label: 'npm ci', quiet: true, remedy: 'Is the npm registry reachable? `npm config get registry` names it.' });
}

/** Cargo and the Wasm target. */
async function rust() {
  if (!capture('cargo', ['--version'])) {
    throw new Failure('cargo was not found.\n  Install Rust (https://rustup.rs), open a new shell and try again.');
  }
  if (hasTarget([])) return;
  const remedy = `Install the standard library for ${WASM}: \`rustup target add ${WASM}\`, or your distribution's package.`;
  if (!capture('rustup', ['--version'])) throw new Failure(`the Wasm target is missing, and rustup to add it.\n  ${remedy}`);
  await run('rustup', ['target', 'add', WASM], { label: `rustup target add ${WASM}`, quiet: true, remedy });
}

/**
 * What a nightly toolchain that is there already lacks for `--panic-unwind`: the standard library's source, and its
 * build for Wasm. Without them the stable build serves as well, so failing is no failure.
 */
async function completeNightly() {
  const { present, unwind } = nightly();
  if (!present || unwind || !capture('rustup', ['--version'])) return;
  try {
    await run('rustup', ['component', 'add', 'rust-src', '--toolchain', 'nightly'], { label: 'rustup component add rust-src --toolchain nightly', quiet: true });
    await run('rustup', ['target', 'add', WASM, '--toolchain', 'nightly'], { label: `rustup target add ${WASM} --toolchain nightly`, quiet: true });
  } catch (error) {
    console.log(`${error.message}\n  Going on with the stable build: a panic then fails the requests in flight in its isolate.`);
  }
}

/** worker-build and the wasm-bindgen CLI that fits the library in Cargo.lock, into .tools/. */
async function buildTools() {
  await cargoInstall('worker-build', WORKER_BUILD);
  await cargoInstall('wasm-bindgen-cli', wasmBindgenVersion(), 'wasm-bindgen');
}

/** What only the tests need: a minisign by others, and cargo-fuzz, which only nightly can run. */
async function testTools() {
  await cargoInstall('rsign2', RSIGN, 'rsign');
  if (nightly().present) await cargoInstall('cargo-fuzz', CARGO_FUZZ);
}

/** Which parts of nightly are there: `--panic-unwind` needs all of them, fuzzing the toolchain. */
export function nightly() {
  // Asking must not install: rustup may otherwise fetch a toolchain that is merely named.
  const sysroot = capture('rustc', ['+nightly', '--print', 'sysroot'], { env: toolEnv({ RUSTUP_AUTO_INSTALL: '0' }) });
  const present = sysroot !== null && existsSync(sysroot);
  const source = present && existsSync(`${sysroot}/lib/rustlib/src/rust/library/std`);
  const unwind = present && source && hasTarget(['+nightly']);
  return { present, unwind, remedy: 'rustup toolchain install nightly --component rust-src --target wasm32-unknown-unknown' };
}

export async function setup({ tests = false } = {}) {
  await npmPackages();
  await rust();
  await completeNightly();
  await buildTools();
  if (tests) await testTools();
}

function hasTarget(toolchain) {
  const dir = capture('rustc', [...toolchain, '--target', WASM, '--print', 'target-libdir']);
  return dir !== null && existsSync(dir);
}

function wasmBindgenVersion() {
  const lock = existsSync(at('Cargo.lock')) ? readFileSync(at('Cargo.lock'), 'utf8') : '';
  const found = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock);
  if (!found) throw new Failure('Cargo.lock names no wasm-bindgen.\n  Restore it: `git checkout Cargo.lock`.');
  return found[1];
}

async function cargoInstall(crate, version, binary = crate) {
  const installed = at('.tools/.crates.toml'); // cargo's own record
  if (existsSync(at('.tools/bin', binary)) && existsSync(installed) && readFileSync(installed, 'utf8').includes(`"${crate} ${version} (`)) return;
  const install = (flags) => run('cargo', ['install', crate, '--version', version, ...flags, '--root', at('.tools'), '--quiet'], {
    label: `cargo install ${crate} ${version}${flags.length ? '' : ' without its lock file'} (a few minutes, once)`,
    quiet: true,
    env: QUICKLY,
    remedy: 'Is crates.io reachable, and a C compiler installed? Its output is above.',
  });
  // A mirror may lag behind and lack what the crate's lock file names; its version ranges still hold.
  await install(['--locked']).catch(() => install([]));
}
