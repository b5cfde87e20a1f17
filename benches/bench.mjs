// npm run bench: measures the cost of scoring, by phase and end to end, and the cost of peers that
// do the same work. `phases.mjs` measures in Wasm, `endtoend.mjs` in workerd, and `report.mjs`
// formats. Writes docs/benchmarks.json and docs/benchmarks.md. `--quick` takes fewer samples and
// writes nothing.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  buildBaseline,
  buildCommandLine,
  buildWasm,
  buildWorker,
  COMMAND_LINE,
} from '../scripts/lib/build.mjs';
import {
  endChildrenOnSignal,
  Failure,
  fromRoot,
  main,
  run,
  toolEnv,
  tryCapture,
} from '../scripts/lib/proc.mjs';
import { setup } from '../scripts/lib/setup.mjs';
import { body, literals, PROSE, ruleFiles, worstCases } from './bodies.mjs';
import { endtoend } from './endtoend.mjs';
import { COUNTS, inWasm, median, round } from './phases.mjs';
import { kib, markdown, terminalReport } from './report.mjs';

const QUICK = process.argv.includes('--quick');
/** Kinds of text that are measured in Wasm and in the native build. */
const TEXTS = ['english', 'code', 'everyday'];
const SIZES = [4 << 10, 64 << 10, 1 << 20];
const ROUNDS = QUICK ? 3 : 9;
const SAMPLE_MS = QUICK ? 10 : 40;
const DIR = fromRoot('build/bench');
const MODULE = 'build/wasm-with-peers';
const SCENARIO = 'scenarios/campaign-a.toml';

/** Measures everything, prints the report, checks the limits, and writes the results. */
async function bench() {
  await setup();
  // Restarts itself with the Node that wrangler uses.
  if (Number(process.versions.node.split('.')[0]) < 22) {
    return run(fromRoot('node_modules/.bin/node'), [
      fromRoot('benches/bench.mjs'),
      ...process.argv.slice(2),
    ]);
  }
  await buildWasm({ out: MODULE, features: ['peers'] });
  await buildWorker();
  await buildBaseline();
  await buildCommandLine();
  await writeInputs();
  const bundles = Object.fromEntries(
    [...COUNTS, 'shipped'].map((name) => [name, readFileSync(bundleFile(name), 'utf8')]),
  );
  const wasm = await inWasm({
    directory: MODULE,
    bundles,
    scratch: DIR,
    rounds: ROUNDS,
    sampleMs: SAMPLE_MS,
  });
  const native = measureNative(wasm.rows);
  const worst = withRatios(wasm.worst, native.worst);
  const sigma = measureRsigma(native.measured);
  const ends = (await endtoend(
    [4096, 65536].map((bytes) => [bytes, bodyFile('everyday', bytes)]),
    QUICK ? { rounds: 1, seconds: 1 } : { rounds: 5, seconds: 2 },
  )) ?? { rows: [], memory: null };
  const result = {
    rows: [
      ...wasm.rows,
      ...native.rows,
      ...wasm.scans,
      ...wasm.shipped,
      ...worst,
      ...sigma,
      ...ends.rows,
    ],
    memory: { ...ends.memory, wasm: wasmMemory() },
    reload: wasm.reload,
    indicators: wasm.indicators,
    flood: native.flood,
    online: await measureCorrelators(),
    replay: measureReplay(),
    simulate: measureSimulate(),
    wasm: sizes(),
    startup_ms: startup(),
    wasm_instantiate_ms: wasm.instantiateMs,
    about: { ...about(), rounds: ROUNDS, sample_ms: SAMPLE_MS },
  };
  console.log(terminalReport(result));
  checkLimits(result);
  if (QUICK) return;
  writeFileSync(fromRoot('docs/benchmarks.json'), `${JSON.stringify(result, null, 2)}\n`);
  writeFileSync(fromRoot('docs/benchmarks.md'), markdown(result));
  console.log('written: docs/benchmarks.json, docs/benchmarks.md');
}

