// Builds the Worker, the Wasm module of the console, the console and the command line. Cargo decides what has to be
// compiled; a stamp spares the later steps (wasm-bindgen, wasm-opt, esbuild) if no input is newer than the output.
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, run, toolEnv, tryCapture } from './proc.mjs';
import { hasNightly, NIGHTLY, TOOLCHAIN_SHIM, WASM_TARGET, wasmCargo } from './toolchain.mjs';
import { consistsOf, gzipped } from './wasm.mjs';

/**
 * Cargo profiles of Wasm. `release` is what is deployed; `development` compiles in half the time and skips wasm-opt.
 * HEDGEROW_PROFILE chooses for `wrangler dev`, which builds by itself.
 */
const PROFILES = {
  release: { cargo: 'wasm', optimize: true },
  development: { cargo: 'wasm-dev', optimize: false },
};

/** Wasm features that workerd and browsers have and wasm-opt has to be told about. */
const WASM_FEATURES = [
  'simd', 'bulk-memory', 'mutable-globals', 'sign-ext', 'nontrapping-float-to-int', 'multivalue', 'reference-types',
  'exception-handling',
];

/** Size and contents of the Worker's Wasm, as it was built. */
export const WORKER_SIZE = 'build/size.json';

const SHARED_INPUTS = ['Cargo.toml', 'Cargo.lock', 'src/core', 'src/sigma', 'scripts/lib/build.mjs'];
const WORKER_INPUTS = [...SHARED_INPUTS, 'src/worker'];
const WASM_INPUTS = [...SHARED_INPUTS, 'src/wasm'];
const CLI_INPUTS = [...SHARED_INPUTS, 'src/cli'];

const shippedRules = () => process.env.HEDGEROW_RULES ?? fromRoot('rules');

/**
 * Builds the Worker: `<out>/index.js` and `<out>/index_bg.wasm`. `keepNames` skips wasm-opt, which drops the names of
 * functions.
 */
export async function buildWorker({
  out = 'build', features = [], rules = shippedRules(), profile = process.env.HEDGEROW_PROFILE ?? 'release',
  keepNames = false,
} = {}) {
  const settings = PROFILES[profile];
  if (!settings) throw new Failure(`HEDGEROW_PROFILE is '${profile}': expected ${Object.keys(PROFILES).join(' or ')}`);
  const unwind = hasNightly();
  const rustc = tryCapture('rustc', [...wasmCargo().toolchain, '--version']);
  const recipe = JSON.stringify({ rustc, unwind, features, rules, profile, keepNames });
  if (isFresh(out, 'index.js', recipe, [...WORKER_INPUTS, rules])) return;
  rmSync(stampOf(out), { force: true });
  const remarks = [features.join(', '), profile, unwind ? '' : 'a panic fails all requests in flight'].filter(Boolean);
  await workerBuild(out, {
    profile: settings.cargo,
    features,
    label: `build the Worker → ${out}/ (${remarks.join('; ')})`,
    env: { HEDGEROW_RULES: rules },
  });
  if (settings.optimize && !keepNames) {
    const wasm = fromRoot(out, 'index_bg.wasm');
    const bytes = consistsOf(readFileSync(wasm));
    await optimize(wasm);
    writeFileSync(fromRoot(out, 'size.json'), JSON.stringify({ rustc, unwind, gzip: gzipped(readFileSync(wasm)), bytes }));
  }
  writeFileSync(stampOf(out), recipe);
}

/** Builds a Worker that panics on request and refuses what it cannot score, for tests of both. */
export const buildFaultInjection = () =>
  buildWorker({
    out: 'build-faults',
    features: ['fault-injection'],
    rules: fromRoot('tests/fixtures/strict'),
    // The profile of the Worker: only the crate itself compiles again. wasm-opt is left out.
    profile: 'release',
    keepNames: true,
  });

/** Runs worker-build in the directory of a Worker's crate. */
async function workerBuild(out, { cwd = fromRoot('src/worker'), profile = 'wasm', features = [], label, env = {} }) {
  const unwind = hasNightly();
  const flags = ['--profile', profile, '--no-opt', '--out-dir', path.relative(cwd, fromRoot(out))];
  if (unwind) flags.push('--panic-unwind');
  const cargo = features.length ? ['.', '--features', features.join(',')] : [];
  const { RUSTFLAGS } = wasmCargo().env;
  await run(fromRoot('.tools/bin/worker-build'), [...flags, ...cargo], {
    label,
    cwd,
    quiet: true,
    env: {
      ...env,
      PATH: [TOOLCHAIN_SHIM, toolEnv().PATH].join(path.delimiter),
      HEDGEROW_NIGHTLY: NIGHTLY,
      // worker-build adds this flag itself.
      RUSTFLAGS: RUSTFLAGS.replace(' -Cpanic=unwind', ''),
      WASM_BINDGEN_BIN: fromRoot('.tools/bin/wasm-bindgen'),
      ESBUILD_BIN: fromRoot('node_modules/.bin/esbuild'),
    },
  });
}

