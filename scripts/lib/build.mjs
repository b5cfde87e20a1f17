// Builds the Worker, the Wasm module of the console, the console and the command line. Cargo
// compiles only changed crates. A stamp file contains the recipe of the last build: if the recipe
// is equal and no input is newer, all later steps (wasm-bindgen, wasm-opt, esbuild) are skipped.
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Failure, fromRoot, run, toolEnv, tryCapture } from './proc.mjs';
import { hasNightly, NIGHTLY, TOOLCHAIN_SHIM, WASM_TARGET, wasmCargo } from './toolchain.mjs';
import { bytesByCrate, gzipSize } from './wasm.mjs';

/**
 * Cargo profiles for Wasm. `release` is for deployment; `development` compiles in half the time and
 * skips wasm-opt. The environment variable HEDGEROW_PROFILE selects a profile, also in the build
 * that `wrangler dev` runs.
 */
const PROFILES = {
  release: { cargo: 'wasm', optimize: true },
  development: { cargo: 'wasm-dev', optimize: false },
};

/** Wasm features that workerd and browsers support. wasm-opt must enable each one. */
const WASM_FEATURES = [
  'simd',
  'bulk-memory',
  'mutable-globals',
  'sign-ext',
  'nontrapping-float-to-int',
  'multivalue',
  'reference-types',
  'exception-handling',
];

/** Size of the Worker's Wasm and bytes by crate. `buildWorker` writes this file. */
export const WORKER_SIZE = 'build/size.json';

const SHARED_INPUTS = [
  'Cargo.toml',
  'Cargo.lock',
  'src/core',
  'src/sigma',
  'scripts/lib/build.mjs',
];
const WASM_INPUTS = [...SHARED_INPUTS, 'src/wasm'];
const RULE_COMPILER = [...WASM_INPUTS, 'scripts/compile-rules.mjs'];
const WORKER_INPUTS = [...RULE_COMPILER, 'src/worker'];
const CLI_INPUTS = [...SHARED_INPUTS, 'src/cli', 'rules'];

const shippedRules = () => process.env.HEDGEROW_RULES ?? fromRoot('rules');
const defaultProfile = () => process.env.HEDGEROW_PROFILE ?? 'release';

/** Returns the settings of a profile. */
function profileSettings(profile) {
  const expected = Object.keys(PROFILES).join(' or ');
  if (PROFILES[profile]) return PROFILES[profile];
  throw new Failure(`HEDGEROW_PROFILE is '${profile}': expected ${expected}`);
}

/**
 * Builds the Worker: `<out>/index.js` and `<out>/index_bg.wasm`. `keepNames` keeps the names of
 * functions: it skips wasm-opt, which would remove them.
 */
export async function buildWorker({
  out = 'build',
  features = [],
  rules = shippedRules(),
  profile = defaultProfile(),
  keepNames = false,
} = {}) {
  const settings = profileSettings(profile);
  const bundle = await compileRules({ rules, profile, out: path.join(out, 'rules') });
  const unwind = hasNightly();
  const rustc = tryCapture('rustc', [...wasmCargo().toolchain, '--version']);
  const recipe = JSON.stringify({ rustc, unwind, features, rules, profile, keepNames });
  if (isFresh(out, 'index.js', recipe, [...WORKER_INPUTS, rules])) return;
  rmSync(stampOf(out), { force: true });
  const panics = unwind ? '' : 'a panic fails all requests in flight';
  const remarks = [features.join(', '), profile, panics].filter(Boolean).join('; ');
  await workerBuild(out, {
    profile: settings.cargo,
    features,
    label: `build the Worker → ${out}/ (${remarks})`,
    env: { HEDGEROW_BUNDLE: bundle },
  });
  if (settings.optimize && !keepNames) {
    const wasm = fromRoot(out, 'index_bg.wasm');
    const bytes = bytesByCrate(readFileSync(wasm));
    await optimize(wasm);
    const gzip = gzipSize(readFileSync(wasm));
    writeFileSync(fromRoot(out, 'size.json'), JSON.stringify({ rustc, unwind, gzip, bytes }));
  }
  writeFileSync(stampOf(out), recipe);
}

/**
 * Builds a Worker for tests, with fault injection: a request can make it panic. Its rules have
 * `fail_closed`, so it rejects requests that it cannot score.
 */
export const buildFaultInjection = () =>
  buildWorker({
    out: 'build-faults',
    features: ['fault-injection'],
    rules: fromRoot('tests/fixtures/strict'),
    // The Worker uses the same profile, so its compiled dependencies are reused. `keepNames` skips
    // wasm-opt, which takes too long for a test build.
    profile: 'release',
    keepNames: true,
  });

