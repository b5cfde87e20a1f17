// npm test: runs all checks and tests.
//   node scripts/test.mjs [--only GROUPS] [--strict] [--times FILE]
//   --only format,checks,clippy,rust,build,edge,www,fuzz   runs only the steps of these groups
//   --strict       a skipped step is a failure (continuous integration)
//   --times FILE   writes the time of each step as a Markdown table, for docs/test-times.md
//
// Lanes run in parallel, and the steps of a lane run one after the other. A step starts after the
// step `tools` and after the steps in its `after`. The lanes `wasm` and `native` use different
// target directories of cargo, so neither waits for the other's lock. Running both saves time,
// because linking with LTO uses only one processor core.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { instructions } from '../benches/instructions.mjs';
import {
  buildCommandLine,
  buildConsole,
  buildFaultInjection,
  buildWasm,
  buildWorker,
  COMMAND_LINE,
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

/** Steps that must end before the specs run. */
const BEFORE_SPECS = ['Worker with faults', 'console', 'command line', 'types'];
/** Number of edge specs that run in parallel. They wait more than they compute. */
const EDGE_WORKERS = 2;

/**
 * Steps by name: lane, groups for `--only`, steps that must end first, and a body. If the body
 * skips anything, it returns the reason.
 */
const STEPS = {
  tools: {
    lane: 'tools',
    groups: 'always',
    body: () => setup({ tests: true, strict: STRICT }),
  },
  format: { lane: 'native', groups: 'format', body: () => cargo('fmt', ['--all', '--check']) },
  structure: { lane: 'native', groups: 'checks', body: structure },
  prose: { lane: 'native', groups: 'checks', body: prose },
  'command line': {
    lane: 'native',
    groups: 'rust build edge www',
    body: () => buildCommandLine(),
  },
  'cargo test': { lane: 'native', groups: 'rust', body: cargoTest },
  clippy: { lane: 'native', groups: 'clippy', body: clippy },
  'clippy for Wasm': { lane: 'native', groups: 'clippy', body: clippyForWasm },
  fuzz: { lane: 'native', groups: 'fuzz', body: fuzz },
  instructions: { lane: 'native', groups: 'build', body: () => instructions() },
  'Wasm module': { lane: 'wasm', groups: 'build edge www', body: () => buildWasm() },
  Worker: { lane: 'wasm', groups: 'build edge www', body: () => buildWorker() },
  'Worker with faults': { lane: 'wasm', groups: 'build edge', body: faults },
  console: { lane: 'wasm', groups: 'build edge www', body: () => buildConsole() },
  types: { lane: 'wasm', groups: 'edge www', body: types }, // reads the module's .d.ts
  size: { lane: 'wasm', groups: 'build', body: sizes },
  edge: { lane: 'edge', groups: 'edge', after: BEFORE_SPECS, body: edgeTests },
  www: { lane: 'www', groups: 'www', after: BEFORE_SPECS, body: consoleTests },
  // No other spec may run at the same time, because these specs depend on the pace of clients or
  // use fixed ports.
  'edge, timing': {
    lane: 'edge',
    groups: 'edge',
    after: ['www', 'instructions'],
    body: () => vitest('timing'),
  },
};

const cargo = (command, args, options = {}) => {
  const locked = command === 'fmt' ? [] : ['--locked', '--quiet'];
  const env = { ...options.env, ...(STRICT ? { HEDGEROW_STRICT: '1' } : {}) };
  const flags = [command, ...locked, ...args];
  const label = options.label ?? `cargo ${command}`;
  return run('cargo', flags, { label, quiet: true, summary: /^test result: .*/gm, env });
};

function cargoTest() {
  // Tests simulate campaigns with the optimised command line, because the test build would take
  // minutes.
  const env = { HEDGEROW_RELEASE_CLI: COMMAND_LINE };
  return cargo('test', ['--workspace', '--exclude', 'hedgerow-baseline-rust'], { env });
}

function clippy() {
  return cargo('clippy', ['--workspace', '--all-targets', ...DENY]);
}

async function structure() {
  const script = fromRoot('scripts/check-structure.mjs');
  await run(process.execPath, [script], { label: 'import circles', quiet: true });
  const directory = fromRoot('tests/scripts');
  const files = readdirSync(directory).map((file) => path.join(directory, file));
  const label = 'node --test tests/scripts';
  await run(fromRoot('node_modules/.bin/node'), ['--test', ...files], {
    label,
    quiet: true,
    env: STRICT ? { HEDGEROW_STRICT: '1' } : {},
    summary: /^.* was not run$/gm,
  });
}

function prose() {
  const script = fromRoot('scripts/check-prose.mjs');
  return run(process.execPath, [script], { label: 'prose', quiet: true });
}

function clippyForWasm() {
  // Clippy runs with the stable toolchain, which cannot unwind in Wasm.
  const env = {
    RUSTFLAGS: wasmCargo().env.RUSTFLAGS.replace(' -Cpanic=unwind', ''),
    HEDGEROW_BUNDLE: fromRoot('src/worker/no_rules.json'),
  };
  const crates = ['-p', 'hedgerow-worker', '-p', 'hedgerow-wasm'];
  const args = ['--target', WASM_TARGET, ...crates, '--features', 'hedgerow-wasm/peers', ...DENY];
  return cargo('clippy', args, { env, label: 'cargo clippy for Wasm' });
}

async function types() {
  const tsc = fromRoot('node_modules/.bin/tsc');
  for (const project of ['.', 'www', 'tests/www']) {
    await run(tsc, ['-p', fromRoot(project)], { label: `tsc -p ${project}`, quiet: true });
  }
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

/** Runs a vitest project. Returns the number of skipped tests in a message, if any. */
async function vitest(project, options = []) {
  mkdirSync(RESULTS, { recursive: true });
  const output = path.join(RESULTS, `${project}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${output}`];
  const script = fromRoot('node_modules/vitest/vitest.mjs');
  const args = [script, 'run', '--project', project, ...options, ...reporters];
  await run(fromRoot('node_modules/.bin/node'), args, {
    label: `vitest, ${project}`,
    quiet: true,
    summary: /^ *(Test Files|Tests|skipped:) .*/gm,
  });
  const { numPendingTests } = JSON.parse(readFileSync(output, 'utf8'));
  if (numPendingTests) return `${numPendingTests} tests were skipped, for reasons printed above`;
}

function edgeTests() {
  return vitest('edge', ['--fileParallelism', `--maxWorkers=${EDGE_WORKERS}`, '--minWorkers=1']);
}

async function consoleTests() {
  if (chromium()) return vitest('www');
  const remedy = 'install it (`apt-get install chromium`), or set CHROMIUM to its path';
  return `Chromium is missing: ${remedy}`;
}

async function fuzz() {
  if (!hasNightly()) return `${NIGHTLY} is missing (${nightlyInstall.remedy})`;
  const files = readdirSync(fromRoot('fuzz/fuzz_targets')).filter((file) => file.endsWith('.rs'));
  const targets = files.map((file) => path.basename(file, '.rs'));
  if (!targets.length) throw new Failure('fuzz/fuzz_targets has no targets: expected files *.rs');
  await run('cargo', [`+${NIGHTLY}`, 'fuzz', 'build'], { label: 'cargo fuzz build', quiet: true });
  // Runs two targets in parallel, because each target uses only one thread.
  for (let index = 0; index < targets.length; index += 2) {
    await Promise.all(targets.slice(index, index + 2).map(fuzzTarget));
  }
}

async function fuzzTarget(target) {
  // The fuzzer writes new inputs to the first directory, which git ignores. The second directory
  // contains the seeds.
  const corpus = fromRoot('fuzz/corpus', target);
  mkdirSync(corpus, { recursive: true });
  const directories = [corpus, fromRoot('fuzz/seeds', target)];
  const inputs = directories.filter((directory) => existsSync(directory));
  // Inputs have at most 64 KiB. An input fails if it takes 20 seconds, if one allocation exceeds 64
  // MB, or if the process with its sanitizer exceeds 1 GB.
  const limits = ['-max_len=65536', '-timeout=20', '-malloc_limit_mb=64', '-rss_limit_mb=1024'];
  const flags = ['--', `-max_total_time=${FUZZ_SECONDS}`, ...limits];
  const label = `fuzz ${target} for ${FUZZ_SECONDS} s`;
  const args = [`+${NIGHTLY}`, 'fuzz', 'run', target, ...inputs, ...flags];
  await run('cargo', args, { label, quiet: true });
}

/** Runs the steps in lanes. After a failure, no step starts. Returns a row for each step. */
async function runSteps(names) {
  const rows = [];
  const finished = new Map();
  const end = (name) => new Promise((resolve) => finished.set(name, resolve));
  const done = Object.fromEntries(names.map((name) => [name, end(name)]));
  let failed = false;
  const runLane = async (lane) => {
    for (const name of names.filter((step) => STEPS[step].lane === lane)) {
      const before = name === 'tools' ? [] : ['tools', ...(STEPS[name].after ?? [])];
      await Promise.all(before.map((step) => done[step]));
      if (!failed && !(await runStep(name, rows))) failed = true;
      finished.get(name)();
    }
  };
  await Promise.all([...new Set(names.map((name) => STEPS[name].lane))].map(runLane));
  return rows;
}

/** Runs one step and adds its row to the report. Returns whether it passed. */
async function runStep(name, rows) {
  const began = Date.now();
  const add = (state, note) => rows.push({ name, state, ms: Date.now() - began, note });
  try {
    const skipped = await STEPS[name].body();
    if (skipped && STRICT) throw new Failure(`skipped, which --strict does not allow: ${skipped}`);
    add(skipped ? 'skipped' : 'passed', skipped ?? '');
    return true;
  } catch (error) {
    const note = error instanceof Failure ? error.message : error.stack;
    add('FAILED', note.split('\n')[0]);
    console.error(note);
    process.exitCode = 1;
    return false;
  }
}

function report(rows, began) {
  const width = Math.max(...rows.map(({ name }) => name.length));
  console.log('');
  for (const { name, state, ms, note } of rows) {
    const columns = [name.padEnd(width), state.padEnd(7), seconds(ms).padStart(11), note];
    console.log(`  ${columns.join('  ')}`.trimEnd());
  }
  const count = (state) => rows.filter((row) => row.state === state).length;
  console.log(`  ${seconds(Date.now() - began)} in all, in lanes\n`);
  const skipped = count('skipped') ? `, ${count('skipped')} skipped` : '';
  console.log(`npm test: ${count('passed')} steps passed, ${count('FAILED')} failed${skipped}`);
}

/** Writes the times as Markdown: a row for each step, in the order in which the steps ended. */
function writeTimes(file, rows, began) {
  const head = ['| step | lane | time | state |', '|---|---|---|---|'];
  const lines = rows.map(
    ({ name, state, ms }) => `| ${name} | ${STEPS[name].lane} | ${seconds(ms)} | ${state} |`,
  );
  const total = `| in all | | ${seconds(Date.now() - began)} | |`;
  writeFileSync(file, [...head, ...lines, total, ''].join('\n'));
}

/** Returns the names of the steps that `--only` selects, by default all. */
function selectedSteps() {
  const groupsOf = (name) => STEPS[name].groups.split(' ');
  const args = process.argv.slice(2);
  if (!args.includes('--only')) return Object.keys(STEPS);
  const only = (args[args.indexOf('--only') + 1] ?? '').split(',');
  const groups = new Set(Object.keys(STEPS).flatMap(groupsOf));
  const unknown = only.find((group) => !groups.has(group));
  groups.delete('always');
  if (unknown !== undefined) {
    throw new Failure(
      `--only has the unknown group '${unknown}': expected ${[...groups].join(', ')}`,
    );
  }
  const isSelected = (group) => group === 'always' || only.includes(group);
  return Object.keys(STEPS).filter((name) => groupsOf(name).some(isSelected));
}

endChildrenOnSignal();
await main(async () => {
  const began = Date.now();
  const rows = await runSteps(selectedSteps());
  report(rows, began);
  const times = process.argv.indexOf('--times');
  if (times > 0) writeTimes(process.argv[times + 1], rows, began);
});
