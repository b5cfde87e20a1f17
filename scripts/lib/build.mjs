// Builds the Worker and the playground module. Cargo decides what has to be compiled; the stamp only spares a
// second worker-build (wasm-bindgen, wasm-opt, esbuild) when no input is newer than the last output.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { at, capture, Failure, run } from './proc.mjs';
import { nightly } from './setup.mjs';
import { consistsOf, gzipped } from './wasm.mjs';

const SIMD = '-C target-feature=+simd128';

/** The user's own RUSTFLAGS and SIMD: for everything that is compiled to Wasm. */
export const wasmFlags = () => ({ RUSTFLAGS: [process.env.RUSTFLAGS, SIMD].filter(Boolean).join(' ') });
/** What workerd and browsers know, and binaryen asks to be told. */
const PROPOSALS = ['simd', 'bulk-memory', 'mutable-globals', 'sign-ext', 'nontrapping-float-to-int', 'multivalue', 'reference-types', 'exception-handling'];
/** What the Worker's Wasm takes, as it was when it was built. */
export const WORKER_SIZE = 'build/size.json';
const INPUTS = ['Cargo.toml', 'Cargo.lock', 'src', 'scripts/lib/build.mjs'];

/** For tests: panics where a request asks for it, and its policy is to refuse what cannot be scored. */
export const PLANTED_PANIC = { out: 'build-panic', features: ['planted-panic'], rules: at('tests/fixtures/strict') };

/** The Worker as wrangler deploys it: `<out>/index.js` and `<out>/index_bg.wasm`. */
export async function buildWorker({ out = 'build', features = [], rules = process.env.HEDGEROW_RULES ?? at('rules') } = {}) {
  const { unwind } = nightly();
  const rustc = capture('rustc', [...(unwind ? ['+nightly'] : []), '--version']);
  const recipe = JSON.stringify({ rustc, unwind, features, rules });
  if (fresh(out, 'index.js', recipe, [rules])) return;
  rmSync(stampOf(out), { force: true });
  await workerBuild(out, {
    unwind,
    features,
    label: `build the Worker${features.length ? ` with ${features}` : ''} → ${out}/${unwind ? '' : ' (stable: no --panic-unwind)'}`,
    env: { HEDGEROW_RULES: rules },
  });
  // What only tests load need not be small.
  if (!features.length) {
    const wasm = at(out, 'index_bg.wasm');
    const bytes = consistsOf(readFileSync(wasm));
    await shrink(wasm);
    writeFileSync(at(out, 'size.json'), JSON.stringify({ rustc, unwind, gzip: gzipped(readFileSync(wasm)), bytes }));
  }
  writeFileSync(stampOf(out), recipe);
}

/** Runs worker-build in the folder of a Worker's crate; wasm-opt comes later. */
async function workerBuild(out, { cwd = at('src/worker'), unwind = false, features = [], label, env = {} }) {
  const flags = ['--profile', 'wasm', '--no-opt', '--out-dir', path.relative(cwd, at(out)), ...(unwind ? ['--panic-unwind'] : [])];
  const cargo = features.length ? ['.', '--features', features.join(',')] : [];
  const tools = { WASM_BINDGEN_BIN: at('.tools/bin/wasm-bindgen'), ESBUILD_BIN: at('node_modules/.bin/esbuild') };
  await run(at('.tools/bin/worker-build'), [...flags, ...cargo], { label, cwd, quiet: true, env: { ...tools, ...env, ...wasmFlags() } });
}

/** The bare Worker in Rust, for `npm run bench`: `build/bare/index.js`. */
export async function buildBare() {
  const recipe = 'bare';
  if (fresh('build/bare', 'index.js', recipe, [at('benches/bare')])) return;
  await workerBuild('build/bare', { label: 'build the bare Worker → build/bare/', cwd: at('benches/bare') });
  await shrink(at('build/bare/index_bg.wasm'));
  writeFileSync(stampOf('build/bare'), recipe);
}