/** Runs worker-build in the directory of a Worker's crate. */
async function workerBuild(
  out,
  { cwd = fromRoot('src/worker'), profile = 'wasm', features = [], label, env = {} },
) {
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

/** Builds the Rust baseline of the benchmarks, a minimal Worker: `build/baseline-rust/index.js`. */
export async function buildBaseline() {
  const out = 'build/baseline-rust';
  const recipe = 'baseline-rust';
  const crate = 'benches/baseline-rust';
  if (isFresh(out, 'index.js', recipe, ['Cargo.toml', 'Cargo.lock', crate])) return;
  const label = `build the smallest Worker → ${out}/`;
  await workerBuild(out, { label, cwd: fromRoot(crate) });
  await optimize(fromRoot(out, 'index_bg.wasm'));
  writeFileSync(stampOf(out), recipe);
}

/**
 * Builds the core for browsers and for Node: `<out>/hedgerow_wasm.js` and
 * `<out>/hedgerow_wasm_bg.wasm`.
 */
export async function buildWasm({
  out = 'build/wasm',
  features = [],
  profile = defaultProfile(),
} = {}) {
  const settings = profileSettings(profile);
  const { toolchain, flags, env } = wasmCargo();
  const recipe = JSON.stringify({ toolchain, features, profile });
  if (isFresh(out, 'hedgerow_wasm.js', recipe, WASM_INPUTS)) return;
  rmSync(stampOf(out), { force: true });
  const options = ['--locked', '--quiet', '--profile', settings.cargo, '--target', WASM_TARGET];
  const selected = features.flatMap((feature) => ['--features', feature]);
  const args = ['build', ...options, ...flags, '-p', 'hedgerow-wasm', '--lib', ...selected];
  const label = `build the Wasm module → ${out}/ (${profile})`;
  await run('cargo', [...toolchain, ...args], { label, quiet: true, env });
  const built = path.join(targetDirectory(), WASM_TARGET, settings.cargo, 'hedgerow_wasm.wasm');
  const bindgen = [built, '--target', 'web', '--out-dir', fromRoot(out)];
  await run(fromRoot('.tools/bin/wasm-bindgen'), bindgen, { label: 'wasm-bindgen', quiet: true });
  if (settings.optimize) await optimize(fromRoot(out, 'hedgerow_wasm_bg.wasm'));
  writeFileSync(stampOf(out), recipe);
}

/** Compiles rules with the Wasm module, and returns the path of the bundle to embed. */
async function compileRules({ rules, profile, out }) {
  await buildWasm({ profile });
  const recipe = JSON.stringify({ rules, profile });
  if (!isFresh(out, 'embedded.json.br', recipe, [...RULE_COMPILER, rules])) {
    rmSync(stampOf(out), { force: true });
    // Node 20, which a user may have, rejects the types of wasm-bindgen's exception handling.
    const node = fromRoot('node_modules/.bin/node');
    const args = [fromRoot('scripts/compile-rules.mjs'), rules, fromRoot(out)];
    await run(node, args, { label: `compile the rules → ${out}/`, quiet: true });
    writeFileSync(stampOf(out), recipe);
  }
  return fromRoot(out, 'embedded.json.br');
}

/**
 * Builds the console, which the Worker serves: `build/console/_hedgerow/`. It includes the rules of
 * the Worker and the Wasm module.
 */
export async function buildConsole({ rules = shippedRules(), profile = defaultProfile() } = {}) {
  await compileRules({ rules, profile, out: 'build/rules' });
  const recipe = JSON.stringify({ rules, profile });
  const inputs = ['www', rules, 'package-lock.json', ...RULE_COMPILER];
  if (isFresh('build/console', '_hedgerow/index.html', recipe, inputs)) return;
  rmSync(stampOf('build/console'), { force: true });
  await run(
    fromRoot('node_modules/.bin/vite'),
    ['build', 'www', '--config', fromRoot('www/vite.config.ts'), '--logLevel', 'warn'],
    { label: 'build the console → build/console/', quiet: true },
  );
  writeFileSync(stampOf('build/console'), recipe);
}

/**
 * Optimises a Wasm module in place and removes the names of its functions. Skips inlining, because
 * LLVM has already inlined across crates. Inlining again would take three quarters of the time of
 * wasm-opt, and would make the module larger.
 */
async function optimize(wasm) {
  const enabled = WASM_FEATURES.map((feature) => `--enable-${feature}`);
  const passes = ['-O2', '--skip-pass=inlining-optimizing', '--strip-debug'];
  const args = [...passes, ...enabled, wasm, '-o', wasm];
  await run(fromRoot('node_modules/.bin/wasm-opt'), args, { label: 'wasm-opt', quiet: true });
}

/** Returns the target directory of cargo. */
export const targetDirectory = () => process.env.CARGO_TARGET_DIR ?? fromRoot('target');

/** Path of the optimised binary of the command line. */
export const COMMAND_LINE = path.join(targetDirectory(), 'release/hedgerow');

/** Builds the command line with optimisation, unless the binary is newer than its sources. */
export async function buildCommandLine() {
  const built = statSync(COMMAND_LINE, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (CLI_INPUTS.every((input) => newest(fromRoot(input)) < built)) return;
  const args = ['build', '--locked', '--quiet', '--bin', 'hedgerow', '--release'];
  await run('cargo', args, { label: 'build the command line', quiet: true });
}

const stampOf = (out) => fromRoot(out, '.stamp');

/** Returns whether the last build had this recipe, its `product` exists, and no input is newer. */
function isFresh(out, product, recipe, inputs) {
  const stamp = stampOf(out);
  if (!existsSync(stamp) || !existsSync(fromRoot(out, product))) return false;
  if (readFileSync(stamp, 'utf8') !== recipe) return false;
  const built = statSync(stamp).mtimeMs;
  return inputs.every((input) => newest(path.isAbsolute(input) ? input : fromRoot(input)) < built);
}

/** Returns the latest modification time of a file, or of all files in a folder, in ms. */
function newest(file) {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (!stat) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  const times = readdirSync(file).map((name) => newest(path.join(file, name)));
  return Math.max(stat.mtimeMs, ...times);
}