/** Checks the limits. Prints each limit that is exceeded, and then fails the run. */
function checkLimits({ rows, indicators, flood }) {
  const totals = rows.filter(
    ({ phase, host, peer }) => phase === 'total' && host === 'wasm' && peer,
  );
  const sketch = ({ bytes, text }) =>
    rows.find(
      (row) =>
        row.phase === 'sketch' && row.host === 'wasm' && row.bytes === bytes && row.text === text,
    ).ours_us;
  const limits = [
    // Bodies larger than 4 KiB miss their target, as the report says. Their limit only detects
    // regressions.
    ...totals
      .filter(({ rules, bytes }) => rules && bytes >= 4096)
      .map((row) => ({ ...row, max: row.bytes === 4096 ? 0.25 : 0.6 }))
      .map(({ bytes, text, ratio, max }) => [
        ratio <= max,
        `total by the shipped rules, ${kib(bytes)} of ${text}: ratio ${ratio}, limit ${max}`,
      ]),
    ...totals
      .filter(
        (row) =>
          row.literals === 500 && row.bytes >= 4096 && ['english', 'code'].includes(row.text),
      )
      .map((row) => ({ ...row, us: row.ours_us + sketch(row) }))
      .map(({ bytes, text, us, peer_us }) => [
        us <= peer_us / 2,
        `total and sketch, ${kib(bytes)} of ${text}: ${round(us, 2)} µs, ` +
          `limit half of the peer's ${peer_us} µs`,
      ]),
    ...rows
      .filter(({ wasm_ratio }) => wasm_ratio)
      .map(({ text, wasm_ratio, native_ratio }) => [
        Math.max(wasm_ratio, native_ratio) <= 8,
        `${text}: ${wasm_ratio} × prose in Wasm, ${native_ratio} × natively, limit 8 ×`,
      ]),
    [
      Math.max(indicators.load_ms, indicators.cold_ms) <= 20,
      `loading ${indicators.count} indicators: ${indicators.load_ms} ms, ` +
        `${indicators.cold_ms} ms cold, limit 20 ms`,
    ],
    [
      flood.bytes <= flood.limit,
      `memory of the correlator: ${flood.bytes} bytes, limit ${flood.limit}`,
    ],
    [
      flood.found === flood.shared,
      `shared templates found in a flood: ${flood.found}, expected ${flood.shared}`,
    ],
  ];
  for (const [, message] of limits.filter(([holds]) => !holds)) {
    console.error(`limit exceeded: ${message}`);
    process.exitCode = 1;
  }
}

/**
 * Writes bodies and bundles to files, so that the native run measures the same bytes as the Wasm
 * run.
 */
async function writeInputs() {
  rmSync(DIR, { recursive: true, force: true });
  mkdirSync(DIR, { recursive: true });
  for (const text of TEXTS)
    for (const bytes of SIZES) writeFileSync(bodyFile(text, bytes), body(text, bytes));
  const build = (rules, name) =>
    run(COMMAND_LINE, ['build', rules, '-o', bundleFile(name)], {
      label: `hedgerow build: ${name} ${name > 0 ? 'literals' : 'rules'}`,
      quiet: true,
    });
  for (const count of COUNTS) {
    const rules = path.join(DIR, 'rules', String(count));
    for (const [file, text] of ruleFiles(literals(count))) {
      mkdirSync(path.dirname(path.join(rules, file)), { recursive: true });
      writeFileSync(path.join(rules, file), text);
    }
    if (existsSync(fromRoot('rules/policy.toml')))
      cpSync(fromRoot('rules/policy.toml'), path.join(rules, 'policy.toml'));
    await build(rules, count);
  }
  await build(fromRoot('rules'), 'shipped');
  const { window } = JSON.parse(readFileSync(bundleFile('shipped'), 'utf8')).policy.scan;
  const worst = Object.entries(worstCases(literals(500))).map(([text, bytes], i) => {
    writeFileSync(path.join(DIR, `worst.${i}`), bytes.subarray(0, window));
    return [text, `worst.${i}`];
  });
  writeFileSync(path.join(DIR, 'worst.json'), JSON.stringify(worst));
}

/**
 * Adds the native time to each row of an expensive body. Also adds the ratios of the Wasm time and
 * the native time to those of prose that fills the scan window.
 */
