// npm test: everything that has to hold.
//   node scripts/test.mjs [--only format,clippy,rust,build,edge,www,fuzz] [--strict] [--times FILE]
// Two lanes run side by side: `compute` keeps the processor busy, `wait` runs specs, which mostly wait. A step starts
// after the steps that it names. `--strict` (continuous integration) turns every skip into a failure. `--times` writes
// the time of each step as a Markdown table, for docs/test-times.md.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { instructions } from '../benches/instructions.mjs';
import {
  buildCommandLine, buildConsole, buildFaultInjection, buildWasm, buildWorker,
} from './lib/build.mjs';
import { chromium } from './lib/chromium.mjs';
import { endChildrenOnSignal, Failure, fromRoot, main, run, seconds } from './lib/proc.mjs';
import { setup } from './lib/setup.mjs';
import { hasNightly, NIGHTLY, nightlyInstall, WASM_TARGET, wasmCargo } from './lib/toolchain.mjs';
import { consoleSize, size } from './size.mjs';

const STRICT = process.argv.includes('--strict');
const DENY = ['--', '-D', 'warnings'];
const FUZZ_SECONDS = 15;
const RESULTS = fromRoot('build/test-results');

/** A step: its lane, the groups that `--only` selects it by, the steps before it, and a body that returns why it was skipped. */
const STEPS = {
  tools: { groups: 'always', body: () => setup({ tests: true, strict: STRICT }) },
  format: { groups: 'format', body: () => cargo('fmt', ['--all', '--check']) },
  Worker: { groups: 'build edge www', body: () => buildWorker() },
  'Worker with faults': { groups: 'build edge', body: faults },
  'Wasm module': { groups: 'build edge www', body: () => buildWasm() },
  console: { groups: 'build edge www', body: () => buildConsole() },
  'cargo test': { groups: 'rust', body: () => cargo('test', ['--workspace', '--exclude', 'hedgerow-baseline-rust']) },
  'command line': { groups: 'build edge www', body: () => buildCommandLine() },
  types: { groups: 'edge www', body: types },
  edge: { lane: 'wait', groups: 'edge', after: ['console', 'command line', 'types', 'instructions'], body: () => vitest('edge') },
  www: { lane: 'wait', groups: 'www', after: ['console', 'command line', 'types', 'instructions'], body: consoleTests },
  clippy: { groups: 'clippy', body: () => cargo('clippy', ['--workspace', '--all-targets', ...DENY]) },
  'clippy for Wasm': { groups: 'clippy', body: clippyForWasm },
  size: { groups: 'build', after: ['Worker', 'console'], body: sizes },
  fuzz: { groups: 'fuzz', body: fuzz },
  instructions: { groups: 'build', body: () => instructions() },
  // These measure gaps between chunks or share fixed ports: nothing else may run.
  'edge, timing': { groups: 'edge', after: ['edge', 'www'], body: () => vitest('timing') },
};

const cargo = (command, args, options = {}) => {
  const locked = command === 'fmt' ? [] : ['--locked', '--quiet'];
  const env = { ...options.env, ...(STRICT ? { HEDGEROW_STRICT: '1' } : {}) };
  const flags = [...(options.toolchain ?? []), command, ...locked, ...args];
  return run('cargo', flags, { label: options.label ?? `cargo ${command}`, quiet: true, summary: /^test result: .*/gm, env });
};

function clippyForWasm() {
  const { toolchain, env } = { ...wasmCargo(), toolchain: [] };
  const flags = { RUSTFLAGS: env.RUSTFLAGS.replace(' -Cpanic=unwind', '') };
  const args = ['--target', WASM_TARGET, '-p', 'hedgerow-worker', '-p', 'hedgerow-wasm', '--features', 'hedgerow-wasm/peers', ...DENY];
  return cargo('clippy', args, { toolchain, env: flags, label: 'cargo clippy for Wasm' });
}

async function types() {
  const tsc = fromRoot('node_modules/.bin/tsc');
  for (const project of ['.', 'www', 'tests/www']) await run(tsc, ['-p', fromRoot(project)], { label: `tsc -p ${project}`, quiet: true });
}

function faults() {
  if (!hasNightly()) return `${NIGHTLY} is missing (${nightlyInstall.remedy})`;
  return buildFaultInjection();
}

async function sizes() {
  const skipped = await size();
  await consoleSize();
  return skipped;
}