/** Builds the smallest Worker in Rust, which `npm run bench` compares with: `build/baseline-rust/index.js`. */
export async function buildBaseline() {
  const out = 'build/baseline-rust';
  const recipe = 'baseline-rust';
  if (isFresh(out, 'index.js', recipe, ['Cargo.toml', 'Cargo.lock', 'benches/baseline-rust'])) return;
  await workerBuild(out, { label: `build the smallest Worker → ${out}/`, cwd: fromRoot('benches/baseline-rust') });
  await optimize(fromRoot(out, 'index_bg.wasm'));
  writeFileSync(stampOf(out), recipe);
}

/** Builds the core for browsers and for Node: `<out>/hedgerow_wasm.js` and `<out>/hedgerow_wasm_bg.wasm`. */
export async function buildWasm({
  out = 'build/wasm', features = [], profile = process.env.HEDGEROW_PROFILE ?? 'release',
} = {}) {
  const settings = PROFILES[profile];
  const { toolchain, flags, env } = wasmCargo();
  const recipe = JSON.stringify({ toolchain, features, profile });
  if (isFresh(out, 'hedgerow_wasm.js', recipe, WASM_INPUTS)) return;
  rmSync(stampOf(out), { force: true });
  const selected = features.flatMap((feature) => ['--features', feature]);
  await run(
    'cargo',
    [...toolchain, 'build', '--locked', '--quiet', '--profile', settings.cargo, '--target', WASM_TARGET, ...flags,
      '-p', 'hedgerow-wasm', '--lib', ...selected],
    { label: `build the Wasm module → ${out}/ (${profile})`, quiet: true, env },
  );
  const built = path.join(targetDirectory(), WASM_TARGET, settings.cargo, 'hedgerow_wasm.wasm');
  const bindgen = [built, '--target', 'web', '--out-dir', fromRoot(out)];
  await run(fromRoot('.tools/bin/wasm-bindgen'), bindgen, { label: 'wasm-bindgen', quiet: true });
  if (settings.optimize) await optimize(fromRoot(out, 'hedgerow_wasm_bg.wasm'));
  writeFileSync(stampOf(out), recipe);
}

/**
 * Builds the console as the Worker serves it: `build/console/_hedgerow/`. It contains the rules that the Worker is
 * built with, and the Wasm module.
 */
export async function buildConsole({ rules = shippedRules(), profile = process.env.HEDGEROW_PROFILE ?? 'release' } = {}) {
  await buildWasm({ profile });
  const recipe = JSON.stringify({ rules, profile });
  if (isFresh('build/console', '_hedgerow/index.html', recipe, ['www', rules, 'package-lock.json', ...WASM_INPUTS])) return;
  rmSync(stampOf('build/console'), { force: true });
  // Node 20 refuses the types that wasm-bindgen's exception handling needs, and the user's own Node may be that old.
  const node = fromRoot('node_modules/.bin/node');
  await run(node, [fromRoot('scripts/shipped-rules.mjs'), rules], { label: 'the shipped rules → build/rules/', quiet: true });
  await run(
    fromRoot('node_modules/.bin/vite'),
    ['build', 'www', '--config', fromRoot('www/vite.config.ts'), '--logLevel', 'warn'],
    { label: 'build the console → build/console/', quiet: true },
  );
  writeFileSync(stampOf('build/console'), recipe);
}

/** Optimises a Wasm module in place and removes the names of its functions. */
async function optimize(wasm) {
  const enabled = WASM_FEATURES.map((feature) => `--enable-${feature}`);
  const wasmOpt = fromRoot('node_modules/.bin/wasm-opt');
  await run(wasmOpt, ['-O2', '--strip-debug', ...enabled, wasm, '-o', wasm], { label: 'wasm-opt', quiet: true });
}

/** Builds the command line: `target/debug/hedgerow`, or `target/release/hedgerow` with `release`. */
export async function buildCommandLine({ release = false } = {}) {
  const binary = commandLine({ release });
  const built = statSync(binary, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (CLI_INPUTS.every((input) => newest(fromRoot(input)) < built)) return;
  const flags = release ? ['--release'] : [];
  const label = `build the command line (${release ? 'release' : 'development'})`;
  await run('cargo', ['build', '--locked', '--quiet', '--bin', 'hedgerow', ...flags], { label, quiet: true });
}

/** Path of the command line that `buildCommandLine` makes. */
export const commandLine = ({ release = false } = {}) =>
  path.join(targetDirectory(), release ? 'release' : 'debug', 'hedgerow');

const targetDirectory = () => process.env.CARGO_TARGET_DIR ?? fromRoot('target');

const stampOf = (out) => fromRoot(out, '.stamp');

function isFresh(out, product, recipe, inputs) {
  const stamp = stampOf(out);
  if (!existsSync(stamp) || !existsSync(fromRoot(out, product))) return false;
  if (readFileSync(stamp, 'utf8') !== recipe) return false;
  const built = statSync(stamp).mtimeMs;
  return inputs.every((input) => newest(path.isAbsolute(input) ? input : fromRoot(input)) < built);
}

function newest(file) {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (!stat) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(file).reduce((max, name) => Math.max(max, newest(path.join(file, name))), stat.mtimeMs);
}