function withRatios(rows, native) {
  const nativeUs = (text) => native.find((row) => row.text === text).us;
  const prose = rows.find(({ text }) => text === PROSE);
  return rows.map((row) => ({
    ...row,
    native_us: round(nativeUs(row.text), 2),
    wasm_ratio: round(row.ours_us / prose.ours_us, 2),
    native_ratio: round(nativeUs(row.text) / nativeUs(PROSE), 2),
  }));
}

const bodyFile = (text, bytes) => path.join(DIR, `${text}-${bytes}.json`);
const bundleFile = (name) => path.join(DIR, name === 500 ? 'bundle.json' : `${name}.json`);

/**
 * Returns the Wasm memory of two bundles in bytes. Each is measured in its own process, because
 * Wasm memory never shrinks.
 */
function wasmMemory() {
  const measure = (name) =>
    JSON.parse(
      tryCapture(process.execPath, [
        fromRoot('benches/memory.mjs'),
        MODULE,
        bundleFile(name),
        bodyFile('everyday', 4096),
      ]),
    );
  return { shipped: measure('shipped'), 5000: measure(5000) };
}

/**
 * Measures the phases in the native build, on the files in HEDGEROW_BENCH_DIR. Pairs each time with
 * the peer's time from `rows`.
 */
function measureNative(rows) {
  console.log('▸ native');
  const output = tryCapture(
    'cargo',
    ['run', '--locked', '--release', '--quiet', '--package', 'hedgerow-bench-native'],
    {
      env: toolEnv({ HEDGEROW_BENCH_DIR: DIR }),
      stdio: ['ignore', 'pipe', 'inherit'],
      maxBuffer: 64 << 20,
    },
  );
  const lines = (output ?? '')
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
  const measured = lines.filter(({ phase }) => phase !== 'flood' && phase !== 'worst');
  const worst = lines.filter(({ phase }) => phase === 'worst');
  const flood = lines.find(({ phase }) => phase === 'flood');
  if (!flood) throw new Failure('hedgerow-bench-native printed no result for the flood');
  const natives = measured.map(({ phase, bytes, text, literals, us }) => {
    const peer_us =
      rows.find(
        (row) =>
          row.phase === phase &&
          row.bytes === bytes &&
          row.text === text &&
          row.literals === literals,
      )?.peer_us ?? null;
    return {
      phase,
      host: 'native',
      bytes,
      text,
      literals,
      ours_us: round(us, 2),
      peer: 'javascript',
      peer_us,
      ratio: peer_us && round(us / peer_us, 3),
    };
  });
  return { rows: natives, measured, worst, flood };
}

/**
 * Measures rsigma in a native build with the same signatures on the same texts. Throws if rsigma
 * and Hedgerow match different numbers of signatures.
 */