/** The core for the browser, and for Node in `npm run bench`: `build/playground/hedgerow_playground{.js,_bg.wasm}`. */
export async function buildPlayground({ out = 'build/playground', features = [] } = {}) {
  const recipe = ['playground', ...features].join(' ');
  if (fresh(out, 'hedgerow_playground.js', recipe)) return;
  rmSync(stampOf(out), { force: true });
  await run('cargo', ['build', '--locked', '--quiet', '--profile', 'wasm', '--target', 'wasm32-unknown-unknown', '-p', 'hedgerow-playground', ...features.flatMap((feature) => ['--features', feature])], {
    label: `build the playground module → ${out}/`,
    quiet: true,
    env: wasmFlags(),
  });
  const wasm = at(out, 'hedgerow_playground_bg.wasm');
  await run(at('.tools/bin/wasm-bindgen'), [at('target/wasm32-unknown-unknown/wasm/hedgerow_playground.wasm'), '--target', 'web', '--out-dir', at(out)], { label: 'wasm-bindgen', quiet: true });
  await shrink(wasm);
  writeFileSync(stampOf(out), recipe);
}

/** The console as the Worker serves it: `build/console/_hedgerow/`. Its rules are those that the Worker is built with, and its core is the playground's. */
export async function buildConsole({ rules = process.env.HEDGEROW_RULES ?? at('rules') } = {}) {
  await buildPlayground();
  const recipe = JSON.stringify({ rules });
  if (fresh('build/console', '_hedgerow/index.html', recipe, [at('www'), rules, at('package-lock.json')])) return;
  rmSync(stampOf('build/console'), { force: true });
  await shippedRules(rules);
  await run(at('node_modules/.bin/vite'), ['build', 'www', '--config', at('www/vite.config.ts'), '--logLevel', 'warn'], { label: 'build the console → build/console/', quiet: true });
  writeFileSync(stampOf('build/console'), recipe);
}

/** The files of a directory of rules, and the bundle that they make. */
async function shippedRules(rules) {
  const files = readdirSync(rules, { recursive: true }).filter((name) => /\.ya?ml$|^policy\.toml$|^lists\/.*\.toml$/.test(name));
  const sources = Object.fromEntries(files.sort().map((name) => [name, readFileSync(path.join(rules, name), 'utf8')]));
  const core = await import(at('build/playground/hedgerow_playground.js'));
  core.initSync({ module: readFileSync(at('build/playground/hedgerow_playground_bg.wasm')) });
  const { bundle, findings } = JSON.parse(core.check(JSON.stringify(sources)));
  if (!bundle) throw new Failure(`${rules} has ${findings.length} findings.\n  \`npm run hedgerow -- check ${rules}\` shows them.`);
  mkdirSync(at('build/rules'), { recursive: true });
  writeFileSync(at('build/rules/sources.json'), JSON.stringify(sources));
  writeFileSync(at('build/rules/bundle.json'), bundle);
}

/** Optimises a module and drops the names of its functions. */
async function shrink(wasm) {
  const enabled = PROPOSALS.map((proposal) => `--enable-${proposal}`);
  await run(at('node_modules/.bin/wasm-opt'), ['-O2', '--strip-debug', ...enabled, wasm, '-o', wasm], { label: 'wasm-opt', quiet: true });
}

/** `hedgerow` at `target/debug`: `cargo test` leaves it there as well, with its own choice of features, which is as good. */
export async function buildCommandLine() {
  const built = statSync(at('target/debug/hedgerow'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (INPUTS.every((input) => newest(at(input)) < built)) return;
  await run('cargo', ['build', '--locked', '--quiet', '--bin', 'hedgerow'], { label: 'build the command line', quiet: true });
}

const stampOf = (out) => at(out, '.stamp');

function fresh(out, product, recipe, inputs = []) {
  const stamp = stampOf(out);
  if (!existsSync(stamp) || !existsSync(at(out, product)) || readFileSync(stamp, 'utf8') !== recipe) return false;
  const built = statSync(stamp).mtimeMs;
  return [...INPUTS.map((input) => at(input)), ...inputs].every((input) => newest(input) < built);
}

function newest(file) {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (!stat) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  return readdirSync(file).reduce((max, name) => Math.max(max, newest(path.join(file, name))), stat.mtimeMs);
}