/** Runs a vitest project. Returns how many tests were skipped, if any. */
async function vitest(project) {
  mkdirSync(RESULTS, { recursive: true });
  const output = path.join(RESULTS, `${project}.json`);
  const args = ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${output}`];
  await run(fromRoot('node_modules/.bin/node'), [fromRoot('node_modules/vitest/vitest.mjs'), ...args], {
    label: `vitest, ${project}`,
    quiet: true,
    summary: /^ *(Test Files|Tests|skipped:) .*/gm,
  });
  const { numPendingTests } = JSON.parse(readFileSync(output, 'utf8'));
  return numPendingTests ? `${numPendingTests} tests were skipped: the reasons are printed above` : undefined;
}

async function consoleTests() {
  if (!chromium()) return 'Chromium is missing: install it (`apt-get install chromium`), or set CHROMIUM to its path';
  return vitest('www');
}

async function fuzz() {
  if (!hasNightly()) return `${NIGHTLY} is missing (${nightlyInstall.remedy})`;
  const files = readdirSync(fromRoot('fuzz/fuzz_targets')).filter((file) => file.endsWith('.rs'));
  const targets = files.map((file) => path.basename(file, '.rs'));
  if (!targets.length) throw new Failure('fuzz/fuzz_targets has no targets');
  await run('cargo', [`+${NIGHTLY}`, 'fuzz', 'build'], { label: 'cargo fuzz build', quiet: true });
  // Two at a time: each target has one thread.
  for (let index = 0; index < targets.length; index += 2) await Promise.all(targets.slice(index, index + 2).map(fuzzTarget));
}

async function fuzzTarget(target) {
  // New inputs go into the first directory, which git ignores; the second has the seeds.
  const corpora = [`fuzz/corpus/${target}`, `fuzz/seeds/${target}`].map((directory) => fromRoot(directory));
  mkdirSync(corpora[0], { recursive: true });
  const flags = [`-max_total_time=${FUZZ_SECONDS}`, '-max_len=65536'];
  await run('cargo', [`+${NIGHTLY}`, 'fuzz', 'run', target, ...corpora.filter((directory) => existsSync(directory)), '--', ...flags], {
    label: `fuzz ${target} for ${FUZZ_SECONDS} s`,
    quiet: true,
  });
}

/** Runs the selected steps in two lanes; the first failure stops both. */
async function runSteps(names) {
  const rows = [];
  const finished = new Map();
  const done = Object.fromEntries(names.map((name) => [name, new Promise((resolve) => finished.set(name, resolve))]));
  let failed = false;
  const lane = async (laneName) => {
    for (const name of names.filter((step) => (STEPS[step].lane ?? 'compute') === laneName)) {
      await Promise.all((STEPS[name].after ?? []).map((before) => done[before]));
      if (!failed) failed = !(await runStep(name, rows));
      finished.get(name)();
    }
  };
  await Promise.all([lane('compute'), lane('wait')]);
  return rows;
}

/** Runs one step and adds its row to the report. Returns whether it passed. */
async function runStep(name, rows) {
  const began = Date.now();
  try {
    const skipped = await STEPS[name].body();
    if (skipped && STRICT) throw new Failure(`skipped, which --strict does not allow: ${skipped}`);
    rows.push({ name, state: skipped ? 'skipped' : 'passed', ms: Date.now() - began, note: skipped ?? '' });
    return true;
  } catch (error) {
    const note = error instanceof Failure ? error.message : error.stack;
    rows.push({ name, state: 'FAILED', ms: Date.now() - began, note: note.split('\n')[0] });
    console.error(note);
    process.exitCode = 1;
    return false;
  }
}

function report(rows, began) {
  const width = Math.max(...rows.map(({ name }) => name.length));
  console.log('');
  for (const { name, state, ms, note } of rows) {
    console.log(`  ${name.padEnd(width)}  ${state.padEnd(7)}  ${seconds(ms).padStart(11)}  ${note}`.trimEnd());
  }
  const count = (state) => rows.filter((row) => row.state === state).length;
  console.log(`  ${seconds(Date.now() - began)} in all, two lanes side by side\n`);
  const skipped = count('skipped') ? `, ${count('skipped')} skipped` : '';
  console.log(`npm test: ${count('passed')} steps passed, ${count('FAILED')} failed${skipped}`);
}

/** The times as Markdown: one row a step, in the order in which the steps ended. */
function writeTimes(file, rows, began) {
  const lines = rows.map(({ name, state, ms }) => `| ${name} | ${STEPS[name].lane ?? 'compute'} | ${seconds(ms)} | ${state} |`);
  const total = `| in all | | ${seconds(Date.now() - began)} | |`;
  writeFileSync(file, ['| step | lane | time | state |', '|---|---|---|---|', ...lines, total, ''].join('\n'));
}

function selectedSteps() {
  const args = process.argv.slice(2);
  if (!args.includes('--only')) return Object.keys(STEPS);
  const only = (args[args.indexOf('--only') + 1] ?? '').split(',');
  const groups = new Set(Object.values(STEPS).flatMap((step) => step.groups.split(' ')));
  const unknown = only.find((group) => !groups.has(group));
  groups.delete('always');
  if (unknown !== undefined) throw new Failure(`--only does not know '${unknown}': expected ${[...groups].join(', ')}`);
  return Object.keys(STEPS).filter((name) => ['always', ...only].some((group) => STEPS[name].groups.split(' ').includes(group)));
}

endChildrenOnSignal();
await main(async () => {
  const began = Date.now();
  const rows = await runSteps(selectedSteps());
  report(rows, began);
  const times = process.argv.indexOf('--times');
  if (times > 0) writeTimes(process.argv[times + 1], rows, began);
});