function measureRsigma(measured) {
  const output = tryCapture(
    'cargo',
    [
      'run',
      '--locked',
      '--release',
      '--quiet',
      '--manifest-path',
      fromRoot('benches/rsigma/Cargo.toml'),
    ],
    { env: toolEnv({ HEDGEROW_BENCH_DIR: DIR }), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (!output) throw new Failure('benches/rsigma printed no results');
  return output
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
    .map(({ text, bytes, hits, us }) => {
      const ours = measured.find(
        (row) => row.phase === 'match' && row.text === text && row.bytes === bytes,
      );
      if (ours.hits !== hits)
        throw new Failure(
          `rsigma finds ${hits} signatures in ${bytes} bytes of ${text}, Hedgerow ${ours.hits}`,
        );
      return {
        phase: 'match',
        host: 'native',
        bytes,
        text,
        literals: 500,
        ours_us: round(ours.us, 2),
        peer: 'rsigma-eval',
        peer_us: round(us, 2),
        ratio: round(ours.us / us, 4),
      };
    });
}

/**
 * Returns the cost and delay of correlation in the built Worker, as `tests/edge/correlate.spec.ts`
 * measures them.
 */
async function measureCorrelators() {
  const file = fromRoot('build/online.json');
  rmSync(file, { force: true });
  await run(
    fromRoot('node_modules/.bin/node'),
    [fromRoot('node_modules/vitest/vitest.mjs'), 'run', 'tests/edge/correlate.spec.ts'],
    { label: 'correlators in workerd', quiet: true },
  );
  return Object.values(JSON.parse(readFileSync(file, 'utf8')));
}

/** Measures the run time of the process `hedgerow simulate`, with and without correlations. */
function measureSimulate() {
  const secondsPerRequest = (...options) =>
    median(
      Array.from({ length: QUICK ? 1 : 5 }, () => {
        const began = performance.now();
        const output = tryCapture(
          COMMAND_LINE,
          ['--format', 'json', 'simulate', fromRoot(SCENARIO), '--scale', '0.004', ...options],
          { maxBuffer: 64 << 20 },
        );
        return (performance.now() - began) / 1000 / JSON.parse(output ?? '{}').requests;
      }),
    );
  return {
    scenario: SCENARIO,
    requests_per_s: Math.round(1 / secondsPerRequest()),
    uncorrelated_per_s: Math.round(1 / secondsPerRequest('--no-correlate')),
  };
}

/**
 * Measures the process `hedgerow replay`, including start-up and file input: it scores chats of
 * about 2 KiB by the shipped rules.
 */
function measureReplay() {
  const bodies = Array.from({ length: 100 }, (_, i) =>
    body(i % 4 === 3 ? 'code' : 'english', 2000 + i),
  );
  const headers = { 'content-type': 'application/json', 'user-agent': 'bench' };
  const line = (text) =>
    `${JSON.stringify({ method: 'POST', path: '/v1/chat/completions', headers, body: text })}\n`;
  const file = path.join(DIR, 'replay.ndjson');
  const repeats = QUICK ? 20 : 400;
  writeFileSync(
    file,
    bodies
      .map((bytes) => line(bytes.toString()))
      .join('')
      .repeat(repeats),
  );
  const seconds = median(
    Array.from({ length: QUICK ? 1 : 5 }, () => {
      const began = performance.now();
      const output = tryCapture(COMMAND_LINE, ['--format', 'json', 'replay', file], {
        maxBuffer: 64 << 20,
      });
      const { requests } = JSON.parse(output ?? '{}');
      if (requests !== bodies.length * repeats)
        throw new Failure(
          `hedgerow replay read ${requests} of ${bodies.length * repeats} requests`,
        );
      return (performance.now() - began) / 1000;
    }),
  );
  return {
    requests: bodies.length * repeats,
    body_bytes: 2048,
    requests_per_s: Math.round((bodies.length * repeats) / seconds),
  };
}

/** Returns the bytes of the built Worker's Wasm, raw and gzipped. */
function sizes() {
  const files = readdirSync(fromRoot('build'))
    .filter((file) => file.endsWith('.wasm'))
    .map((file) => readFileSync(fromRoot('build', file)));
  return {
    raw: files.reduce((sum, { length }) => sum + length, 0),
    gzip: files.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0),
  };
}

/**
 * Returns the CPU time of start-up in ms, which `wrangler check startup` measures in the local
 * workerd. Returns null if `wrangler` prints no such time.
 */
function startup() {
  const active = Array.from({ length: QUICK ? 1 : 5 }, () => {
    const output = tryCapture(
      'wrangler',
      ['check', 'startup', '--outfile', path.join(DIR, 'startup.cpuprofile')],
      { env: toolEnv({ CI: '1', NO_COLOR: '1' }) },
    );
    return Number(/Active: ([\d.]+) ms/.exec(output ?? '')?.[1] ?? NaN);
  }).filter(Number.isFinite);
  return active.length ? median(active) : null;
}

/** Returns the environment of a run: date, commit, machine and versions. */
function about() {
  const version = (name) =>
    JSON.parse(readFileSync(fromRoot('node_modules', name, 'package.json'), 'utf8')).version;
  const commit = tryCapture('git', ['rev-parse', '--short=12', 'HEAD']) ?? 'none';
  const inputs = ['src', 'rules', 'Cargo.lock'];
  const changes = tryCapture('git', ['status', '--porcelain', '--', ...inputs]);
  const gib = Math.round(totalmem() / 2 ** 30);
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: `${commit}${changes ? ' with changes' : ''}`,
    cpu: `${cpus()[0].model.trim()}, ${cpus().length} cores, ${gib} GiB`,
    node: process.versions.node,
    v8: process.versions.v8,
    workerd: version('workerd'),
    rustc: tryCapture('rustc', ['--version']),
  };
}

endChildrenOnSignal();
await main(bench);
