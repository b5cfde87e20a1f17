// npm test: everything that has to hold, in the order in which it is cheapest to fail.
//   node scripts/test.mjs [--only format,clippy,rust,build,edge,www,fuzz] [--keep-going]
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { instructions } from '../benches/instructions.mjs';
import { buildCommandLine, buildConsole, buildPlayground, buildWorker, PLANTED_PANIC, wasmFlags } from './lib/build.mjs';
import { at, endChildrenOnSignal, Failure, main, run, seconds } from './lib/proc.mjs';
import { chromium } from './lib/chromium.mjs';
import { nightly, setup } from './lib/setup.mjs';
import { consoleSize, size } from './size.mjs';

const WASM = ['--target', 'wasm32-unknown-unknown'];
const DENY = ['--', '-D', 'warnings'];
const FUZZ_SECONDS = 15;

/** Name, groups (for --only) and body; a body returns a string to say why it was skipped. */
const STEPS = [
  ['tools', 'always', () => setup({ tests: true })],
  ['cargo fmt', 'format', () => run('cargo', ['fmt', '--all', '--check'], { label: 'cargo fmt --check' })],
  ['clippy', 'clippy', () => run('cargo', ['clippy', '--locked', '--workspace', '--all-targets', ...DENY], { label: 'cargo clippy (workspace)' })],
  ['clippy for Wasm', 'clippy', () => run('cargo', ['clippy', '--locked', ...WASM, '-p', 'hedgerow-worker', '-p', 'hedgerow-playground', '--features', 'hedgerow-playground/peers', ...DENY], { label: 'cargo clippy (Worker and playground, Wasm)', env: wasmFlags() })],
  ['cargo test', 'rust', () => run('cargo', ['test', '--locked', '--workspace'], { label: 'cargo test (workspace)' })],
  ['build', 'build edge', () => buildWorker()],
  ['size', 'build', () => size()],
  // `npm start` builds it, too, and has to be quick in its test.
  ['build the command line', 'build edge', () => buildCommandLine()],
  ['instructions', 'build', () => instructions()],
  ['build with a planted panic', 'build edge', plantedPanic],
  ['build the playground', 'build edge www', () => buildPlayground()],
  ['build the console', 'build edge www', () => buildConsole()],
  ['console size', 'build', () => consoleSize()],
  ['types', 'edge www', types],
  ['edge', 'edge', () => vitest('tests/edge', 'vitest on the built Worker')],
  ['www', 'www', inChromium],
  ['fuzz', 'fuzz', fuzz],
];

const vitest = (directory, label) => run(at('node_modules/.bin/node'), [at('node_modules/vitest/vitest.mjs'), 'run', directory], { label });

async function types() {
  for (const project of ['.', 'www', 'tests/www']) await run(at('node_modules/.bin/tsc'), ['-p', project], { label: `tsc -p ${project}` });
}

async function inChromium() {
  await buildWorker();
  await buildCommandLine();
  if (!chromium()) return 'no Chromium: install one (`apt-get install chromium`), or name it in CHROMIUM';
  return vitest('tests/www', 'vitest in Chromium');
}

function plantedPanic() {
  const { unwind, remedy } = nightly();
  if (!unwind) return `no nightly with rust-src and the Wasm target (${remedy})`;
  return buildWorker(PLANTED_PANIC);
}

async function fuzz() {
  const { present, remedy } = nightly();
  if (!present) return `no nightly toolchain (${remedy})`;
  const targets = readdirSync(at('fuzz/fuzz_targets')).filter((file) => file.endsWith('.rs')).map((file) => path.basename(file, '.rs'));
  for (const target of targets) {
    // What is found goes into the first directory, and git ignores it; the second shows what is worth changing.
    const corpora = [`fuzz/corpus/${target}`, `fuzz/seeds/${target}`].map((dir) => at(dir)).filter((dir, index) => index === 0 || existsSync(dir));
    mkdirSync(corpora[0], { recursive: true });
    await run('cargo', ['+nightly', 'fuzz', 'run', target, ...corpora, '--', `-max_total_time=${FUZZ_SECONDS}`, '-max_len=65536'], { label: `fuzz ${target} for ${FUZZ_SECONDS} s`, quiet: true });
  }
  return targets.length ? undefined : 'no targets in fuzz/fuzz_targets';
}

async function all() {
  const args = process.argv.slice(2);
  const only = args.includes('--only') ? (args[args.indexOf('--only') + 1] ?? '').split(',') : null;
  const groups = new Set(STEPS.flatMap(([, names]) => names.split(' ')));
  const unknown = only?.find((group) => !groups.has(group));
  if (unknown !== undefined) throw new Failure(`--only knows no '${unknown}': ${[...groups].filter((name) => name !== 'always').join(', ')}`);
  only?.push('always');
  const rows = [];
  for (const [name, names, body] of STEPS) {
    if (only && !names.split(' ').some((group) => only.includes(group))) continue;
    const began = Date.now();
    try {
      const skipped = await body();
      rows.push({ name, state: skipped ? 'skipped' : 'passed', ms: Date.now() - began, note: skipped ?? '' });
    } catch (error) {
      rows.push({ name, state: 'FAILED', ms: Date.now() - began, note: error instanceof Failure ? error.message.split('\n')[0] : error.stack });
      process.exitCode = 1;
      if (!args.includes('--keep-going')) break;
    }
  }
  report(rows);
}

function report(rows) {
  const width = Math.max(...rows.map(({ name }) => name.length));
  console.log('');
  for (const { name, state, ms, note } of rows) console.log(`  ${name.padEnd(width)}  ${state.padEnd(7)}  ${seconds(ms).padStart(11)}  ${note}`.trimEnd());
  const count = (state) => rows.filter((row) => row.state === state).length;
  console.log(`  total ${seconds(rows.reduce((sum, { ms }) => sum + ms, 0))}\n`);
  const skipped = count('skipped') ? `, ${count('skipped')} skipped` : '';
  console.log(`npm test: ${count('passed')} steps passed, ${count('FAILED')} failed${skipped}`);
}

endChildrenOnSignal();
await main(all);
